"""What the environment cannot do to the connections to Vault, and what is said of their files."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from app.config import get_settings
from app.core.logs.logging_config import configure_logging
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http
from infrastructure.faulty_proxy import FaultyProxy
from tests.pki import Authority
from tests.support import in_thread


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def tls_server(authority: Authority) -> Iterator[str]:
    """Serve with a certificate that this authority has issued; return the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with in_thread(server):
        yield f"https://127.0.0.1:{server.server_port}"


def test_no_variable_switches_verification_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor does one make a CA trusted: only `VAULT_CACERT` does."""
    authority = Authority(tmp_path / "ca")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "VAULT_CAPATH", "BAO_CACERT"):
        monkeypatch.setenv(name, str(authority.file))
    for name, value in {"VAULT_SKIP_VERIFY": "true", "BAO_SKIP_VERIFY": "1", "PYTHONHTTPSVERIFY": "0"}.items():
        monkeypatch.setenv(name, value)
    with tls_server(authority) as url:
        with open_http(VaultSettings(url=url)) as http, pytest.raises(requests.exceptions.SSLError):
            http.get(url, timeout=5)
        with open_http(VaultSettings(url=url, cacert=authority.file)) as http:
            assert http.get(url, timeout=5).ok


@pytest.mark.parametrize("variable", ["VAULT_URL", "VAULT_ADDR"])
def test_an_address_with_slips_leads_to_the_same_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """In capitals, and with the line end of a file: over TLS, with the CA that is configured, and no proxy."""
    authority = Authority(tmp_path / "ca")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with tls_server(authority) as url:
        monkeypatch.setenv(variable, url.replace("https://127.0.0.1", "HTTPS://LocalHost") + "\r\n")
        monkeypatch.setenv("VAULT_CACERT", f"{authority.file}\n")
        settings = get_settings().vault
        assert settings.url == url.replace("127.0.0.1", "localhost")
        with open_http(settings) as http:
            assert http.get(settings.url, timeout=5).ok


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would see the token in the clear; `NO_PROXY` is forgotten only too easily."""
    vault, proxy = FaultyProxy("http://127.0.0.1:9"), FaultyProxy("http://127.0.0.1:9")
    with vault.running() as url, proxy.running() as proxy_url:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy_url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with open_http(VaultSettings(url=url)) as http:
            assert http.get(f"{url}/v1/x", timeout=5).status_code == 502
        with open_http(VaultSettings(url="http://vault.example.com")) as http:
            http.get("http://vault.example.com/v1/y", timeout=5)
    assert vault.requests[0] == ("GET", "/v1/x")
    assert {path for _, path in proxy.requests} == {"http://vault.example.com/v1/y"}


def test_a_client_key_that_others_may_read_is_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Like every other credential file."""
    configure_logging("INFO", "json")
    certificate, key = Authority(tmp_path / "ca").issue("app")
    key.chmod(0o644)
    open_http(VaultSettings(url="https://127.0.0.1:9", client_cert=certificate, client_key=key)).close()
    (event,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (event["event"], event["variable"], event["file"]) == (
        "credential_file_exposed",
        "VAULT_CLIENT_KEY",
        str(key),
    )
