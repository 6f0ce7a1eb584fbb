"""For each auth method: what an operator prepares in Vault, and how its credential is rotated or wrong."""

import json
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hvac
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.pki import Authority, private_pem_of, public_pem_of
from tests.support import READ_POLICY, unique


class Arrangement:
    """An auth method, ready to be used, mounted at `mount` in the namespace of `client`."""

    method: str
    wrong_role: dict[str, Any]  # settings that name a role which is not there

    def __init__(self, client: hvac.Client, directory: Path, path: str, authority: Authority) -> None:
        self.client = client
        self.directory = directory
        self.authority = authority
        self.mount = unique(self.method)
        self.policy = unique("policy")
        client.sys.create_or_update_policy(self.policy, READ_POLICY.format(path=path))
        if self.method != "token":
            client.sys.enable_auth_method(self.method, path=self.mount)
        self.settings: dict[str, Any] = {"auth_method": self.method}
        if self.method != "token":
            self.settings["auth_mount_point"] = self.mount
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Configure the method in Vault and write the first credential."""

    @abstractmethod
    def rotate(self) -> None:
        """Put a new credential in place of the old one, which is no longer good."""

    @abstractmethod
    def spoil(self) -> None:
        """Put a wrong credential in place."""

    def write(self, path: str, body: dict[str, Any]) -> Any:
        """Write to Vault."""
        return self.client.adapter.post(f"/v1/{path}", json=body)


class Token(Arrangement):
    """A token in a sink file."""

    method = "token"

    def prepare(self) -> None:
        self.file = self.directory / "sink"
        self.settings["token_file"] = self.file
        self.rotate()

    def rotate(self) -> None:
        if self.file.exists():
            self.client.auth.token.revoke(self.file.read_text().strip())
        created = self.client.auth.token.create(policies=[self.policy], no_default_policy=True, ttl="1h")
        self.file.write_text(f"\n{created['auth']['client_token']} \n")

    def spoil(self) -> None:
        self.file.write_text("s.canary")


class AppRole(Arrangement):
    """A role id and a secret id, both in files."""

    method = "approle"

    def prepare(self) -> None:
        role = self.role = f"auth/{self.mount}/role/app"
        self.write(role, {"token_policies": [self.policy], "token_no_default_policy": True, "token_ttl": "20m"})
        self.file = self.directory / "secret-id"
        (self.directory / "role-id").write_text(self.client.read(f"{role}/role-id")["data"]["role_id"] + "\n")
        self.settings |= {"role_id_file": self.directory / "role-id", "secret_id_file": self.file}
        self.wrong_role = {"role_id_file": None, "role_id": "canary"}
        self.rotate()

    def rotate(self) -> None:
        if self.file.exists():
            self.write(f"{self.role}/secret-id/destroy", {"secret_id": self.file.read_text().strip()})
        self.file.write_text(self.write(f"{self.role}/secret-id", {})["data"]["secret_id"] + "\n")

    def spoil(self) -> None:
        self.file.write_text("canary")


class Cert(Arrangement):
    """A client certificate, trusted by its authority and its name."""

    method = "cert"

    def prepare(self) -> None:
        self._names = iter(f"app-{n}" for n in range(100))
        self.files = self.directory / "client.pem", self.directory / "client-key.pem"
        self.settings |= {"client_cert": self.files[0], "client_key": self.files[1], "role": "app"}
        self.wrong_role = {"role": "canary"}
        self.rotate()

    def rotate(self) -> None:
        self._put(name := next(self._names))
        body = {"certificate": self.authority.file.read_text(), "allowed_common_names": [name]}
        options = {"token_policies": [self.policy], "token_no_default_policy": True, "token_ttl": "20m"}
        self.write(f"auth/{self.mount}/certs/app", body | options)

    def spoil(self) -> None:
        self._put("canary")

    def _put(self, name: str) -> None:
        for made, file in zip(self.authority.issue(name), self.files, strict=True):
            file.write_bytes(made.read_bytes())


class JWT(Arrangement):
    """A signed JWT in a file; Vault knows the public key."""

    method = "jwt"

    def prepare(self) -> None:
        self.file = self.directory / "jwt"
        role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"]}
        options = {"token_policies": [self.policy], "token_no_default_policy": True, "token_ttl": "20m"}
        self.rotate()
        self.write(f"auth/{self.mount}/role/app", role | options)
        self.settings |= {"role": "app", "jwt_file": self.file}
        self.wrong_role = {"role": "canary"}

    def rotate(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.write(f"auth/{self.mount}/config", {"jwt_validation_pubkeys": [public_pem_of(self.key)]})
        self._sign(audience="vault")

    def spoil(self) -> None:
        self._sign(audience="canary")

    def _sign(self, audience: str) -> None:
        now = int(time.time())
        claims = {"sub": "app", "aud": audience, "iat": now, "nbf": now, "exp": now + 600}
        self.file.write_text(jwt.encode(claims, private_pem_of(self.key), "ES256") + "\n")


class Kubernetes(Arrangement):
    """A service account's token in a file; Vault asks the (stubbed) cluster whether it is good."""

    method = "kubernetes"

    def prepare(self) -> None:
        self.file = self.directory / "service-account-token"
        self.cluster = Cluster()
        config = {"kubernetes_host": self.cluster.url, "kubernetes_ca_cert": self.authority.file.read_text()}
        self.write(f"auth/{self.mount}/config", {**config, "disable_local_ca_jwt": True})
        bound = {"bound_service_account_names": ["app"], "bound_service_account_namespaces": ["shop"]}
        options = {"token_policies": [self.policy], "token_no_default_policy": True, "token_ttl": "20m"}
        self.write(f"auth/{self.mount}/role/app", bound | options)
        self.settings |= {"role": "app", "jwt_file": self.file}
        self.wrong_role = {"role": "canary"}
        self.rotate()

    def rotate(self) -> None:
        self.spoil()
        self.cluster.good_token = self.file.read_text()

    def spoil(self) -> None:
        now = int(time.time())
        claims = {"sub": "system:serviceaccount:shop:app", "iat": now, "nbf": now, "exp": now + 600, "jti": unique("x")}
        details = {"namespace": "shop", "serviceaccount": {"name": "app", "uid": "uid-of-app"}}
        key = private_pem_of(ec.generate_private_key(ec.SECP256R1()))
        self.file.write_text(jwt.encode({**claims, "kubernetes.io": details}, key, "ES256"))


class Userpass(Arrangement):
    """A user, with the password in a file."""

    method = "userpass"

    def prepare(self) -> None:
        self.file = self.directory / "password"
        self.settings |= {"username": "app.one-shop", "password_file": self.file}
        self.wrong_role = {"username": "canary"}
        self.rotate()

    def rotate(self) -> None:
        password = unique('pässword with "blanks" and 100%')
        options = {"token_policies": [self.policy], "token_no_default_policy": True, "token_ttl": "20m"}
        self.write(f"auth/{self.mount}/users/app.one-shop", {"password": password, **options})
        self.file.write_text(password + "\n", "utf-8")

    def spoil(self) -> None:
        self.file.write_text("canary")


class Cluster:
    """The one endpoint of a Kubernetes API server that Vault asks: the TokenReview."""

    def __init__(self, namespace: str = "shop") -> None:
        self.good_token = ""
        self.account = "app"  # whose token that is
        self.audiences: list[str] = []  # for which the last review asked
        self.fault: tuple[int, bytes] | None = None  # what it answers instead of a review
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                good = review["spec"]["token"] == cluster.good_token
                cluster.audiences = review["spec"].get("audiences", [])
                name = f"system:serviceaccount:{namespace}:{cluster.account}"
                user = {"username": name, "uid": f"uid-of-{cluster.account}", "groups": []}
                status = {"authenticated": True, "user": user, "audiences": cluster.audiences}
                review["status"] = status if good else {"authenticated": False}
                code, body = cluster.fault or (201, json.dumps(review).encode())
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


ARRANGEMENTS = {each.method: each for each in (Token, AppRole, Cert, Kubernetes, JWT, Userpass)}


@contextmanager
def arranged(
    method: str, client: hvac.Client, directory: Path, path: str, authority: Authority
) -> Iterator[Arrangement]:
    """Prepare an auth method, and stop what it needs at the end."""
    arrangement = ARRANGEMENTS[method](client, directory, path, authority)
    try:
        yield arrangement
    finally:
        if isinstance(arrangement, Kubernetes):
            arrangement.cluster.stop()
