"""Mistakes in the credentials, the roles and the auth methods."""
# ruff: noqa: D103 - the names say what the mistake is

import time
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.auto_auth import auto_auth
from tests.core.integration.arrangements import JWT
from tests.extras.doctor.integration.mistakes.world import World, mistake
from tests.pki import private_pem_of
from tests.support import SECRETS, Vault, enable_kv, free_port, unique, until


@mistake("login", "nothing is mounted there", "Check VAULT_AUTH_MOUNT_POINT (`vault auth list`)")
def a_wrong_auth_mount(world: World) -> dict[str, Any]:
    return {**world.good(), "auth_mount_point": "nowhere"}


@mistake("login", "there is no such namespace", "Check VAULT_NAMESPACE and VAULT_LOGIN_NAMESPACE")
def a_namespace_that_does_not_exist(world: World) -> dict[str, Any]:
    return {**world.good(), "namespace": "nowhere"}


@mistake("login", "the role id is wrong", "Check VAULT_ROLE_ID (`vault read auth/approle/role/ROLE/role-id`)")
def a_namespace_that_is_not_set(world: World) -> dict[str, Any]:
    return in_namespace(world)[0]


@mistake("mount point", "nothing is mounted there that the token may use", "none), VAULT_NAMESPACE, and what")
def a_namespace_beside_that_of_the_login(world: World) -> dict[str, Any]:
    settings, namespace = in_namespace(world)
    return {**settings, "login_namespace": namespace, "namespace": in_namespace(world)[1]}


@mistake("login", "the role id is wrong", "Check VAULT_ROLE_ID (`vault read auth/approle/role/ROLE/role-id`)")
def a_wrong_role_id(world: World) -> dict[str, Any]:
    return {**world.good(), "role_id": "canary"}


@mistake(
    "login", "the secret id is wrong, expired or used up; the role id is right", "Put a new one into VAULT_SECRET_ID: `"
)
def a_wrong_secret_id(world: World) -> dict[str, Any]:
    return {**world.good(), "secret_id": "canary"}


@mistake("login", "the secret id is wrong, expired or used up", "into VAULT_SECRET_ID_FILE=secret-id: `vault write -f")
def a_secret_id_that_is_used_up(world: World) -> dict[str, Any]:
    settings, made = with_secret_id(world, num_uses=1)
    world.vault.client.auth.approle.login(settings["role_id"], made, use_token=False)
    world.file(made, "secret-id")
    return {**settings, "secret_id": "", "secret_id_file": "secret-id"}


@mistake("login", "it may not be used from this machine's address", "Put one into VAULT_SECRET_ID whose cidr_list")
def a_secret_id_for_other_machines(world: World) -> dict[str, Any]:
    settings, made = with_secret_id(world, cidr_list=["10.0.0.0/8"])
    return {**settings, "secret_id": made}


@mistake("login", "does not accept the token that it has just given", "Check token_bound_cidrs")
def tokens_for_other_machines(world: World) -> dict[str, Any]:
    return world.good(token_bound_cidrs=["10.0.0.0/8"])


@mistake("login", "the role wants a secret id, and there is none", "Set VAULT_SECRET_ID")
def a_secret_id_that_is_not_set(world: World) -> dict[str, Any]:
    return {**world.good(), "secret_id": ""}


@mistake("login", "VAULT_ROLE_ID_FILE=nowhere: the credential file cannot be read", "Check the path and its owner")
def a_credential_file_that_is_missing(world: World) -> dict[str, Any]:
    return {**world.good(), "role_id_file": "nowhere"}


@mistake("login", "VAULT_TOKEN_FILE=sink: the credential is empty", "Check what should fill it")
def an_empty_token_file(world: World) -> dict[str, Any]:
    world.file("\n", "sink")
    return {**world.with_token(), "token_file": "sink"}


@mistake("login", "VAULT_TOKEN: Vault does not accept the token", "Provide a new one: `vault token create`")
def a_token_that_was_revoked(world: World) -> dict[str, Any]:
    settings = world.with_token()
    world.vault.client.auth.token.revoke(settings["token"])
    return settings


@mistake("login", "VAULT_TOKEN: Vault does not accept the token", "Provide a new one: `vault token create`")
def a_token_that_has_expired(world: World) -> dict[str, Any]:
    settings = world.with_token(ttl="1s")
    until(lambda: not is_known(world.vault, settings["token"]), "the token to expire")
    return settings


@mistake("login", "VAULT_SECRET_ID: it is no wrapping token", "Unset VAULT_SECRET_ID_WRAPPED")
def a_secret_id_that_is_not_wrapped(world: World) -> dict[str, Any]:
    """Nobody has read it on the way: there was nothing to unwrap."""
    return {**world.good(), "secret_id_wrapped": "true"}


@mistake("login", "the wrapping token in VAULT_SECRET_ID: Vault does not know it", "destroy it in Vault, and deliver")
def a_wrapped_secret_id_that_was_used(world: World) -> dict[str, Any]:
    settings, wrapped = with_secret_id(world, wrap_ttl="60s")
    world.vault.client.adapter.post("/v1/sys/wrapping/unwrap", json={"token": wrapped})
    return {**settings, "secret_id": wrapped, "secret_id_wrapped": "true"}


@mistake("login", "it was not made by auth/approle/role/…/secret-id", "Somebody else may have read the secret id")
def a_wrapping_token_of_somebody_else(world: World) -> dict[str, Any]:
    wrapped = world.vault.client.sys.wrap({"secret_id": "canary"}, ttl=60)["wrap_info"]["token"]
    world.canaries.append(wrapped)
    return {**world.good(), "secret_id": wrapped, "secret_id_wrapped": "true"}


@mistake("login", "there is no such role", "Check VAULT_ROLE")
def a_role_that_does_not_exist(world: World) -> dict[str, Any]:
    return {**world.logging_in("jwt")[1], "role": "canary"}


@mistake("login", "no role was named, and the mount has no default_role", "Set VAULT_ROLE")
def a_jwt_without_a_role(world: World) -> dict[str, Any]:
    return {**world.logging_in("jwt")[1], "role": ""}


@mistake("login", "the user name or the password is wrong", "Check VAULT_USERNAME and VAULT_PASSWORD")
def a_wrong_password(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("userpass")
    made.spoil()
    return settings


@mistake("login", "the user name or the password is wrong", "Check VAULT_USERNAME and VAULT_PASSWORD")
def a_user_who_does_not_exist(world: World) -> dict[str, Any]:
    return {**world.logging_in("userpass")[1], "username": "nobody"}


@mistake("login", "the user is locked out after too many wrong passwords", "Wait (15 minutes, unless configured")
def a_user_who_is_locked_out(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("userpass")
    for _ in range(5):
        with pytest.raises(hvac.exceptions.InvalidRequest):
            made.write(f"auth/{made.mount}/login/{settings['username']}", {"password": "canary"})
    return settings


@mistake("login", "nothing is mounted there", "Check VAULT_AUTH_MOUNT_POINT (`vault auth list`)")
def a_wrong_mount_of_users(world: World) -> dict[str, Any]:
    return {**world.logging_in("userpass")[1], "auth_mount_point": "nowhere"}


@mistake("login", "no token comes with the requests, or Vault does not accept it", "Set VAULT_URL to an Agent or Proxy")
def no_token_and_no_proxy_that_adds_one(world: World) -> dict[str, Any]:
    return {"enabled": "true", "url": world.vault.url, "auth_method": "none", "secret_path": world.path}


@mistake("login", "no token comes with the requests, or Vault does not accept it", "Set VAULT_URL to an Agent or Proxy")
def a_proxy_that_adds_no_token(world: World) -> dict[str, Any]:
    proxy = world.stack.enter_context(auto_auth(world.vault, world.directory, world.path, adds=""))
    return {"enabled": "true", "url": proxy.address, "auth_method": "none", "secret_path": world.path}


@mistake("login", "the JWT is meant for another audience", "jwt with bound_audiences of the role")
def a_jwt_for_somebody_else(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("jwt")
    made.spoil()
    return settings


@mistake("login", "the JWT has expired", "Put a new one into VAULT_JWT_FILE=")
def a_jwt_that_has_expired(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("jwt")
    sign(made, exp=int(time.time()) - 600)
    return settings


@mistake("login", "the JWT is not valid yet", "Check the clocks")
def a_jwt_of_a_machine_whose_clock_is_ahead(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("jwt")
    sign(made, nbf=int(time.time()) + 900, exp=int(time.time()) + 1800)
    return settings


@mistake("login", "no key that Vault knows has signed the JWT", "Check VAULT_JWT_FILE=")
def a_jwt_that_somebody_else_signed(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("jwt")
    made.key = ec.generate_private_key(ec.SECP256R1())
    sign(made, exp=int(time.time()) + 600)
    return settings


@mistake("login", "the cluster does not accept the JWT, or Vault could not ask the cluster", "system:auth-delegator")
def a_service_account_token_that_the_cluster_refuses(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("kubernetes")
    made.spoil()
    return settings


@mistake("login", "the role does not accept this client certificate", "Check VAULT_CLIENT_CERT")
def a_client_certificate_that_no_role_accepts(world: World) -> dict[str, Any]:
    made, settings = world.logging_in("cert")
    made.spoil()
    return settings


@mistake("login", "nothing is mounted there", "Check VAULT_AUTH_MOUNT_POINT")
def a_wrong_auth_mount_for_a_certificate(world: World) -> dict[str, Any]:
    return {**world.logging_in("cert")[1], "auth_mount_point": "nowhere"}


@mistake("login", "Vault saw no client certificate", "Set VAULT_URL to https://")
def a_client_certificate_over_http(world: World) -> dict[str, Any]:
    return {**world.logging_in("cert")[1], "url": world.vault.url}


def seeded(world: World) -> Path:
    """Write a role id where seeding the dev Vault puts it, of a Vault that is no more."""
    (world.directory / ".dev").mkdir()
    return world.file("canary", ".dev/role-id").relative_to(world.directory)


@mistake("login", "the role id is wrong", "For the dev Vault: `make seed`.")
def a_dev_vault_that_was_started_anew(world: World) -> dict[str, Any]:
    return {**world.good(), "role_id_file": seeded(world)}


@mistake("connection", "no connection (Connection refused)", "For the dev Vault: `make vault-up`.")
def a_dev_vault_that_was_not_started(world: World) -> dict[str, Any]:
    return {**world.good(), "role_id_file": seeded(world), "url": f"http://127.0.0.1:{free_port()}"}


def with_secret_id(world: World, settings: dict[str, Any] | None = None, **options: Any) -> tuple[dict[str, Any], str]:
    """Return good settings and another secret id for their role; with `wrap_ttl`, its wrapping token."""
    settings, wrap_ttl = settings or world.good(), options.pop("wrap_ttl", None)
    url = f"/v1/auth/approle/role/{role_of(world, settings)}/secret-id"
    made = world.vault.client.adapter.post(url, json=options, wrap_ttl=wrap_ttl)
    secret_id: str = made["wrap_info"]["token"] if wrap_ttl else made["data"]["secret_id"]
    world.canaries.append(secret_id)
    return settings, secret_id


def role_of(world: World, settings: dict[str, Any]) -> str:
    """Return the name of the AppRole that these settings log in to."""
    read = world.vault.client.auth.approle.read_role_id
    roles: list[str] = world.vault.client.list("auth/approle/role")["data"]["keys"]
    return next(role for role in roles if read(role)["data"]["role_id"] == settings["role_id"])


def in_namespace(world: World) -> tuple[dict[str, Any], str]:
    """Return settings that are good in a namespace of their own, which they do not name, and the namespace."""
    root, namespace = world.vault.client, unique("team")
    root.adapter.post(f"/v1/sys/namespaces/{namespace}", json={})
    client = hvac.Client(url=world.vault.url, token=world.vault.root_token, namespace=namespace)
    client.sys.enable_auth_method("approle")
    enable_kv(client, "secret")
    client.secrets.kv.v2.create_or_update_secret(world.path, SECRETS)
    inside = Vault(world.vault.url, world.vault.root_token)
    inside.client.adapter.close()
    inside.client = client
    settings = inside.app_role(world.path)
    client.adapter.close()
    return world.secretly(settings), namespace


def is_known(vault: Vault, token: str) -> bool:
    """Tell whether Vault still knows a token."""
    try:
        vault.client.auth.token.lookup(token)
    except hvac.exceptions.VaultError:
        return False
    return True


def sign(made: JWT, **claims: int) -> None:
    """Write a JWT with these claims."""
    made.file.write_text(jwt.encode({"sub": "app", "aud": "vault", **claims}, private_pem_of(made.key), "ES256"))
