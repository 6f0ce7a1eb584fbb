"""The two backends under one handle, so that one contract suite fits both; what they call things differs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from app.backends.conjur_writer import ConjurWriter
from app.backends.protocol import Secret
from app.backends.vault_kv_writer import VaultKVWriter
from app.config import VaultSettings
from app.conjur_session import ConjurSession
from app.vault_session import VaultSession
from app.vault_sessions import get_conjur_session, get_session
from tests.conjur.support import Conjur
from tests.support import Vault, unique

MAY_READ_AND_WRITE = """
path "secret/+/{path}/*" {{ capabilities = ["create", "read", "update", "delete"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
"""


class Writer(Protocol):
    """What both writers can do."""

    def read(self, path: str, version: int | None = None) -> Secret: ...
    def delete(self, path: str) -> None: ...


@dataclass(frozen=True)
class Backend:
    """One backend, with a login that may read and write below `folder`, and nothing else."""

    name: str
    folder: str
    session: VaultSession | ConjurSession
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


def conjur_backend(conjur: Conjur) -> Backend:
    """Return Conjur's."""
    branch = unique("folder")
    elsewhere = conjur.variable("canary")
    login = conjur.host({elsewhere: ["read"]}, owns=branch)
    folder = f"{conjur.branch}/{branch}"

    def make(**more: Any) -> Backend:
        name, key = login[0], more.pop("password", login[1])
        url = {"appliance_url": more.pop("url")} if "url" in more else {}
        fixed = {"access_mode": "read_and_write", "policy_branch": folder}
        session = get_conjur_session(conjur.settings((name, key), **{**fixed, **url, **more}))
        writer = ConjurWriter(session)

        def break_token() -> None:
            held = session.current()
            assert held is not None
            held.token = "garbled"

        return Backend(
            "conjur",
            folder,
            session,
            writer,
            writer.write,
            make,
            lambda: elsewhere,
            break_token,
            "CONJUR_APPLIANCE_URL",
        )

    return make()
