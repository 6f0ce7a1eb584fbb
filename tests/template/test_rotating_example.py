"""What docs/rotating-objects.md shows works as written, in a copy of the project: a key rotates, no request fails."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.pages import add_to, blocks
from tests.support import ROOT, SECRETS, YOURS, Service, Vault, environment, in_thread, unique, until
from tests.template.clone import as_shipped

PAGE = "docs/rotating-objects.md"
ADMIN = {"X-API-Key": SECRETS["api_key"]}
CALLERS = 4
UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}  # the copy is gone when the report is made


def key(n: int) -> str:
    """Return a key of the partner's."""
    return f"canary-partner-key-{n}"


def build_clone(clone: Path) -> None:
    """Copy the service, and put each code block of the page where its first line says."""
    shutil.copytree(ROOT / "app", clone / "app", ignore=shutil.ignore_patterns("__pycache__"))
    assert add_to(clone, PAGE) == len(blocks(PAGE, "python")) == 6


class Partner(ThreadingHTTPServer):
    """Accepts exactly the keys in `accepted`, and remembers all that it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accepted = {key(1)}
        self.served: set[str] = set()
        self.sent: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve until the block ends."""
        with in_thread(self):
            yield f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Partner

    def do_GET(self) -> None:
        self.server.sent.add(str(self.headers))
        presented = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        is_good = presented in self.server.accepted
        if is_good:
            self.server.served.add(presented)
        body = json.dumps({"orders": [1, 2]} if is_good else {}).encode()
        self.send_response(200 if is_good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Callers:
    """Several who ask for the orders without pause."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._done = threading.Event()
        self.count = 0
        self.failed: list[str] = []

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Ask until the block ends."""
        threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()

    def _run(self) -> None:
        while not self._done.is_set():
            answer = self._service.get("/orders", headers=ADMIN)
            self.count += 1
            if answer.status_code != 200 or answer.json() != {"orders": [1, 2]}:
                self.failed.append(answer.text)

    def go_on(self) -> None:
        """Wait until each of them has had some answers more."""
        enough = self.count + 10 * CALLERS
        until(lambda: self.count >= enough, "the callers")


def warnings(service: Service) -> str:
    """Return what a ready service warns of."""
    answer = service.get("/health/ready")
    assert answer.status_code == 200, answer.text
    return " ".join(answer.json().get("warnings", []))


@as_shipped
@pytest.mark.parametrize("ahead", ["Vault", "the partner"])
def test_the_example_rotates_under_load(vault: Vault, tmp_path: Path, ahead: str) -> None:
    """Whichever side learns of the new key first; the old key is closed out, and no key of ours ever leaves."""
    build_clone(tmp_path)
    vault.write(path := unique("partner"), {**SECRETS, "partner_key": key(1)})
    partner = Partner()
    with partner.running() as url:
        variables = environment({**vault.app_role(path), "refresh_interval": "0.3"})
        with Service(tmp_path, {**variables, **UNMEASURED, "PARTNER_URL": url}, YOURS) as service:
            assert service.get("/orders").status_code == 401, "it is not open to everybody"
            callers = Callers(service)
            with callers.calling():
                for n in (2, 3):
                    callers.go_on()
                    if ahead == "the partner":
                        partner.accepted.add(key(n))
                    vault.write(path, {**SECRETS, "partner_key": key(n)})
                    if ahead == "Vault":
                        until(lambda: "partner: the new one failed" in warnings(service), "the failed check to show")
                        callers.go_on()
                        assert key(n) not in partner.served
                        partner.accepted.add(key(n))
                    until(lambda n=n: key(n) in partner.served and not warnings(service), "the new key")  # type: ignore[misc]
                    until(lambda n=n: is_rotated(service, n - 1), "the swap")  # type: ignore[misc]
                    callers.go_on()  # those who had borrowed the old client are done with it
                    partner.accepted.remove(key(n - 1))
                    callers.go_on()
            assert callers.failed == []
            service.stop()
    assert "canary" not in service.output
    assert not [headers for headers in partner.sent if SECRETS["api_key"] in headers]


def is_rotated(service: Service, times: int) -> bool:
    """Tell whether the client was swapped so many times."""
    swaps = [each for each in service.events if each["event"] == "object_rotated" and each["object"] == "partner"]
    return len(swaps) == times


def test_production_asks_for_https_to_the_partner(tmp_path: Path) -> None:
    """As it does for Vault."""
    build_clone(tmp_path)
    service = Service(
        tmp_path, {**UNMEASURED, "ENVIRONMENT": "production", "PARTNER_URL": "http://partner.example.com"}, YOURS
    )
    try:
        until(lambda: service.process.poll() is not None, "the start to be refused")
    finally:
        service.stop()
    assert "PARTNER_URL: sends secrets in the clear" in service.output
