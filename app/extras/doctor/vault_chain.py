"""What stands between the service and the secrets of one Vault? The chain, from the address to the values."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import requests

from app.core.errors import BlueprintError, PermissionDenied, WouldIssue
from app.core.settings.app import AppSettings
from app.core.settings.dynamic import SCHEME
from app.core.settings.tool_names import as_given
from app.core.settings.vault import MAIN_VAULT
from app.core.store.overrides import Entry, read_entries, references_to
from app.core.store.source import Secret, SecretRef
from app.core.transport.http import open_http, vault_client
from app.core.transport.network_errors import not_vault
from app.core.transport.tls import vault_files
from app.core.vault.answers import malformed
from app.core.vault.errors import not_initialised, sealed, vault_errors
from app.core.vault.kv import VaultKV
from app.core.vault.policy import writing_grants
from app.core.vault.source import VaultSource
from app.extras.doctor.certificates import day
from app.extras.doctor.dynamic import NOT_DONE, examine_dynamic
from app.extras.doctor.findings import Check, Finding, of_entry, ok, renamed, walk, warning
from app.extras.doctor.login import OneLogin, log_in
from app.extras.doctor.network import Server, connect, resolve, shake_hands
from app.extras.doctor.production_vault import what_vault_tells
from app.extras.doctor.token import examine_token

# answered with 200 whatever the state, since it is the body that tells it; without a namespace, where it is refused
HEALTH = "/v1/sys/health?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"
SKEW = 30.0  # seconds; Vault forgives 60 in a JWT
WRITING = {"create", "update", "patch", "delete", "sudo"}


class VaultChain:
    """The steps of one Vault; they change nothing in it, and what a login brought is revoked in the end."""

    def __init__(
        self,
        settings: AppSettings,
        name: str,
        *,
        login: bool | None = None,
        production: bool = False,
        issue: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.promised: list[str] = []  # entries that Vault would issue, or the beginning of their names
        self.secrets: list[Secret] = []  # what the service would load
        self.complete = False  # or a secret that is missing may be one that could not be read
        self._all = settings
        self._own = own = settings.vault_settings(name)
        self._login_wanted = login
        self._for_production = production
        self._may_issue = issue
        self._clock = clock
        self._server = Server("Vault", own.url, own.timeout, vault_files(own), "VAULT_URL")
        self._session = OneLogin(own, name=name)
        self._http: requests.Session = requests.Session()
        self._ending = ExitStack()
        self._ending.callback(self._session.close)

    def findings(self) -> Iterator[Finding]:
        """Take the steps."""
        steps: dict[str, Check] = {
            "host name": partial(resolve, self._server),
            "connection": partial(connect, self._server),
            "TLS": self._tls,
            "status": self._status,
            "login": lambda: log_in(self._session, self._http, wanted=self._login_wanted),
            "token": self._token,
            "mount point": self._mount_point,
            "secrets": self._secrets,
        }
        if self._own.dynamic:
            steps["dynamic"] = lambda: examine_dynamic(self._session, self._own, may_issue=self._may_issue)
        if self._for_production:
            steps |= what_vault_tells(self._session, self._all, self.name)
        if self._own.access_mode != "read_only":
            steps["write prefix"] = self._write_prefix
        with self._ending:
            yield from map(self._in_its_words, walk(self.name, steps))

    def _tls(self) -> Iterator[Finding]:
        self._http = self._ending.enter_context(open_http(self._own, self.name))
        return shake_hands(self._server, self._http, HEALTH, self._clock())

    def _status(self) -> Iterator[Finding]:
        url = self._own.url
        with vault_errors(url, "sys/health"):
            answer = vault_client(self._own, self._http).adapter.get(HEALTH)
        match answer:
            case {"initialized": False}:
                raise not_initialised(url)
            case {"sealed": True}:
                raise sealed(url)
            case {"initialized": True, "sealed": False, "version": str(version)}:
                role = "a standby" if answer.get("standby") else "active"
                yield ok(f"version {version}, unsealed, {role}", url)
            case _:
                raise not_vault(url, "no health in it")
        there = answer.get("server_time_utc", self._clock())
        if not isinstance(there, int | float) or not math.isfinite(there):
            raise malformed(url, "server_time_utc")
        skew = self._clock() - there
        if abs(skew) > SKEW:
            apart = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Vault's"
            yield warning(f"{apart}: certificates and JWTs may not be good", "Fix the clocks: `timedatectl status`.")

    def _token(self) -> Iterator[Finding]:
        login = self._session.current()
        return examine_token(self._session, login) if login else iter(())

    def _mount_point(self) -> Iterator[Finding]:
        own = self._own
        if (
            own.secret_path
            or references_to(self._all.secrets, own.answers_to(self.name))
            or own.access_mode != "read_only"
        ):
            yield ok(f"KV version {VaultKV(self._session).check_mount()}", own.mount_point)
        else:
            yield ok("not needed: no SECRET_<NAME> refers to this Vault", own.mount_point)

    def _secrets(self) -> Iterator[Finding]:
        """Read what the service would read. A secret that fails does not keep the next one from being looked at."""
        kv, own = VaultKV(self._session), self._own
        source = VaultSource(own, self.name, self._all.secrets, self._session, may_issue=self._may_issue)
        entries = list(read_entries(source, self._all.secrets))
        self.secrets = [entry.found for entry in entries if isinstance(entry.found, Secret)]
        unissued = [entry for entry in entries if isinstance(entry.found, WouldIssue)]
        self.promised = [
            entry.label.removeprefix("SECRET_").lower() if entry.refers else f"{entry.label.removeprefix(SCHEME)}_"
            for entry in unissued
        ]
        self.complete = not any(isinstance(entry.found, BlueprintError) for entry in entries if entry not in unissued)
        places = [place for entry in entries if isinstance(entry.found, Secret) for place in entry.places]
        held = self._held(kv, {place: kv.api_path(place[0]) for place in places if not place[0].startswith(SCHEME)})
        yield from (ok(NOT_DONE, label) for label in dict.fromkeys(entry.label for entry in unissued))
        for entry in entries:
            if entry in unissued:
                continue
            may = sorted({what for place in entry.places for what in held.get(place, ())})
            text = _described(entry, own.mount_point) + (f"; the token may {', '.join(may)}" if may else "")
            yield of_entry(entry, text)
        for place, capabilities in held.items():
            if own.access_mode == "read_only" and (more := ", ".join(sorted(WRITING & {*capabilities}))):
                path = kv.api_path(place[0])
                remedy = f'Narrow it in the policy: path "{path}" {{ capabilities = ["read"] }}.'
                yield warning(f"the token may do more than read: {more}", remedy, path)

    def _held(self, kv: VaultKV, paths: dict[SecretRef, str]) -> dict[SecretRef, list[str]]:
        try:
            held = kv.capabilities([*dict.fromkeys(paths.values())]) if paths else {}
        except PermissionDenied:  # the step for the token has said so
            return {}
        return {place: held[path] for place, path in paths.items()}

    def _write_prefix(self) -> Iterator[Finding]:
        """Ask for the capabilities that the printed policy grants; nothing is written."""
        kv = VaultKV(self._session)
        needed = writing_grants(self._own.model_copy(update={"kv_version": kv.check_mount()}))
        held = kv.capabilities([*needed])
        # a patch is made by reading and writing where the token lacks that capability
        lacking = {path: sorted({*grants} - {*held[path], "patch"}) for path, grants in needed.items()}
        listed = "; ".join(
            f"{', '.join(some)} at {path}" for path, some in lacking.items() if some and "root" not in held[path]
        )
        where = f"{self._own.mount_point}/{self._own.write_prefix}"
        if listed:
            command = f"python -m app policy{'' if self.name == MAIN_VAULT else f' --vault {self.name}'}"
            remedy = f"Give its role the policy that `{command}` prints; `vault policy write` takes it."
            raise PermissionDenied(where, f"the token lacks {listed}", remedy)
        yield ok("the token may do all that writing takes", where)

    def _in_its_words(self, finding: Finding) -> Finding:
        """Name the variables as they are called for this Vault, and what helps a newcomer with the dev Vault."""
        if finding.status == "fault" and ".dev" in (self._own.role_id_file or Path()).parts:  # where `make seed` writes
            target = {"connection": "vault-up", "login": "seed"}.get(finding.step)
            finding = (
                replace(finding, remedy=f"{finding.remedy} For the dev Vault: `make {target}`.") if target else finding
            )
        is_main = self.name == MAIN_VAULT
        prefix = "VAULT_" if is_main else f"VAULTS__{self.name.upper().replace('-', '_')}__"
        names = {f"VAULT_{field.upper()}": f"{prefix}{field.upper()}" for field in type(self._own).model_fields}
        if is_main:
            names = {name: as_given(name) for name in names}
        for field in ("TOKEN", "ROLE_ID", "SECRET_ID", "JWT", "PASSWORD"):
            if file := getattr(self._own, f"{field.lower()}_file"):  # that is where the credential comes from
                names[f"VAULT_{field}"] = f"{names[f'VAULT_{field}_FILE']}={file}"
        return renamed(finding, names)


def _described(entry: Entry, mount_point: str) -> str:
    match entry.found:
        case Secret() as secret:
            version = "" if secret.version is None else f"version {secret.version}"
        case _:
            return ""
    if entry.refers:
        return ", ".join(dict.fromkeys(f"{mount_point}/{path}" for path, _ in entry.places)) + f" {version}".rstrip()
    written = "" if secret.created_at is None else f" of {day(secret.created_at)}"
    keys = ", ".join(sorted(secret.data)) or "none"
    return f"{version}{written}, keys: {keys}".removeprefix(", ")
