"""What must be in Vault before the service can start? `python -m infrastructure.seed`, for both dev Vaults.

It does what an operator does in production: the KV engine, the secret, the least-privilege policy, an AppRole with that
policy. It can be repeated: what is there stays, unless `--reset` asks for new values.
"""

import argparse
import os
import re
import secrets
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import requests
from pydantic import AliasChoices, BaseModel

from app.app_secrets import SEED, AppSecrets
from app.config import Settings
from app.core.errors import BadSettings
from app.core.settings import dotenv
from app.core.settings.types import server_address
from app.core.settings.vault import VaultSettings
from app.core.store.declaration import broken_secrets
from infrastructure import seed_database
from infrastructure.dev_database import running
from infrastructure.dev_state import STATE, fail, write_private
from infrastructure.dev_vault import ROOT_TOKEN, DevVaultError, is_up

POLICIES = Path(__file__).with_name("policies")
MOUNT_POINT: str = VaultSettings.model_fields["mount_point"].default
SECRET_PATH: str = VaultSettings.model_fields["secret_path"].default[0]
ROLE = SECRET_PATH  # the role and its policy carry the name of the secret
DOTENV = Path(dotenv.DOTENV)
DEFAULT_PORT: int = Settings.model_fields["port"].default
ROLE_ID_FILE, SECRET_ID_FILE = STATE / "role-id", STATE / "secret-id"
MIGRATE = f"{ROLE}-migrate"  # the role of `make migrate`, and its policy
MIGRATE_FILES = STATE / "migrate-role-id", STATE / "migrate-secret-id"


def seed(url: str, root_token: str = ROOT_TOKEN, *, reset: bool = False, port: int | None = None) -> list[str]:
    """Bring the Vault at `url` to the state that the service needs; return lines that say what was done.

    `port` is where the service will listen, if that is known.
    """
    if not is_up(url):
        raise DevVaultError(f"no unsealed Vault answers at {url}: run `make vault-up` first")
    client, database = hvac.Client(url=url, token=root_token, timeout=10), running()
    try:
        return [
            seed_engine(client),
            seed_secret(client, reset=reset),
            *([seed_database.seed_database(client, database)] if database else []),
            seed_role(client, with_database=database is not None),
            seed_credentials(client),
            *([seed_migration(client)] if database else []),
            seed_dotenv(url, port, database.port if database else None),
        ]
    except hvac.exceptions.Forbidden:
        raise DevVaultError(f"the Vault at {url} does not accept the dev root token: is it a dev Vault?") from None
    finally:
        client.adapter.close()


def seed_engine(client: hvac.Client) -> str:
    """Mount KV version 2, where the dev server has not done so."""
    mounts = client.sys.list_mounted_secrets_engines()["data"]
    if f"{MOUNT_POINT}/" not in mounts:
        client.sys.enable_secrets_engine("kv", path=MOUNT_POINT, options={"version": "2"})
        return f"engine: KV version 2 mounted at {MOUNT_POINT}/"
    if (mounts[f"{MOUNT_POINT}/"]["options"] or {}).get("version") != "2":
        raise DevVaultError(f"{MOUNT_POINT}/ is mounted, but not as KV version 2: use a fresh dev Vault")
    return f"engine: KV version 2 is at {MOUNT_POINT}/"


def seed_secret(client: hvac.Client, *, reset: bool = False) -> str:
    """Write the declared secrets; keep what is there, other keys included, unless `reset`."""
    fresh = fresh_secrets()
    kv = client.secrets.kv.v2
    try:
        answer: Any = kv.read_secret_version(SECRET_PATH, mount_point=MOUNT_POINT, raise_on_deleted_version=False)
        held, version = answer["data"]["data"] or {}, answer["data"]["metadata"]["version"]
    except hvac.exceptions.InvalidPath:
        held, version = {}, 0
    wanted = {**held, **fresh} if reset else {**fresh, **held}
    if wanted == held:
        return f"secret: {MOUNT_POINT}/{SECRET_PATH} is there (version {version})"
    check(AppSecrets, wanted, kept=() if reset else held)
    kv.create_or_update_secret(SECRET_PATH, wanted, cas=version, mount_point=MOUNT_POINT)
    return f"secret: {MOUNT_POINT}/{SECRET_PATH} written (version {version + 1}: {', '.join(sorted(wanted))})"


def fresh_secrets() -> dict[str, Any]:
    """Return a value for each secret that the service needs."""
    return {**made_up(AppSecrets), **SEED}


def made_up(declared: type[BaseModel]) -> dict[str, Any]:
    """Return a random text for each required secret, also for those of nested models, by the keys in Vault."""
    made: dict[str, Any] = {}
    for name, field in declared.model_fields.items():
        alias = field.validation_alias
        first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
        if field.is_required():
            kind: Any = field.annotation
            is_nested = isinstance(kind, type) and issubclass(kind, BaseModel)
            made[first if isinstance(first, str) else name] = made_up(kind) if is_nested else secrets.token_hex(32)
    return made


def check(declared: type[BaseModel], values: Mapping[str, Any], kept: Container[str] = ()) -> None:
    """Raise `DevVaultError` if values are not as declared; those `kept` are somebody else's."""
    problems = {name: problem for name, problem in broken_secrets(declared, values).items() if name not in kept}
    if problems:
        listed = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise DevVaultError(f"no value can be made up ({listed}): give one in SEED, in app/app_secrets.py")


def seed_role(client: hvac.Client, *, with_database: bool = False) -> str:
    """Write the policy and the AppRole that has it and nothing else, but for the database where there is one."""
    policies = {ROLE: _policy()}
    if with_database:
        policies[f"{ROLE}-database"] = seed_database.SHOP.policy
    _write_role(client, ROLE, policies)
    return f"login: AppRole {ROLE} with the policies {', '.join(policies)}"


def seed_credentials(client: hvac.Client, role: str = ROLE, files: tuple[Path, Path] | None = None) -> str:
    """Write role id and secret id where only their owner can read them; a secret id that still works is kept."""
    role_id_file, secret_id_file = files or (ROLE_ID_FILE, SECRET_ID_FILE)
    role_id: str = client.auth.approle.read_role_id(role)["data"]["role_id"]
    write_private(role_id_file, role_id)
    if _still_works(client, role, secret_id_file):
        return f"login: the secret id in {secret_id_file} still works"
    write_private(secret_id_file, client.auth.approle.generate_secret_id(role)["data"]["secret_id"])
    return f"login: role id and secret id written to {role_id_file} and {secret_id_file} (mode 0600)"


def seed_migration(client: hvac.Client) -> str:
    """Write the AppRole that migrations log in with, and its files."""
    seed_migration_role(client)
    return seed_credentials(client, MIGRATE, MIGRATE_FILES)


def seed_migration_role(client: hvac.Client) -> None:
    """Write it: it reads the same secrets, and may change tables, not the service.

    Of the service's policy it has the secrets that are read, and what concerns its own token.
    """
    blocks = re.findall(r'^path "([^"]+)" \{\n *capabilities = (\[.*\])\n\}$', _policy(), re.MULTILINE)
    own = ("auth/token/", "sys/capabilities-self")
    kept = [
        f'path "{path}" {{\n  capabilities = {capabilities}\n}}\n'
        for path, capabilities in blocks
        if path.startswith(own) or (path.startswith(f"{MOUNT_POINT}/data/") and capabilities == '["read"]')
    ]
    _write_role(client, MIGRATE, {MIGRATE: "".join(kept) + seed_database.MIGRATE.policy})


def _policy() -> str:
    return (POLICIES / f"{ROLE}.hcl").read_text()


def _write_role(client: hvac.Client, name: str, policies: Mapping[str, str]) -> None:
    for policy, text in policies.items():
        client.sys.create_or_update_policy(policy, text)
    if "approle/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("approle")
    client.auth.approle.create_or_update_approle(
        name,
        token_policies=list(policies),
        token_no_default_policy=True,
        token_ttl="20m",  # the service renews it; one that is stolen is soon worthless
        token_max_ttl="1h",
        secret_id_ttl="24h",  # bounded: `make seed` makes a new one, and the running service reads the file again
        secret_id_num_uses=0,
    )


def seed_dotenv(url: str, port: int | None = None, database_port: int | None = None) -> str:
    """Give a fresh clone its `.env`, and have it name the servers that run: `make` is not all that reads it.

    What names another Vault is somebody's choice, and stays.
    """
    there = os.path.lexists(DOTENV)
    try:
        before = dotenv.dotenv_text() if there else Path(".env.example").read_text(encoding="utf-8")
    except BadSettings as error:
        raise DevVaultError("; ".join(error.problems)) from None
    named = re.search(r"^VAULT_URL=(.*)$", before, re.MULTILINE)
    if named is None or not re.fullmatch(r"http://(127\.0\.0\.1|localhost):\d+/?", named[1].strip()):
        return "settings: .env names another Vault, or none, and stays as it is"
    after = before.replace(named[0], f"VAULT_URL={url}")
    if port is not None:
        after, found = re.subn(r"^PORT=.*$", f"PORT={port}", after, flags=re.MULTILINE)
        if not found and port != DEFAULT_PORT:
            after = re.sub(r"^#PORT=.*$", f"PORT={port}", after, count=1, flags=re.MULTILINE)
    after = seed_database.with_dynamic(after, database_port)
    if there and after == before:
        return "settings: .env is there"
    write_private(DOTENV, after)  # credentials may be put into it
    return "settings: .env names the servers' ports" if there else "settings: .env made from .env.example (mode 0600)"


def _still_works(client: hvac.Client, role: str, secret_id_file: Path) -> bool:
    if not secret_id_file.exists():
        return False
    try:
        found = client.auth.approle.read_secret_id(role, secret_id_file.read_text().strip())
    except hvac.exceptions.VaultError:
        return False
    return isinstance(found, dict)  # for one that it does not know, Vault answers 204 without a body


def _address(text: str) -> str:
    try:
        return server_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Put into the dev Vault what the service needs.")
    parser.add_argument("--url", default="http://127.0.0.1:8200", type=_address)
    parser.add_argument("--token", default=ROOT_TOKEN, help="a token that may do everything; default: the dev token")
    parser.add_argument("--port", type=int, help="where the service will listen; goes into .env")
    parser.add_argument("--reset", action="store_true", help="new values for the secrets that are there")
    arguments = parser.parse_args()
    try:
        print("\n".join(seed(arguments.url, arguments.token, reset=arguments.reset, port=arguments.port)))
    except DevVaultError as error:
        fail(str(error))
    except requests.RequestException as error:
        fail(f"the connection to {arguments.url} broke: {type(error).__name__}")


if __name__ == "__main__":
    main()
