"""May a secret be older than it was a moment ago? Only if the leader says so: after a backup was restored, say.

A lower version than the one that was read or written before, or none at all, comes from a standby that lags; so does a
secret that this process has just removed, and a list without one that it has just made. Then the leader is asked, by
the headers of `Consistency`. A server that knows no such headers is asked again a few times; if it stays with its
answer, that counts if a leader, or the only node, has given it (`GET sys/leader`).
"""

from collections.abc import Callable
from typing import Any, TypeVar

from app.core.errors import BackendError, MountMissing, NotCaughtUp, PathMissing
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.vault.answers import checked_names
from app.core.vault.session import VaultSession

TRIES, PAUSE = 5, 0.2  # seconds between them; a follower is a tenth of a second behind, as a rule

log = get_logger(__name__)

A = TypeVar("A")
Answer = tuple[dict[str, Any] | PathMissing, int]  # and which version it is of; 0: there is none


class NeverBackwards:
    """Asks about one secret, or one folder."""

    def __init__(self, session: VaultSession, where: str, fetch: Callable[..., Any]) -> None:
        """`where` is the mount point and the path; `fetch(headers=…)` sends the request and returns the answer."""
        self._session = session
        self._where = where
        self._fetch = fetch

    def read(self) -> Any:
        """Return the answer, or raise `PathMissing`; raise `NotCaughtUp` if it cannot be told what counts."""
        held = self._session.secret_versions.get(self._where, 0)
        is_removed = self._session.changes.is_removed(self._where)
        answer, version = self._settled(
            self._ask, lambda found: held <= found[1] and not (is_removed and found[1]), held
        )
        if version < held:
            self._tell_of_older(version, held)
        if version:
            self._session.secret_versions[self._where] = version
        else:
            self._session.secret_versions.pop(self._where, None)
        if isinstance(answer, PathMissing):
            raise answer
        return answer

    def names(self) -> list[str]:
        """Return the names in a folder, none if there is no such folder; raise as `read` does."""
        return self._settled(self._list, lambda names: self._session.changes.agree(self._where, names))

    def _list(self, **more: Any) -> list[str]:
        try:
            return checked_names(self._fetch(**more), self._where)
        except MountMissing:
            raise
        except PathMissing:
            return []

    def _ask(self, **more: Any) -> Answer:
        """Return an answer and which version it is of, be it deleted."""
        try:
            answer = self._fetch(**more)
        except MountMissing:
            raise
        except PathMissing as error:
            return error, 0
        match answer:
            case {"data": {"metadata": {"version": int(version)}} | {"current_version": int(version)}}:
                return answer, version
            case _:  # the caller says what is wrong with it
                return answer, self._session.secret_versions.get(self._where, 0)

    def _settled(self, ask: Callable[..., A], is_good: Callable[[A], bool], held: int = 0) -> A:
        answer = ask()
        if is_good(answer):
            return answer
        if headers := self._session.consistency.from_the_leader():
            return ask(headers=headers)
        for _ in range(TRIES):
            self._session.wait(PAUSE)
            answer = ask()
            if is_good(answer):
                return answer
        if self._is_answered_by_a_leader():
            return answer
        raise self._not_caught_up(answer, held)

    def _not_caught_up(self, answer: object, held: int) -> NotCaughtUp:
        url = self._session.settings.url
        match answer:
            case _, 0 if held:
                cause = f"{url} has no version of it, after version {held}, and is no leader"
            case _, int(version) if held:
                cause = f"{url} has version {version} of it, after version {held}, and is no leader"
            case _:
                cause = f"{url} does not know yet what was just written or removed there, and is no leader"
        remedy = "Look how far its standbys are; if a backup was restored, ask the leader (VAULT_URL), or start again."
        return NotCaughtUp(self._where, cause, remedy)

    def _tell_of_older(self, version: int, held: int) -> None:
        log.warning("secret_version_went_back", path=self._where, old=held, new=version)
        found = f"version {version}" if version else "none any more"
        detail = f"{self._where}: the leader has {found}, after version {held}: removed, or a backup was restored"
        journal.record("rotation", self._session.name, detail=detail)

    def _is_answered_by_a_leader(self) -> bool:
        where = "sys/leader"
        try:
            answer = self._session.call(where, lambda client: client.adapter.get(f"/v1/{where}"))
        except BackendError:
            return False
        return isinstance(answer, dict) and (answer.get("is_self") is True or answer.get("ha_enabled") is False)
