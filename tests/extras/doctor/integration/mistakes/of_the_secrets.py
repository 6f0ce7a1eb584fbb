"""Mistakes in paths, policies and values, and in further Vaults."""
# ruff: noqa: D103 - the names say what the mistake is

import json
from typing import Any

from app.core.settings.vault import VaultSettings
from app.core.vault.policy import writing_grants
from tests.extras.doctor.integration.mistakes.world import World, mistake
from tests.support import READ_POLICY, SECRETS, enable_kv, environment, free_port, unique


@mistake(
    "mount point", "nothing is mounted there that the token may use", "VAULT_MOUNT_POINT (the token may use: secret)"
)
def a_wrong_mount_point(world: World) -> dict[str, Any]:
    return {**world.good(), "mount_point": "nowhere"}


@mistake("mount point", "it is a path in secret/", "Set VAULT_MOUNT_POINT=secret: leave out data,")
def the_data_of_the_api_in_the_mount_point(world: World) -> dict[str, Any]:
    return {**world.good(), "mount_point": "secret/data"}


@mistake("mount point", "it is a path in secret/", "leave out metadata, which the API has, but no mount point.")
def the_metadata_of_the_api_in_the_mount_point(world: World) -> dict[str, Any]:
    return {**world.good(), "mount_point": "/secret/metadata/", "kv_version": "auto"}


@mistake("mount point", "nothing is mounted there", "Set VAULT_MOUNT_POINT=secret: leave out v1 and data,")
def the_address_in_the_api_as_the_mount_point(world: World) -> dict[str, Any]:
    return {**world.good(), "mount_point": "v1/secret/data"}


@mistake("mount point", "it is a path in secret/", "Paths count from there: put team/ in front of VAULT_SECRET_PATH.")
def a_folder_in_the_mount_point(world: World) -> dict[str, Any]:
    return {**world.good(), "mount_point": "secret/team"}


@mistake("mount point", "the mount is KV version 1, not 2", "Set VAULT_KV_VERSION=1")
def version_1_taken_for_version_2(world: World) -> dict[str, Any]:
    return {**mounted(world, "1"), "kv_version": "2"}


@mistake("mount point", "the mount is KV version 2, not 1", "Set VAULT_KV_VERSION=2")
def version_2_taken_for_version_1(world: World) -> dict[str, Any]:
    return {**mounted(world, "2"), "kv_version": "1"}


@mistake("mount point", "a transit engine is mounted there", "Check VAULT_MOUNT_POINT")
def another_engine(world: World) -> dict[str, Any]:
    world.vault.client.sys.enable_secrets_engine("transit", path=(mount_point := unique("transit")))
    return {**world.with_token(), "token": world.vault.root_token, "mount_point": mount_point}


def mounted(world: World, version: str) -> dict[str, Any]:
    """Mount a KV engine; return settings that may read in it."""
    mount_point = enable_kv(world.vault.client, unique("kv"), version)
    policy = f'path "{mount_point}/*" {{{{ capabilities = ["read"] }}}}\n{READ_POLICY}'
    return {**world.good(policy), "mount_point": mount_point}


@mistake("secrets", "the token lacks the capability read (it has: list)", 'path "secret/data/')
def a_policy_that_does_not_allow_reading(world: World) -> dict[str, Any]:
    return world.good(READ_POLICY.replace('["read"]', '["list"]', 1))


@mistake("secrets", "there is no secret at this path", "check VAULT_SECRET_PATH")
def a_path_that_is_misspelt(world: World) -> dict[str, Any]:
    return {**world.with_token(), "secret_path": f"{world.path}x"}


@mistake("secrets", "permission denied", "Leave out data/")
def the_data_of_the_api_in_the_path(world: World) -> dict[str, Any]:
    return {**world.good(), "secret_path": f"data/{world.path}"}


@mistake("secrets", "permission denied", "leave out secret/")
def the_mount_point_in_the_path(world: World) -> dict[str, Any]:
    return {**world.good(), "secret_path": f"secret/{world.path}"}


@mistake(
    "secrets", "permission denied", "counts from the mount point, and data/ belongs to the API: leave out secret/data/."
)
def the_mount_point_and_the_data_of_the_api_in_the_path(world: World) -> dict[str, Any]:
    return {**world.good(), "secret_path": f"secret/data/{world.path}"}


@mistake("secrets", "it is a folder; it holds: a, b/", "Set VAULT_SECRET_PATH to one of them, like folder-")
def a_path_that_is_a_folder(world: World) -> dict[str, Any]:
    return {**world.with_token(), "secret_path": folder(world)}


@mistake("secrets", "it is a folder, too, which holds: a, b/", "Set VAULT_SECRET_PATH to one of them. Or: Grant it")
def a_path_that_is_a_folder_of_which_the_policy_allows_what_is_in_it(world: World) -> dict[str, Any]:
    path = folder(world)
    grants = f'path "secret/data/{path}/*" {{{{ capabilities = ["read"] }}}}\npath "secret/metadata/{path}/*" '
    return {**world.good(f'{grants} {{{{ capabilities = ["list"] }}}}\n{READ_POLICY}'), "secret_path": path}


@mistake("secrets", "it is a folder; it holds: a, b/", "Set SECRET_STRIPE_KEY to one of them")
def a_reference_to_a_folder(world: World) -> dict[str, Any]:
    return {**environment(world.with_token()), "SECRET_STRIPE_KEY": f"{{vault://vault/{folder(world)}/key}}"}


def folder(world: World) -> str:
    """Write secrets into a folder, in which is no secret of its own."""
    path = unique("folder")
    world.vault.write(f"{path}/a", {"key": "canary"})
    world.vault.write(f"{path}/b/c", {"key": "canary"})
    return path


@mistake("secrets", "version 1 was deleted", "`vault kv undelete -mount=secret -versions=1")
def a_latest_version_that_was_deleted(world: World) -> dict[str, Any]:
    world.vault.client.secrets.kv.v2.delete_latest_version_of_secret(world.path)
    return world.good()


@mistake("secrets", "version 1 was destroyed", "Write a new version")
def a_version_that_was_destroyed(world: World) -> dict[str, Any]:
    world.vault.client.secrets.kv.v2.destroy_secret_versions(world.path, [1])
    return world.good()


@mistake("secrets", "there is no key 'api_kye'; the keys: api_key, database_url, jwt_secret", "Check the key")
def a_reference_to_a_key_that_is_misspelt(world: World) -> dict[str, Any]:
    return {**environment(world.good()), "SECRET_STRIPE_KEY": f"{{vault://vault/{world.path}/api_kye}}"}


@mistake("secrets", "/nowhere/key}: secret/nowhere: there is no secret at this path", "or check SECRET_STRIPE_KEY")
def a_reference_to_a_path_that_is_missing(world: World) -> dict[str, Any]:
    return {**environment(world.with_token()), "SECRET_STRIPE_KEY": "{vault://vault/nowhere/key}"}


@mistake("secrets", "VAULT_ACCESS_MODE is write_only", "Set VAULT_ACCESS_MODE=read_and_write")
def reading_where_only_writing_is_allowed(world: World) -> dict[str, Any]:
    return {**world.good(may_write()), "access_mode": "write_only"}


@mistake("write prefix", "the token lacks list at secret/metadata/python-production-", "that `python -m app policy` ")
def a_policy_that_does_not_allow_listing(world: World) -> dict[str, Any]:
    return {**world.good(may_write("list")), "access_mode": "read_and_write"}


@mistake("write prefix", "the token lacks create, delete, read, update at secret/data/", "that `python -m app policy` ")
def a_policy_that_does_not_allow_writing(world: World) -> dict[str, Any]:
    return {**world.good(), "access_mode": "read_and_write"}


def may_write(*lacking: str) -> str:
    """Return the policy of a service that writes, without some capabilities."""
    grants = writing_grants(VaultSettings(access_mode="read_and_write"))
    kept = {path: [each for each in capabilities if each not in lacking] for path, capabilities in grants.items()}
    lines = [f'path "{path}" {{{{ capabilities = {json.dumps(some or ["deny"])} }}}}' for path, some in kept.items()]
    return "\n".join([READ_POLICY, *lines])


@mistake("form", "missing; there is a key 'api-key'", "vault kv patch -mount=secret", "declared secrets")
def a_key_that_is_misspelt(world: World) -> dict[str, Any]:
    spelt = {name.replace("api_key", "api-key"): value for name, value in SECRETS.items()}
    world.vault.write(world.path, spelt)
    return world.good()


@mistake("form", "malformed in vault: ", "Write another value: `vault kv patch", "declared secrets")
def a_value_that_is_malformed(world: World) -> dict[str, Any]:
    world.vault.write(world.path, {**SECRETS, "jwt_secret": "canary"})
    return world.good()


@mistake("form", "malformed: String should match pattern", "Fix SECRET_DATABASE_URL", "declared secrets")
def an_override_that_is_malformed(world: World) -> dict[str, Any]:
    return {**environment(world.good()), "SECRET_DATABASE_URL": "canary"}


@mistake(
    "connection", "no connection (Connection refused)", "Check the port in VAULTS__PARTNER_ONE__URL", "partner-one"
)
def another_vault_that_is_down(world: World) -> dict[str, Any]:
    partner = {"URL": f"http://127.0.0.1:{free_port()}", "TOKEN": "canary"}
    return {**environment(world.good()), **{f"VAULTS__PARTNER_ONE__{name}": text for name, text in partner.items()}}


@mistake("login", "VAULTS__PARTNER__TOKEN_FILE=sink: Vault does not accept the token", "Provide a new one", "partner")
def another_vault_that_refuses_the_token(world: World) -> dict[str, Any]:
    world.file("canary", "sink")
    partner = {"VAULTS__PARTNER__URL": world.vault.url, "VAULTS__PARTNER__TOKEN_FILE": "sink"}
    return {**environment(world.good()), **partner}


@mistake("mount point", "it is a path in secret/", "Set VAULTS__PARTNER__MOUNT_POINT=secret: leave out data", "partner")
def the_data_of_the_api_in_the_mount_point_of_another_vault(world: World) -> dict[str, Any]:
    partner = {"URL": world.vault.url, "TOKEN": world.with_token()["token"], "MOUNT_POINT": "secret/data"}
    reference = {"SECRET_STRIPE_KEY": f"{{vault://partner/{world.path}/api_key}}"}
    return {
        **environment(world.good()),
        **{f"VAULTS__PARTNER__{name}": text for name, text in partner.items()},
    } | reference
