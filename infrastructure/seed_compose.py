"""What must be in Vault before the containers of `compose.yml` can start? Its service `seed` puts it there.

It is `make seed` for them. Who starts a service delivers its credentials: for each role a folder with the role id and a
response-wrapped secret id, which is good for one login. Each `docker compose up` brings new ones.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import hvac
import requests

from infrastructure import seed_database
from infrastructure.dev_database import DevDatabase
from infrastructure.dev_postgres import SUPERUSER
from infrastructure.dev_state import fail, write_private
from infrastructure.dev_vault import ROOT_TOKEN, DevVaultError, is_up
from infrastructure.seed import MIGRATE, ROLE, seed_engine, seed_migration_role, seed_role, seed_secret

WRAP_TTL = "10m"  # how long a container has for its first login
OWNER = 10001  # as whom the image runs
FOLDERS = {"app": ROLE, "migrate": MIGRATE}  # by the services of `compose.yml`


@dataclass(frozen=True)
class Neighbour(DevDatabase):
    """The PostgreSQL of the compose file: all find it under one name."""

    host: str = "postgres"

    @property
    def for_vault(self) -> str:
        """Host and port as Vault reaches it."""
        return f"{self.host}:{self.port}"

    def url(self, database: str) -> str:
        """Return where the superuser finds a database."""
        return f"postgresql://{SUPERUSER}:{self.password}@{self.for_vault}/{database}"


def seed(vault: str, database: DevDatabase, directory: Path, root_token: str = ROOT_TOKEN) -> list[str]:
    """Bring Vault and database to the state that the services need, and write their credentials below `directory`.

    It can be repeated. Returns lines that say what was done.
    """
    if not is_up(vault):
        raise DevVaultError(f"no unsealed Vault answers at {vault}")
    client = hvac.Client(url=vault, token=root_token, timeout=10)
    try:
        done = [seed_engine(client), seed_secret(client), seed_database.seed_database(client, database)]
        done.append(seed_role(client, with_database=True))
        seed_migration_role(client)
        for folder, role in FOLDERS.items():
            _deliver(client, role, directory / folder)
    finally:
        client.adapter.close()
    return [*done, f"login: role ids and wrapped secret ids in {directory}, each good for one login in {WRAP_TTL}"]


def _deliver(client: hvac.Client, role: str, directory: Path) -> None:
    """Write what a container logs in with; nobody else may read it."""
    role_id: str = client.auth.approle.read_role_id(role)["data"]["role_id"]
    wrapped: str = client.auth.approle.generate_secret_id(role, wrap_ttl=WRAP_TTL)["wrap_info"]["token"]
    files = directory / "role-id", directory / "secret-id"
    for file, text in zip(files, (role_id, wrapped), strict=True):
        write_private(file, text)
    if os.geteuid() == 0:
        for path in (directory, *files):
            os.chown(path, OWNER, OWNER)


def main() -> None:
    """Do what the command line says; the superuser's password is in POSTGRES_PASSWORD."""
    parser = argparse.ArgumentParser(description="Put into Vault what the containers need.")
    parser.add_argument("--vault", default="http://vault:8200")
    parser.add_argument("--postgres", default="postgres:5432", metavar="HOST:PORT")
    parser.add_argument("--directory", type=Path, default=Path("/run/credentials"))
    arguments = parser.parse_args()
    host, _, port = arguments.postgres.partition(":")
    database = Neighbour("docker", int(port), os.environ["POSTGRES_PASSWORD"], host=host)
    try:
        print("\n".join(seed(arguments.vault, database, arguments.directory)))
    except DevVaultError as error:
        fail(str(error))
    except requests.RequestException as error:
        fail(f"the connection to {arguments.vault} broke: {type(error).__name__}")


if __name__ == "__main__":
    main()
