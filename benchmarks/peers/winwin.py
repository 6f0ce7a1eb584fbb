"""How is winwin-vault used? One client for the process, which is handed a token: it knows no AppRole."""

import os
from collections.abc import Sequence

from harness import FIRST, PATH, TOKEN, URL, Peer, run
from winwin_vault import VaultClient

os.environ |= {"VAULT_ADDR": URL, "VAULT_TOKEN": TOKEN}


def start(fields: Sequence[str]) -> dict[str, str | None]:
    """Read the secret once, and take from it what is needed."""
    secret = VaultClient.from_env().read_secret(PATH)
    return {name: secret[name] for name in fields}


def fresh(path: str) -> str | None:
    """Read a secret: it keeps none of KV."""
    value: str = VaultClient.from_env().read_secret(path)[FIRST]
    return value


run(Peer(start, fresh))
