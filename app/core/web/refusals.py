"""Who sends keys and tokens that are none? A guess leaves a trace; many of them, no flood of lines."""

import asyncio
from contextvars import Context
from typing import Literal

from starlette.requests import HTTPConnection

from app.core.logs.event_log import Listeners
from app.core.logs.logging_config import get_logger
from app.core.logs.redaction import cut

Credential = Literal["api_key", "token"]

PERIOD = 10.0  # seconds between two lines, at least
MOST_CLIENTS = 8  # that one line names
LONGEST_ADDRESS = 64  # characters; a proxy that is trusted may pass on anything

log = get_logger(__name__)


class Refusals(Listeners[Credential]):
    """Counts what was sent and refused; for the event loop only. Listeners hear of each."""

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[str, int] = {}  # since the last line
        self._silent_in: asyncio.AbstractEventLoop | None = None  # until the period is over

    def start_afresh(self) -> None:
        """Count for this process only."""
        super().start_afresh()
        self._clients, self._silent_in = {}, None

    def record(self, connection: HTTPConnection, kind: Credential) -> None:
        """Count one; the first is logged at once, the others together when the period is over."""
        client = cut(connection.client.host, LONGEST_ADDRESS) if connection.client else "unknown"
        if client not in self._clients and len(self._clients) >= MOST_CLIENTS:
            client = "others"
        self._clients[client] = self._clients.get(client, 0) + 1
        if self._silent_in is not asyncio.get_running_loop():
            self._tell()
        self.notify(kind)

    def _tell(self) -> None:
        self._silent_in = None
        if self._clients:
            log.warning("credentials_refused", clients=self._clients, count=sum(self._clients.values()))
            self._clients = {}
            self._silent_in = asyncio.get_running_loop()
            self._silent_in.call_later(PERIOD, self._tell, context=Context())  # of no request: it tells of many
