"""How does a secret get into the dev Vault? `make secret KEY=stripe_key`; the value from a prompt or standard input.

Never from the command line: there it would be in the shell's history and in the list of processes, and make would
take `$` out of it.
"""

import argparse
import getpass
import re
import sys

import hvac
import hvac.exceptions
import requests

from infrastructure.dev_state import fail
from infrastructure.dev_vault import ROOT_TOKEN, DevVaultError, accepts_root_token
from infrastructure.seed import MOUNT_POINT, SECRET_PATH


def set_secret(url: str, key: str, value: str) -> str:
    """Set one key of the service's secret, and keep the others; return a line that says so.

    Raises `DevVaultError` if there is no dev Vault at `url`, or the key or the value is none.
    """
    if not re.fullmatch(r"[^\s/=]+", key):
        raise DevVaultError("KEY is missing, or no name of a secret: make secret KEY=stripe_key")
    if not value:
        raise DevVaultError(f"{key}: the value is empty")
    if not accepts_root_token(url):
        raise DevVaultError(f"no dev Vault answers at {url}: run `make vault-up seed` first")
    client = hvac.Client(url=url, token=ROOT_TOKEN, timeout=10)
    try:
        answer = client.secrets.kv.v2.patch(SECRET_PATH, {key: value}, mount_point=MOUNT_POINT)
    except hvac.exceptions.InvalidPath:
        raise DevVaultError(f"there is no secret at {MOUNT_POINT}/{SECRET_PATH} yet: run `make seed` first") from None
    finally:
        client.adapter.close()
    where = f"{MOUNT_POINT}/{SECRET_PATH}"
    return f"secret: {key} is set in {where} (version {answer['data']['version']}); declare it in app/app_secrets.py"


def ask(key: str) -> str:
    """Return what is typed without being shown, or what standard input says; its last line end does not count."""
    if sys.stdin.isatty():
        return getpass.getpass(f"{key}: ")
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Set one key of the service's secret in the dev Vault.")
    parser.add_argument("--url", default="http://127.0.0.1:8200")
    parser.add_argument("key")
    arguments = parser.parse_args()
    try:
        print(set_secret(arguments.url, arguments.key, ask(arguments.key) if arguments.key else ""))
    except DevVaultError as error:
        fail(str(error))
    except (requests.RequestException, UnicodeDecodeError) as error:
        fail(f"{arguments.key}: {type(error).__name__}")


if __name__ == "__main__":
    main()
