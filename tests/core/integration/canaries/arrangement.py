"""A Vault of its own full of canaries, and the variables of a service that uses all of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hvac
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from infrastructure.faulty_proxy import FaultyProxy
from infrastructure.processes import until
from infrastructure.raft import Cluster
from tests.core.integration.canaries.search import ODD, Canaries
from tests.extras.conjur.standin import StandIn  # extra: conjur
from tests.extras.conjur.support import Conjur  # extra: conjur
from tests.pki import private_pem_of, public_pem_of
from tests.support import in_thread

POLICY = """
path "secret/data/*" { capabilities = ["create", "read", "update", "patch", "delete"] }
path "secret/metadata/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "auth/token/+" { capabilities = ["read", "update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"""


class Arrangement:
    """A server whose data lasts, a proxy in front of it that can misbehave, and what is planted in both."""

    def __init__(self, directory: Path, cluster: Cluster, proxy: FaultyProxy) -> None:
        self.directory = directory
        self.partner = ""
        self.cluster = cluster
        self.proxy = proxy
        self.root = cluster.client()
        self.canaries = Canaries()
        self.files = directory / "credentials"
        self.files.mkdir(mode=0o700)

    def prepare(self) -> None:
        """Enable what is needed, and plant the first values."""
        self.root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
        until(self._can_write, "the KV engine")
        self.allow()
        self.root.sys.enable_auth_method("approle")
        self.root.sys.enable_auth_method("jwt")
        own = {"token_policies": ["app"], "token_no_default_policy": True, "token_ttl": "20m"}
        self.root.auth.approle.create_or_update_approle("app", **own)
        self._key = ec.generate_private_key(ec.SECP256R1())
        keys = [public_pem_of(self._key)]
        self.root.adapter.post("/v1/auth/jwt/config", json={"jwt_validation_pubkeys": keys})
        role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], **own}
        self.root.adapter.post("/v1/auth/jwt/role/app", json=role)
        self.secrets()

    # extra: conjur
    def use_conjur(self, conjur: StandIn, proxy: FaultyProxy) -> None:
        """Plant a value in Conjur, too."""
        self.conjur = Conjur(conjur.url, conjur.account, "admin", conjur.admin_api_key, conjur)
        self.conjur_proxy = proxy
        self.in_conjur = self.conjur.variable(self.canaries.plant("of Conjur", ODD))

    def variables_for_conjur(self) -> dict[str, str]:
        """Return the variables of a service that reads it."""
        login = self.conjur.host({self.in_conjur: ["read", "execute"]})
        self.canaries.watch("Conjur's API key", login[1])
        return {
            **self.conjur.environment(login),
            "CONJUR_APPLIANCE_URL": self.conjur_proxy.url,
            "CONJUR_VARIABLES": f"from_conjur={self.in_conjur}",
        }

    # /extra

    def _can_write(self) -> bool:
        try:
            self.write("payments", {"stripe": {"key": self.canaries.plant("referred, nested")}})
        except hvac.exceptions.VaultError:  # it is being set up
            return False
        self.write("shop", {"user": "shop", "password": self.canaries.plant("referred, in a URL", ODD)})
        self.write("partner", {"key": self.canaries.plant("referred, of another Vault", ODD)})
        self.write("provider", {"key": self.canaries.plant("referred, of a third Vault")})
        return True

    def write(self, path: str, values: dict[str, Any]) -> None:
        """Write a secret."""
        self.root.secrets.kv.v2.create_or_update_secret(path, values)

    def secrets(self, **changes: Any) -> dict[str, Any]:
        """Write a new version of the service's own secret, and return it."""
        plant = self.canaries.plant
        makers: dict[str, Callable[[], Any]] = {
            "database_url": lambda: f"postgresql://app:{plant('database password')}@db.example.com/app",
            "api_key": lambda: plant("api_key", "\"\\'%+"),
            "jwt_secret": lambda: plant("jwt_secret", ODD),
            "partner_key": lambda: plant("partner_key", "\"\\'%+"),
            "account": lambda: {
                "type": "service",
                "pem": [f"-----BEGIN KEY-----\n{plant('nested', ODD)}\n-----END KEY-----\n"],
            },
            "text": lambda: f'{{"inner": {{"password": "{plant("nested in text")}"}}}}',
        }
        values = {**{name: make() for name, make in makers.items() if name not in changes}, **changes}
        self.write("app", values)
        return values

    def allow(self, policy: str = POLICY) -> None:
        """Say what the service may do."""
        self.root.sys.create_or_update_policy("app", policy)

    def variables(self, log_format: str) -> dict[str, str]:
        """Return the variables of a service that has a credential of every kind; each call makes new ones."""
        plant, watch, approle = self.canaries.plant, self.canaries.watch, self.root.auth.approle
        role_id = approle.read_role_id("app")["data"]["role_id"]
        wrapped = approle.generate_secret_id("app", wrap_ttl="10m")["wrap_info"]["token"]
        token = self.root.auth.token.create(policies=["app"], no_default_policy=True, ttl="1h")["auth"]["client_token"]
        now = int(time.time())
        claims = {"sub": "app", "aud": "vault", "iat": now, "nbf": now, "exp": now + 600}
        identity = jwt.encode(claims, private_pem_of(self._key), "ES256")
        for name, value in {"role id": role_id, "wrapping token": wrapped, "token": token, "JWT": identity}.items():
            watch(name, value)
        (self.files / "wrapped").write_text(wrapped + "\n")  # readable by others: the service warns of it
        (self.files / "jwt").write_text(identity)
        return {
            **self.variables_for_conjur(),  # extra: conjur
            "VAULT_ENABLED": "true",
            "VAULT_URL": self.proxy.url,
            "VAULT_TOKEN": plant("VAULT_TOKEN, not used"),
            "VAULT_AUTH_METHOD": "approle",
            "VAULT_ROLE_ID": role_id,
            "VAULT_SECRET_ID_FILE": str(self.files / "wrapped"),
            "VAULT_SECRET_ID_WRAPPED": "true",
            "VAULT_SECRET_PATH": "app",
            "VAULT_TIMEOUT": "0.5",
            "VAULT_REFRESH_INTERVAL": "60",
            "VAULT_ACCESS_MODE": "read_and_write",
            "VAULTS__PARTNER__URL": self.proxy.url,
            "VAULTS__PARTNER__TOKEN": token,
            "VAULTS__PARTNER__TIMEOUT": "0.5",
            "VAULTS__PROVIDER__URL": self.proxy.url,
            "VAULTS__PROVIDER__AUTH_METHOD": "jwt",
            "VAULTS__PROVIDER__ROLE": "app",
            "VAULTS__PROVIDER__TIMEOUT": "0.5",
            "VAULTS__PROVIDER__JWT_FILE": str(self.files / "jwt"),
            "SECRET_OVERRIDE": plant("SECRET_ override"),
            "SECRET_STRIPE": "{vault://vault/payments/stripe.key}",
            "SECRET_SHOP": "mysql://{vault://vault/shop/user}:{vault://vault/shop/password}@shop/x",
            "SECRET_PARTNER": "{vault://partner/partner/key}",
            "SECRET_PROVIDER": "{vault://provider/provider/key}",
            "CARELESS_PARTNER": self.partner,
            "LOG_LEVEL": "DEBUG",
            "LOG_FORMAT": log_format,
            "PYTHONDEVMODE": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONWARNINGS": "default",
        }

    def watch_what_was_sent(self) -> None:
        """Look out for all that the service sent to Vault: tokens it has obtained, the secret id it has unwrapped."""
        for headers in self.proxy.headers:
            if token := headers.get("X-Vault-Token"):
                self.canaries.watch("token in use", token)
        for body in self.proxy.bodies:
            if b'"secret_id"' in body:
                self.canaries.watch("unwrapped secret id", body.decode().split('"secret_id"')[1].split('"')[1])
        # extra: conjur
        for headers in self.conjur_proxy.headers:
            if token := headers.get("Authorization"):
                self.canaries.watch("Conjur's token", token.split('"')[1])
        # /extra


class _Echo(BaseHTTPRequestHandler):
    """A partner that sends back the key that it was sent."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("Set-Cookie", f"key={self.headers['X-API-Key']}")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _partner() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    with in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def arranged(directory: Path) -> Iterator[Arrangement]:
    """Start everything, and stop it at the end."""
    (directory / "vault").mkdir(parents=True)
    cluster = Cluster(directory / "vault")
    try:
        with ExitStack() as stack:
            proxy = FaultyProxy(cluster.nodes[0].url)
            stack.enter_context(proxy.running())
            arrangement = Arrangement(directory, cluster, proxy)
            arrangement.partner = stack.enter_context(_partner())
            arrangement.prepare()
            # extra: conjur
            conjur = stack.enter_context(StandIn())
            stack.enter_context((proxy := FaultyProxy(conjur.url)).running())
            arrangement.use_conjur(conjur, proxy)
            # /extra
            yield arrangement
    finally:
        cluster.stop()
