"""Who calls the service while its database's credentials change, and what came of it?"""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from infrastructure.processes import DEADLINE, Callers

QUERIES_A_REQUEST = 2  # as whom the connection is logged in, and the INSERT
LEAST_QUERIES = 200  # a second
HEALS_WITHIN = 2.0  # seconds, after the database has returned
DATABASE_RESTARTED = "database restarted"


@dataclass
class Row:
    """What one fault did."""

    fault: str
    requests: int
    rate: float  # queries a second
    failed: dict[str, int]  # how often, by status or error
    healed: float  # seconds from the end of the fault to the last failure
    seen: bool  # the fault left its mark

    @property
    def is_bad(self) -> bool:
        """Whether a promise was broken."""
        allowed = {"503"} if self.fault == DATABASE_RESTARTED else set()
        return bool(set(self.failed) - allowed) or self.healed > HEALS_WITHIN or not self.seen


class Load(Callers):
    """Callers that write rows without pause."""

    def __init__(self, url: str, key: str, threads: int = 8) -> None:
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}
        self._address = urlsplit(url).netloc
        self.sent = 0
        self.failures: list[tuple[float, str]] = []
        super().__init__(threads)

    def call(self) -> None:
        """Send requests."""
        connection = http.client.HTTPConnection(self._address, timeout=DEADLINE)
        while not self.done.is_set():
            try:
                connection.request("POST", "/notes", b'{"text": "a note"}', self._headers)
                answer = connection.getresponse()
                answer.read()
                said = str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                said = type(error).__name__
            self.sent += 1  # a count that is one too low now and then does no harm
            if said != "201":
                self.failures.append((time.monotonic(), said))
                time.sleep(0.02)
        connection.close()
