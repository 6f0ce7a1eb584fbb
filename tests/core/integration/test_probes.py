"""What a load balancer asks with HEAD, over a connection that it keeps."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import DEADLINE, SECRETS, Service

READY = {f"SECRET_{name.upper()}": value for name, value in SECRETS.items()}
CHANGING = {"x-request-id", "date"}


class Connection:
    """One connection, looked at byte by byte: a client library would read over a body that is not to be there."""

    def __init__(self, service: Service) -> None:
        self._host = urlsplit(service.url).netloc
        address, _, port = self._host.partition(":")
        self._socket = socket.create_connection((address, int(port)), DEADLINE)
        self._read = self._socket.makefile("rb")

    def ask(self, method: str, path: str) -> tuple[int, dict[str, str]]:
        """Return status and headers of an answer; the body is read only where GET has asked for it."""
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        version, status, _ = self._read.readline().decode().split(" ", 2)
        assert version == "HTTP/1.1", "something was sent behind the answer before"
        lines = iter(lambda: self._read.readline().decode().strip(), "")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if method != "HEAD":
            self._read.read(int(headers["content-length"]))
        return int(status), headers

    def close(self) -> None:
        """End it."""
        self._read.close()
        self._socket.close()


@pytest.mark.parametrize(("variables", "readiness"), [(READY, 200), ({}, 503)], ids=["ready", "not ready"])
def test_head_answers_as_get_does_without_a_body(tmp_path: Path, variables: dict[str, str], readiness: int) -> None:
    """The same status and the same headers; the connection goes on, and the request is counted."""
    expected = {"/health/live": 200, "/health/ready": readiness}
    expected["/metrics"] = 200  # extra: metrics
    with Service(tmp_path, variables) as service:
        connection = Connection(service)
        try:
            for path, status in expected.items():
                answers = [connection.ask(method, path) for method in ("HEAD", "GET", "HEAD")]
                assert [answer[0] for answer in answers] == [status] * 3, path
                head, get, _ = ({k: v for k, v in headers.items() if k not in CHANGING} for _, headers in answers)
                if path == "/metrics":  # its figures have changed meanwhile
                    head["content-length"] = get["content-length"]
                assert head == get, path
        finally:
            connection.close()
        counted = service.get("/metrics").text  # extra: metrics
        paths = service.get("/openapi.json").json()["paths"]
    # extra: metrics
    for path, status in expected.items():
        labels = f'{{method="HEAD",route="{path}",status="{status}"}}'
        assert f"_http_request_duration_seconds_count{labels} 2.0" in counted, path
    # /extra
    assert "head" not in {method for operations in paths.values() for method in operations}


def test_a_refused_method_is_told_which_are_allowed(tmp_path: Path) -> None:
    """All of them, however many functions answer one path."""
    expected = {
        "/health/live": (405, "GET, HEAD"),
        "/health/ready": (405, "GET, HEAD"),
        "/docs": (405, "GET, HEAD"),
        "/caller": (405, "POST"),
    }
    expected["/metrics"] = (405, "GET, HEAD")  # extra: metrics
    expected |= {"/api-keys": (405, "GET, POST"), "/api-keys/x": (405, "DELETE")}  # extra: api_keys
    with Service(tmp_path, READY) as service:
        connection = Connection(service)
        allowed = {
            path: (status, headers.get("allow"))
            for path in expected
            for status, headers in [connection.ask("PUT", path)]
        }
        connection.close()
    assert allowed == expected
