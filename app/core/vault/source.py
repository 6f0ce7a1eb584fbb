"""How do secrets come from one Vault? What is wanted of it is read over its one session, side by side."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from types import MappingProxyType
from typing import Any

from app.core.errors import BackendError, VersionDeleted
from app.core.logs.logging_config import get_logger
from app.core.settings.app import AppSettings
from app.core.settings.references import Reference, extract
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.store.overrides import Texts, load, resolve
from app.core.store.secret_store import SecretStore
from app.core.store.source import Connection, Secret, SecretRef, TokenLife
from app.core.transport.connections import POOL_SIZE
from app.core.vault.kv import VaultKV
from app.core.vault.session import VaultSession
from app.core.vault.sessions import get_session, held_session
from app.core.vault.token_life import TokenKeeper

MOST_VERSIONS = 10  # that are looked at for former values

log = get_logger(__name__)


class VaultSource:
    """One of the Vaults that the settings name."""

    def __init__(
        self,
        settings: VaultSettings,
        name: str = MAIN_VAULT,
        texts: Texts = MappingProxyType({}),
        session: VaultSession | None = None,
    ) -> None:
        """`texts` are those of all `SECRET_<NAME>`; without a `session` the process's one with this Vault is used."""
        self.name = name
        self.settings = settings
        self.awaited = name == MAIN_VAULT
        self.interval = settings.refresh_interval
        self.max_staleness = settings.max_staleness
        self._texts = texts
        self._session = session

    @property
    def session(self) -> VaultSession:
        """The session, made where there is none: a service that is started again has a new one."""
        return self._session or get_session(self.settings, self.name)

    def load(self) -> tuple[Secret, ...]:
        """Read every path in `VAULT_SECRET_PATH`, and all that a `SECRET_<NAME>` refers to here: one request a path.

        Raises a `BackendError`; if several things failed, one that lists them all.
        """
        return load(self, self._texts)

    def resolve(self, reference: Reference) -> tuple[Any, int | None]:
        """Read what one reference stands for, as the service would; return the value and its version."""
        self.session.catch_up()
        return resolve(self, reference)

    def connection(self) -> Connection:
        """Say how Vault is reached and how long the token in force will live; looks at memory only."""
        own = self.settings
        place = "" if own.login_mount_point == own.auth_method else f" at auth/{own.login_mount_point}"
        session = self._session or held_session(own)
        login = session.current() if session else None
        if session is None or login is None:
            return Connection(own.url, f"{own.auth_method}{place}")
        left = session.time_left()
        life = TokenLife(login.lifetime, None if left == math.inf else left, login.auth.renewable)
        return Connection(own.url, f"{own.auth_method}{place}", life)

    def how_to_set(self, entry: str, path: str | None) -> str:
        """Tell how to write the value of an entry, by default where the last of the paths is."""
        own = self.settings
        if path is None and not own.enabled:
            return f"Set VAULT_ENABLED=true (`make seed` writes a .env for the dev Vault), or SECRET_{entry.upper()}."
        command = f"vault kv patch -mount={own.mount_point} {path or ([*own.paths] or ['PATH'])[-1]} {entry}=…"
        return f"Add it: `{command}`." if path is None else f"Write another value: `{command}`."

    def periodic(self) -> Mapping[str, Callable[[], float]]:
        """Renew the token, and replace it before it dies."""
        return {f"token of {self.name}": TokenKeeper(lambda: self.session).tick}

    def named(self) -> Mapping[str, SecretRef]:
        """Return the paths in `VAULT_SECRET_PATH`."""
        return {f"{self.settings.mount_point}/{path}": (path, None) for path in self.settings.paths}

    def may_be_missing(self, label: str) -> bool:
        """Tell whether the path has the mark of an optional one."""
        return self.settings.paths[label.removeprefix(f"{self.settings.mount_point}/")]

    def as_named(self, _label: str, secret: Secret) -> Secret:
        """Return the secret: each of its keys is an entry."""
        return secret

    def place_of(self, reference: Reference) -> SecretRef:
        """Return the path and the version."""
        return reference.resource, reference.version

    def extract(self, reference: Reference, secret: Secret) -> Any:
        """Return the key that is meant, or the whole secret."""
        return extract(reference, secret.data)

    def read_many(self, places: Sequence[SecretRef]) -> list[Secret | BackendError]:
        """Read several paths and versions, side by side if there is more than one."""
        kv = VaultKV(self.session)

        def read(place: SecretRef) -> Secret | BackendError:
            try:
                return kv.read(*place)
            except BackendError as error:
                return self._in_its_words(error)

        if len(places) <= 1:
            return [read(place) for place in places]
        with ThreadPoolExecutor(min(len(places), POOL_SIZE), thread_name_prefix="vault-read") as pool:
            return list(pool.map(read, places))

    def _in_its_words(self, error: BackendError) -> BackendError:
        """Name the variables as they are called for this Vault; a path stands in a reference, which is named later."""
        if self.name == MAIN_VAULT:
            return error
        prefix = f"VAULTS__{self.name.upper().replace('-', '_')}__"
        fields = "|".join(field.upper() for field in type(self.settings).model_fields if field != "secret_path")
        told = copy(error)  # others may hold the same error
        told.cause, told.remedy = (
            re.sub(rf"\bVAULT_(?=(?:{fields})\b)", prefix, text) for text in (error.cause, error.remedy)
        )
        return told


def vault_source(settings: AppSettings, name: str = MAIN_VAULT) -> VaultSource:
    """Return the Vault of this name as a source; raise `BadSettings` if there is none."""
    return VaultSource(settings.vault_settings(name), name, settings.secrets)


def recent_values(settings: VaultSettings, store: SecretStore, name: str, seconds: float) -> list[tuple[Any, float]]:
    """Return the values that the entry `name` had within the last so many seconds, before the one in force.

    Each comes with the time, in seconds since 1970, at which its successor was written; the latest is first.

    Asks Vault only if the version in force is younger than that: Vault keeps the versions before it. What Vault does
    not tell (deleted, forbidden, out of reach) is left out.
    """
    snapshot = store.snapshot()
    origin = snapshot.origins.get(name)
    if not settings.enabled or origin is None or origin.path not in settings.paths:
        return []
    kv, since = VaultKV(get_session(settings)), time.time() - seconds
    version, created_at = origin.version or 0, origin.created_at or 0.0
    values: list[tuple[Any, float]] = []
    successor, written = snapshot[name], created_at
    for earlier in range(version - 1, max(0, version - 1 - MOST_VERSIONS), -1):
        if created_at < since:
            break
        try:
            secret = kv.read(origin.path, earlier)
        except VersionDeleted:
            continue
        except BackendError as error:
            log.warning("former_version_unavailable", path=origin.path, version=earlier, error=type(error).__name__)
            break
        created_at = secret.created_at or 0.0
        for value in store.former_value(name, secret):  # what would be refused was never in force
            if value != successor:
                values.append((value, written))
            successor, written = value, created_at
    return values
