"""How do secrets come from one Vault? What is wanted of it is read over its one session, side by side."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from app.core.errors import BackendError
from app.core.settings.app import AppSettings
from app.core.settings.references import Reference, extract
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.store.overrides import Texts, load, references_to, resolve
from app.core.store.source import Connection, Secret, SecretRef, TokenLife
from app.core.transport.connections import POOL_SIZE
from app.core.vault.dynamic import DynamicCredentials, credentials_of
from app.core.vault.kv import VaultKV
from app.core.vault.session import VaultSession
from app.core.vault.sessions import get_session, held_session
from app.core.vault.token_life import TokenKeeper

# of the renewals of a token that leases hang on are logins: its max TTL would bring a fleet new leases all at once
INSTEAD_OF_TOKENS = 0.125


class VaultSource:
    """One of the Vaults that the settings name."""

    def __init__(
        self,
        settings: VaultSettings,
        name: str = MAIN_VAULT,
        texts: Texts = MappingProxyType({}),
        session: VaultSession | None = None,
        *,
        may_issue: bool = True,
    ) -> None:
        """`texts` are those of all `SECRET_<NAME>`; without a `session` the process's one with this Vault is used.

        Unless it `may_issue`, a dynamic secret that Vault would have to issue is an error: `WouldIssue`.
        """
        self.name = name
        self.settings = settings
        self.answers_to = settings.answers_to(name)
        self.awaited = name == MAIN_VAULT
        self.interval = settings.refresh_interval
        self.max_staleness = settings.max_staleness
        self._texts = texts
        self._session = session
        self._may_issue = may_issue
        self._dynamic = {(each.address, None): each for each in settings.dynamic}
        self._last: dict[SecretRef, Secret] = {}  # what was read last at each place
        self._in_force: dict[SecretRef, Secret] = {}  # the dynamic ones of the load that was taken in last
        self._wake: Callable[[], None] | None = None  # None: nobody loads again

    @property
    def session(self) -> VaultSession:
        """The session, made where there is none: a service that is started again has a new one."""
        return self._session or get_session(self.settings, self.name)

    def load(self) -> tuple[Secret, ...]:
        """Read every path in `VAULT_SECRET_PATH`, and all that a `SECRET_<NAME>` refers to here: one request a path.

        And every `VAULT_DYNAMIC__<NAME>`: what Vault has issued, or issues now. Raises a `BackendError`; if several
        things failed, one that lists them all.
        """
        try:
            loaded = load(self, self._texts)
        except BackendError as error:
            error.usable = self._rescued()
            raise
        return loaded

    def resolve(self, reference: Reference, *, may_issue: bool = True) -> tuple[Any, int | None]:
        """Read what one reference stands for, as the service would; return the value and its version."""
        self.session.catch_up()
        return resolve(self, reference, partial(self.read_many, may_issue=may_issue))

    def connection(self) -> Connection:
        """Say how Vault is reached and how long the token in force will live; looks at memory only."""
        own = self.settings
        place = "" if own.login_mount_point == own.auth_method else f" at auth/{own.login_mount_point}"
        session = self._session or held_session(own)
        login = session.current() if session else None
        if session is None or login is None:
            return Connection(own.url, f"{own.auth_method}{place}")
        leases = credentials_of(session).lives() if own.dynamic else {}
        left = session.time_left()
        life = TokenLife(login.lifetime, None if left == math.inf else left, login.auth.renewable)
        return Connection(own.url, f"{own.auth_method}{place}", life, leases)

    def how_to_set(self, entry: str, path: str | None) -> str:
        """Tell how to write the value of an entry, by default where the last of the paths is."""
        own = self.settings
        if path is None and not own.enabled:
            return f"Set VAULT_ENABLED=true (`make seed` writes a .env for the dev Vault), or SECRET_{entry.upper()}."
        if path is not None and (path, None) in self._dynamic:
            return f"Vault issues it: look at the role of {self._dynamic[path, None].path}."
        command = f"vault kv patch -mount={own.mount_point} {path or ([*own.paths] or ['PATH'])[-1]} {entry}=…"
        return f"Add it: `{command}`." if path is None else f"Write another value: `{command}`."

    def periodic(self) -> Mapping[str, Callable[[], float]]:
        """Renew the token, and replace it before it dies."""
        ticks = {f"token of {self.name}": TokenKeeper(lambda: self.session, instead=self._logins_instead).tick}
        if self.settings.dynamic:
            ticks[f"leases of {self.name}"] = lambda: self._credentials().tick()
        return ticks

    def _logins_instead(self) -> float:
        """Return the share of a token's renewals that are logins: none where nobody loads what they bring anew."""
        return INSTEAD_OF_TOKENS if self.settings.dynamic and self._wake is not None else 0.0

    def call_when_due(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when credentials must be replaced, or the token that they came by has been."""
        self._wake = wake

    def swapped(self, is_drained: Callable[[], bool]) -> None:
        """Take in that the credentials of the last load are in force, so that former ones can go."""
        if self.settings.dynamic:
            self._in_force = self._issued()
            self._credentials().swapped(is_drained)

    def refused(self, entries: Mapping[str, str]) -> None:
        """Have those credentials replaced that these entries come from."""
        referring = references_to(self._texts, self.answers_to)
        named = {entry: {each.name for each in found if each.is_dynamic} for entry, found in referring.items()}
        own = {each.address: each.name for each in self.settings.dynamic}
        names = {own[path] for path in entries.values() if path in own}.union(
            *(named.get(each, ()) for each in entries)
        )
        if names:
            self._credentials().refused(names)

    def named(self) -> Mapping[str, SecretRef]:
        """Return the paths in `VAULT_SECRET_PATH`, and the dynamic secrets."""
        paths: dict[str, SecretRef] = {
            f"{self.settings.mount_point}/{path}": (path, None) for path in self.settings.paths
        }
        return paths | {each.address: (each.address, None) for each in self.settings.dynamic}

    def may_be_missing(self, label: str) -> bool:
        """Tell whether the path has the mark of an optional one."""
        return self.settings.paths.get(label.removeprefix(f"{self.settings.mount_point}/"), False)

    def as_named(self, label: str, secret: Secret) -> Secret:
        """Return the secret: each of its keys is an entry; with the name in front, where Vault has issued it."""
        if (label, None) not in self._dynamic:
            return secret
        prefix = self._dynamic[label, None].name
        return replace(secret, data={f"{prefix}_{key}": value for key, value in secret.data.items()})

    def place_of(self, reference: Reference) -> SecretRef:
        """Return the path and the version."""
        return reference.resource, reference.version

    def extract(self, reference: Reference, secret: Secret) -> Any:
        """Return the key that is meant, or the whole secret."""
        return extract(reference, secret.data)

    def read_many(self, places: Sequence[SecretRef], *, may_issue: bool | None = None) -> list[Secret | BackendError]:
        """Read several paths and versions, side by side if there is more than one."""
        kv, issues = VaultKV(self.session), self._may_issue if may_issue is None else may_issue

        def read(place: SecretRef) -> Secret | BackendError:
            try:
                if place in self._dynamic:
                    found = self._credentials().current(self._dynamic[place], may_issue=issues)
                else:
                    found = kv.read(*place)
            except BackendError as error:
                return self._in_its_words(error)
            self._last[place] = found
            return found

        if len(places) <= 1:
            return [read(place) for place in places]
        with ThreadPoolExecutor(min(len(places), POOL_SIZE), thread_name_prefix="vault-read") as pool:
            return list(pool.map(read, places))

    def _issued(self) -> dict[SecretRef, Secret]:
        return {place: secret for place, secret in self._last.items() if place in self._dynamic}

    def _rescued(self) -> tuple[Secret, ...]:
        """Return what can be taken in although some of it could not be read: new credentials, and the rest as before.

        The former credentials are going to end; without new ones there is nothing, since all else comes by the rounds.
        """
        if self._issued() == self._in_force:
            return ()

        def read(places: Sequence[SecretRef]) -> list[Secret | BackendError]:
            return [self._last.get(place) or BackendError(place[0], "it was never read", "") for place in places]

        with suppress(BackendError):
            return load(self, self._texts, read)
        return ()

    def _credentials(self) -> DynamicCredentials:
        """Return what Vault has issued over the session in force; a service that is started again has a new one."""
        credentials = credentials_of(self.session)
        if self._wake is not None:  # another source with this session, which only reads, must not silence this one
            credentials.wake = self._wake
        return credentials

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
