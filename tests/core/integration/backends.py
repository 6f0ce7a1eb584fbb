"""Backends under one handle, so that one contract suite fits all; what they call things differs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.settings.vault import VaultSettings
from app.core.store.source import Secret
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.sessions import get_session
from tests.support import Vault, unique

MAY_READ_AND_WRITE = """
path "secret/+/{path}/*" {{ capabilities = ["create", "read", "update", "delete"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
"""


class Session(Protocol):
    """What each session can do."""

    def current(self) -> Any: ...
    def close(self) -> None: ...


class Writer(Protocol):
    """What each writer can do."""

    def read(self, path: str, version: int | None = None) -> Secret: ...
    def delete(self, path: str) -> None: ...


@dataclass(frozen=True)
class Backend:
    """One backend, with a login that may read and write below `folder`, and nothing else."""

    name: str
    folder: str
    session: Session
    writer: Writer
    write: Callable[[str, str], object]  # a value to a path
    with_settings: Callable[..., "Backend"]  # the same with other settings
    denied: Callable[[], str]  # makes a secret that may not be read, and returns its path
    break_token: Callable[[], None]
    address: str  # the variable that names it

    def path(self) -> str:
        """Return a path that no other test uses."""
        return f"{self.folder}/{unique('secret')}"

    def read(self, path: str, version: int | None = None) -> Any:
        """Return the one value at a path."""
        (value,) = self.writer.read(path, version).data.values()
        return value


def vault_backend(vault: Vault) -> Backend:
    """Return Vault's."""
    folder = unique("folder")
    raw = {**vault.app_role(folder, policy=MAY_READ_AND_WRITE), "access_mode": "read_and_write"}

    def make(**more: Any) -> Backend:
        changed = {**raw, **more}
        if "password" in more:
            changed["secret_id"] = more["password"]
        session = get_session(VaultSettings.model_validate(changed))
        writer = VaultKVWriter(session)

        def write(path: str, value: str) -> object:
            return writer.write(path, {"value": value})

        def denied() -> str:
            vault.write(path := unique("elsewhere"), {"value": "canary"})
            return path

        def break_token() -> None:
            vault.client.auth.token.revoke(session.client().token)

        return Backend("vault", folder, session, writer, write, make, denied, break_token, "VAULT_URL")

    return make()
