"""Mistakes that Vault, or what is between, answers in few words, or in words of others; and odd credential files.

The service itself names the same cause at run time: `test_agreement.py` compares.
"""
# ruff: noqa: D103 - the names say what the mistake is

import json
import os
import ssl
import time
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.core.integration.arrangements import JWT
from tests.extras.doctor.integration.mistakes.world import World, mistake
from tests.pki import private_pem_of
from tests.support import READ_POLICY, unique


def demand_mfa(world: World, mount: str) -> None:
    """Enforce a second factor on the logins of one mount."""
    client = world.vault.client
    totp = {"issuer": "shop", "period": 30, "key_size": 20, "algorithm": "SHA256", "digits": 6}
    method = client.adapter.post("/v1/identity/mfa/method/totp", json=totp)["data"]["method_id"]
    accessor = client.sys.list_auth_methods()["data"][f"{mount}/"]["accessor"]
    body = {"mfa_method_ids": [method], "auth_method_accessors": [accessor]}
    client.adapter.post(f"/v1/identity/mfa/login-enforcement/{unique('second-factor')}", json=body)


@mistake("login", "the login wants MFA (the login enforcement second-factor-", "leave this auth method out of")
def a_login_that_wants_a_second_factor(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("approle")
    demand_mfa(world, made.mount)
    return {**settings, "url": world.vault.url}


@mistake("login", "the login wants MFA", "`vault list identity/mfa/login-enforcement`")
def a_jwt_login_that_wants_a_second_factor(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("jwt")
    demand_mfa(world, made.mount)
    return settings


def answering(world: World, where: str, body: Any) -> dict[str, Any]:
    """Return settings for a Vault whose answer to one request is replaced."""
    text = json.dumps(body).encode()
    proxy = FaultyProxy(world.vault.url, lambda _, path: Fault(body=text) if path.startswith(f"/v1/{where}") else None)
    return {**world.good(), "url": world.stack.enter_context(proxy.running())}


AUTH = {"client_token": "canary", "lease_duration": 60, "renewable": True, "num_uses": 0}


@mistake("login", "the answer is malformed: num_uses", "what stands between this service and Vault")
def a_login_answer_with_malformed_uses(world: World) -> dict[str, Any]:
    return answering(world, "auth/approle/login", {"auth": {**AUTH, "num_uses": "x"}})


@mistake("login", "the answer is malformed: client_token", "what stands between this service and Vault")
def a_login_answer_with_a_token_that_no_header_takes(world: World) -> dict[str, Any]:
    return answering(world, "auth/approle/login", {"auth": {**AUTH, "client_token": "canary\n☃"}})


@mistake("login", "no token in it", "Check that VAULT_URL")
def a_login_answer_without_a_token(world: World) -> dict[str, Any]:
    return answering(world, "auth/approle/login", {"auth": {**AUTH, "client_token": ""}})


WRAPPED = {"data": None, "auth": None, "wrap_info": {"token": "canary", "ttl": 60}}


@mistake("login", "the answer is response-wrapped", "what adds X-Vault-Wrap-TTL")
def a_proxy_that_has_logins_wrapped(world: World) -> dict[str, Any]:
    return answering(world, "auth/approle/login", WRAPPED)


@mistake("secrets", "the answer is response-wrapped", "what adds X-Vault-Wrap-TTL")
def a_proxy_that_has_secrets_wrapped(world: World) -> dict[str, Any]:
    return answering(world, "secret/data/", WRAPPED)


@mistake("secrets", "although the token has the capability read: the policy sets a condition", "asks for no wrapped")
def a_policy_that_wants_wrapping(world: World) -> dict[str, Any]:
    return world.good(READ_POLICY.replace('["read"] }}', '["read"]\n min_wrapping_ttl = "1s"\n }}', 1))


@mistake("secrets", "response wrapping (min_wrapping_ttl, max_wrapping_ttl), or parameters", "Leave it out at path")
def a_policy_that_wants_parameters(world: World) -> dict[str, Any]:
    return world.good(READ_POLICY.replace('["read"] }}', '["read"]\n required_parameters = ["reason"]\n }}', 1))


def with_role(world: World, claims: dict[str, Any] | None = None, **role: Any) -> dict[str, Any]:
    """Return settings that log in with a JWT of these claims to a role with these options."""
    made, settings = world.logging_in("jwt")
    bound = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": [made.policy]}
    made.write(f"auth/{made.mount}/role/app", {**bound, **role})
    signed(made, **(claims or {}))
    return settings


def signed(made: JWT, **claims: Any) -> None:
    """Write a JWT that is good but for these claims."""
    now = int(time.time())
    good = {"sub": "app", "aud": "vault", "iat": now, "nbf": now, "exp": now + 600}
    made.file.write_text(jwt.encode({**good, **claims}, private_pem_of(made.key), "ES256"))


@mistake("login", "a claim of the JWT does not match the role: teamName", "with bound_claims of the role")
def a_jwt_without_a_bound_claim(world: World) -> dict[str, Any]:
    return with_role(world, bound_claims={"teamName": "shop"})


@mistake("login", "a claim of the JWT does not match the role: issuer_expired", "with bound_claims of the role")
def a_jwt_with_another_value_in_a_bound_claim(world: World) -> dict[str, Any]:
    return with_role(world, {"issuer_expired": "canary"}, bound_claims={"issuer_expired": "shop"})


@mistake("login", "the JWT is of another subject", "with bound_subject of the role")
def a_jwt_of_another_subject(world: World) -> dict[str, Any]:
    return with_role(world, bound_subject="somebody")


@mistake("login", "the role does not say for whom", "Set bound_audiences of the role")
def a_role_without_audiences(world: World) -> dict[str, Any]:
    return with_role(world, bound_audiences=[], bound_subject="app")


@mistake("login", "a claim of the JWT is not what the role needs: email", "with user_claim of the role")
def a_jwt_without_the_user(world: World) -> dict[str, Any]:
    return with_role(world, user_claim="email")


@mistake("login", "a claim of the JWT is not what the role needs: groups", "with groups_claim of the role")
def a_jwt_without_the_groups(world: World) -> dict[str, Any]:
    return with_role(world, groups_claim="groups")


@mistake("login", "the JWT is not valid yet: it was issued in the future", "Check the clocks")
def a_jwt_of_the_future(world: World) -> dict[str, Any]:
    later = int(time.time()) + 3600
    return with_role(world, {"iat": later, "exp": later + 600})


@mistake("login", "the JWT comes from another issuer", "with bound_issuer of the auth method")
def a_jwt_of_another_issuer(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("jwt")
    config = world.vault.client.read(f"auth/{made.mount}/config")["data"]
    keys = config["jwt_validation_pubkeys"]
    made.write(f"auth/{made.mount}/config", {"jwt_validation_pubkeys": keys, "bound_issuer": "https://id.example.com"})
    signed(made, iss="https://canary.example.com")
    return settings


@mistake("login", "the role is not for this machine's address (token_bound_cidrs)", "Check token_bound_cidrs")
def a_jwt_role_for_other_machines(world: World) -> dict[str, Any]:
    return with_role(world, token_bound_cidrs=["10.0.0.0/8"])


@mistake("login", "the role is for people", "Set role_type=jwt")
def a_role_for_browsers(world: World) -> dict[str, Any]:
    return with_role(world, role_type="oidc", allowed_redirect_uris=["http://localhost/callback"])


@mistake("login", "the auth method is not configured", "vault write auth/unready-")
def an_auth_method_that_nobody_has_configured(world: World) -> dict[str, Any]:
    mount = unique("unready")
    world.vault.client.sys.enable_auth_method("jwt", path=mount)
    return {**with_role(world), "auth_mount_point": mount}


def asking(world: World, status: int, body: bytes) -> dict[str, Any]:
    """Return settings for a Kubernetes login of which the cluster says this."""
    made, settings = world.logging_in("kubernetes")
    made.cluster.fault = status, body
    return settings


@mistake("login", "or Vault could not ask the cluster (its TokenReview is down or forbidden)", "auth/kubernetes-")
def a_cluster_that_is_down(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("kubernetes")
    made.cluster.fault = 0, b""  # so that nobody waits for the stub
    where = {"kubernetes_host": "https://127.0.0.1:9", "kubernetes_ca_cert": world.authority.file.read_text()}
    made.write(f"auth/{made.mount}/config", {**where, "disable_local_ca_jwt": True})
    return settings


@mistake("login", "or Vault could not ask the cluster (its TokenReview is down or forbidden)", "system:auth-delegator")
def a_reviewer_that_may_not_review(world: World) -> dict[str, Any]:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403}
    message = 'tokenreviews.authentication.k8s.io is forbidden: User "canary" cannot create resource "tokenreviews"'
    return asking(world, 403, json.dumps({**status, "message": message}).encode())


@mistake("login", "or Vault could not ask the cluster (its TokenReview is down or forbidden)", "Vault's log says which")
def a_cluster_that_is_broken(world: World) -> dict[str, Any]:
    return asking(world, 500, b"<html>canary")


@mistake("login", "the JWT has expired", "Put a new one into VAULT_JWT_FILE=")
def a_service_account_token_that_has_expired(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("kubernetes")
    claims = jwt.decode(made.file.read_text(), options={"verify_signature": False})
    key = private_pem_of(ec.generate_private_key(ec.SECP256R1()))
    made.file.write_text(jwt.encode({**claims, "exp": int(time.time()) - 600}, key, "ES256"))
    return settings


@mistake("login", "does not hold a bare credential: it is not a JWT", "Put the bare credential there")
def a_service_account_token_that_is_none(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("kubernetes")
    made.file.write_text("canary")
    return settings


def with_sink(world: World, content: str | bytes) -> dict[str, Any]:
    """Return settings with a token file of this content, in which TOKEN stands for a good token."""
    settings = world.with_token()
    raw = content if isinstance(content, bytes) else content.encode()
    (world.directory / "sink").write_bytes(raw.replace(b"TOKEN", settings["token"].encode()))
    (world.directory / "sink").chmod(0o600)
    return {**settings, "token": "", "token_file": "sink"}


@mistake("login", "VAULT_TOKEN_FILE=sink: Vault does not accept the token: there are quotes", "Put the bare credential")
def a_token_in_quotes(world: World) -> dict[str, Any]:
    return with_sink(world, '"TOKEN"\n')


@mistake("login", "VAULT_TOKEN_FILE=sink: Vault does not accept the token: it is JSON", "Put the bare credential there")
def a_sink_file_in_json(world: World) -> dict[str, Any]:
    return with_sink(world, '{"token": "TOKEN", "ttl": 60}')


@mistake("login", "the name of a variable stands before it", "Put the bare credential there")
def a_token_file_that_is_a_script(world: World) -> dict[str, Any]:
    return with_sink(world, "export VAULT_TOKEN=TOKEN\r\n")


@mistake("login", "it begins with a byte order mark (BOM)", "Put the bare credential there")
def a_token_file_with_a_byte_order_mark(world: World) -> dict[str, Any]:
    return with_sink(world, b"\xef\xbb\xbfTOKEN\r\n")


@mistake("login", "not one line of ASCII text, but it has 2 lines", "Put the bare credential there")
def a_token_file_of_two_lines(world: World) -> dict[str, Any]:
    return with_sink(world, "TOKEN\r\nTOKEN\r\n")


@mistake("login", "not one line of ASCII text, but it is binary", "Put the bare credential there")
def a_token_file_that_is_binary(world: World) -> dict[str, Any]:
    return with_sink(world, b"\x00\xff\x00\x01")


@mistake("login", "VAULT_SECRET_ID_FILE=file does not hold a bare credential: there are quotes", "Put the bare")
def a_secret_id_in_quotes(world: World) -> dict[str, Any]:
    settings = world.good()
    world.file(f"'{settings['secret_id']}'").chmod(0o600)
    return {**settings, "secret_id": "", "secret_id_file": "file"}


@mistake("login", "does not hold a bare credential: there are quotes around it", "Put the bare credential there")
def a_jwt_in_quotes(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("jwt")
    made.file.write_text(f'"{made.file.read_text().strip()}"')
    return settings


@mistake("login", "VAULT_TOKEN_FILE=pipe: the credential file cannot be read: it is a FIFO", "Check the path")
def a_token_file_that_is_a_fifo(world: World) -> dict[str, Any]:
    os.mkfifo(world.directory / "pipe", 0o600)
    return {**world.with_token(), "token": "", "token_file": "pipe"}


@mistake("TLS", "VAULT_CACERT=pipe: cannot be loaded (it is a FIFO, not a regular file)", "Set VAULT_CACERT to PEM")
def a_ca_file_that_is_a_fifo(world: World) -> dict[str, Any]:
    os.mkfifo(world.directory / "pipe", 0o600)
    return world.over_tls(cacert="pipe")


@mistake("TLS", "(Missing Authority Key Identifier): Python 3.13 and newer are stricter", "must be issued again")
def a_certificate_for_older_pythons(world: World) -> dict[str, Any]:
    made = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        context = made(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
        return context

    patch = world.stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(ssl, "create_default_context", strict)
    proxy = FaultyProxy(world.vault.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*world.authority.issue("older", without=(x509.AuthorityKeyIdentifier,)))
    proxy.socket = context.wrap_socket(proxy.socket, server_side=True, do_handshake_on_connect=False)
    return world.over_tls(url=world.stack.enter_context(proxy.running()).replace("http:", "https:"))
