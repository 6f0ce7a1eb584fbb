"""What may answer in Conjur's place, and what must then be said: by the service, and by the doctor."""

from dataclasses import dataclass

from app.core.errors import BackendError, ServerFault, UnexpectedAnswer, VaultRateLimited
from infrastructure.faulty_proxy import Fault

HTML = (("Content-Type", "text/html"),)
IN_FRONT = "something in front of Conjur, such as a load balancer,"


@dataclass(frozen=True)
class InFront:
    """An answer of somebody else's."""

    status: int
    body: bytes
    kind: type[BackendError]
    said: str
    location: str = ""

    def answer(self, _method: str, path: str) -> Fault:
        """Give it, whatever is asked."""
        headers = (("Location", self.location + path),) if self.location else HTML
        return Fault(self.status, headers, self.body)


MISTAKES = {
    "a load balancer without a Conjur": InFront(502, b"<html>", ServerFault, f"{IN_FRONT} answers with HTTP 502"),
    "one that gave up": InFront(504, b"", ServerFault, f"{IN_FRONT} answers with HTTP 504"),
    "a page for a fault": InFront(500, b"<html>", ServerFault, f"{IN_FRONT} answers with HTTP 500"),
    "one with a limit": InFront(429, b"<html>", VaultRateLimited, f"too many requests (HTTP 429), says {IN_FRONT}"),
    "one that wants https": InFront(
        301,
        b"",
        UnexpectedAnswer,
        "CONJUR_APPLIANCE_URL redirects to https://conjur.example.com. Set CONJUR_APPLIANCE_URL to https://conjur.",
        "https://conjur.example.com",
    ),
}
