"""How does a read see what was written before it, whichever node answers? A standby may lag behind the active node.

Standbys of OpenBao (2.5 and later) and performance standbys of Vault Enterprise answer reads themselves. The active
node says in `X-Vault-Index` how far the cluster's storage is. A request that repeats it is passed on by a standby that
is not as far yet (`X-Vault-Inconsistent: forward-active-node`). Servers that know neither header ignore both.
"""

import base64
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import requests

from app.core import forks

INDEX = "X-Vault-Index"
FORWARD = {"X-Vault-Inconsistent": "forward-active-node"}
FAR = 2**62  # no storage gets there
LAG = 10.0  # seconds; a follower is a tenth of a second behind, as a rule


class _Index(NamedTuple):
    """What an index says, as far as it can be understood."""

    text: str
    cluster: str = ""
    progress: tuple[int, ...] = ()

    def is_behind(self, other: "_Index") -> bool:
        comparable = self.cluster == other.cluster and len(self.progress) == len(other.progress)
        return comparable and self.progress < other.progress


class Consistency:
    """The newest state of a cluster that this process has seen; every request asks for no older one."""

    def __init__(self) -> None:
        self._newest: _Index | None = None
        self._lock = forks.Lock()

    def watch(self, http: requests.Session) -> None:
        """Look at every answer that comes over these connections, and add to every request."""
        http.auth = self._ask  # the place where requests lets one see each request as it goes out
        http.hooks["response"].append(self._learn)

    def from_the_leader(self) -> dict[str, str] | None:
        """Return the headers with which the active node answers, whichever node is asked; None if nothing else helps.

        OpenBao's index can be put beyond what any standby has. Vault Enterprise signs its own, so that a standby may
        answer all the same if it is as far as all that this process has seen.
        """
        newest = self._newest
        if newest is None:
            return None
        text = newest.text
        if len(newest.progress) == 1:
            text = base64.b64encode(json.dumps({"cluster": newest.cluster, "value": str(FAR)}).encode()).decode()
        return {INDEX: text, **FORWARD}

    def _ask(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        newest = self._newest
        if newest is not None:
            for name, value in {INDEX: newest.text, **FORWARD}.items():
                request.headers.setdefault(name, value)
        return request

    def _learn(self, answer: requests.Response, **_: Any) -> None:
        text = answer.headers.get(INDEX)
        if answer.status_code == HTTPStatus.BAD_REQUEST and INDEX.encode() in answer.content:
            self._newest = None  # this server cannot read what another one has written: the next request does without
        elif text:
            found = _understood(text)
            with self._lock:
                if self._newest is None or not found.is_behind(self._newest):
                    self._newest = found


class RecentChanges:
    """Which secrets this process has just made or removed: a node that lags does not know it yet."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changes: dict[str, tuple[float, bool]] = {}  # by mount point and path: when, and whether it is there
        self._lock = forks.Lock()

    def note(self, where: str, *, is_there: bool) -> None:
        """Keep it in mind, for `LAG` seconds."""
        now = self._clock()
        with self._lock:
            self._changes = {each: known for each, known in self._changes.items() if known[0] > now - LAG}
            self._changes[where] = now, is_there

    def is_recent(self, where: str) -> bool:
        """Tell whether a secret was just made or removed."""
        return where in self._recent()

    def is_removed(self, where: str) -> bool:
        """Tell whether a secret was removed, and not made again."""
        return self._recent().get(where) is False

    def agree(self, folder: str, names: list[str]) -> bool:
        """Tell whether a folder may have these names."""
        parts = [(each.rpartition("/"), is_there) for each, is_there in self._recent().items()]
        return all((name in names) == is_there for (parent, _, name), is_there in parts if parent == folder)

    def _recent(self) -> dict[str, bool]:
        now = self._clock()
        return {each: is_there for each, (then, is_there) in self._changes.items() if then > now - LAG}


def _understood(text: str) -> _Index:
    """Read an index of OpenBao's (`{"cluster": …, "value": "17"}`) or Vault's (`v1:CLUSTER:LOCAL:REPLICATED:HMAC`)."""
    try:
        plain = base64.b64decode(text, validate=True).decode()
        match plain.split(":"):
            case ["v1", cluster, local, replicated, _]:
                return _Index(text, cluster, (int(local), int(replicated)))
        match json.loads(plain):
            case {"cluster": str(cluster), "value": str(value)}:
                return _Index(text, cluster, (int(value),))
    except ValueError:
        pass
    return _Index(text)
