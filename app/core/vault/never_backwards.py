"""May a secret be older than it was a moment ago? Only if the leader says so: after a backup was restored, say.

A lower version than the one that was read or written before, or none at all, comes from a standby that lags. Then the
leader is asked, by the headers of `Consistency`. A server that knows no such headers is asked again a few times; if it
stays with its answer, that counts if a leader, or the only node, has given it (`GET sys/leader`).
"""

from collections.abc import Callable
from typing import Any

from app.core.errors import BackendError, MountMissing, NotCaughtUp, PathMissing
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.vault.session import VaultSession

TRIES, PAUSE = 5, 0.2  # seconds between them; a follower is a tenth of a second behind, as a rule

log = get_logger(__name__)

Answer = dict[str, Any] | PathMissing


class NeverBackwards:
    """Reads the latest version of one secret."""

    def __init__(self, session: VaultSession, where: str, fetch: Callable[..., Any]) -> None:
        """`where` is the mount point and the path; `fetch(headers=…)` sends the request and returns the answer."""
        self._session = session
        self._where = where
        self._fetch = fetch

    def read(self) -> Any:
        """Return the answer, or raise `PathMissing`; raise `NotCaughtUp` if it cannot be told what counts."""
        held = self._session.secret_versions.get(self._where, 0)
        answer, version = self._ask()
        if version < held:
            answer, version = self._settle(held)
        if version:
            self._session.secret_versions[self._where] = version
        else:
            self._session.secret_versions.pop(self._where, None)
        if isinstance(answer, PathMissing):
            raise answer
        return answer

    def _ask(self, **more: Any) -> tuple[Answer, int]:
        """Return an answer and which version it is of, be it deleted; 0 if there is none."""
        try:
            answer = self._fetch(**more)
        except MountMissing:
            raise
        except PathMissing as error:
            return error, 0
        match answer:
            case {"data": {"metadata": {"version": int(version)}}}:
                return answer, version
            case _:
                return answer, 0

    def _settle(self, held: int) -> tuple[Answer, int]:
        headers = self._session.consistency.from_the_leader()
        if headers:
            answer, version = self._ask(headers=headers)
        else:
            answer, version = self._ask_again(held)
        if version < held:
            log.warning("secret_version_went_back", path=self._where, old=held, new=version)
            found = f"version {version}" if version else "none any more"
            detail = f"{self._where}: the leader has {found}, after version {held}: removed, or a backup was restored"
            journal.record("rotation", self._session.name, detail=detail)
        return answer, version

    def _ask_again(self, held: int) -> tuple[Answer, int]:
        for _ in range(TRIES):
            self._session.wait(PAUSE)
            answer, version = self._ask()
            if version >= held:
                return answer, version
        if self._is_answered_by_a_leader():
            return answer, version
        found = f"version {version}" if version else "no version"
        cause = f"{self._session.settings.url} has {found} of it, after version {held}, and is no leader"
        remedy = "Look how far its standbys are; if a backup was restored, ask the leader (VAULT_URL), or start again."
        raise NotCaughtUp(self._where, cause, remedy)

    def _is_answered_by_a_leader(self) -> bool:
        where = "sys/leader"
        try:
            answer = self._session.call(where, lambda client: client.adapter.get(f"/v1/{where}"))
        except BackendError:
            return False
        return isinstance(answer, dict) and (answer.get("is_self") is True or answer.get("ha_enabled") is False)
