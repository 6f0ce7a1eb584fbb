"""The client of docs/dynamic-secrets.md works as written: its certificate changes under load, and no request fails."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509

from app.core.store.rotating import Rotating
from app.core.transport.issued import present
from tests.pages import blocks
from tests.support import Vault, in_thread, unique, until


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        shown = x509.load_der_x509_certificate(self.connection.getpeercert(binary_form=True) or b"")
        body = str(shown.serial_number).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def issued(vault: Vault, mount: str) -> dict[str, Any]:
    """Have a certificate issued."""
    sent = {"common_name": "localhost", "ip_sans": "127.0.0.1", "ttl": "1h"}
    data: dict[str, Any] = vault.client.write_data(f"{mount}/issue/shop", data=sent)["data"]
    return data


@pytest.fixture
def mount(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where a CA is mounted that this process trusts."""
    vault.client.sys.enable_secrets_engine("pki", path=(path := unique("pki")))
    ca = vault.client.write_data(
        f"{path}/root/generate/internal", data={"common_name": "CA", "ttl": "2h", "key_type": "ec"}
    )
    vault.client.write_data(
        f"{path}/roles/shop", data={"allow_any_name": True, "allow_ip_sans": True, "key_type": "ec"}
    )
    (file := tmp_path / "ca.pem").write_text(ca["data"]["certificate"])
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return path


@contextmanager
def serving(data: dict[str, Any], ca: str) -> Iterator[str]:
    """Serve over TLS, to those who present a certificate of this CA."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    present(context, data["private_key"], data["certificate"], data["ca_chain"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with in_thread(server):
        yield f"https://127.0.0.1:{server.server_port}"


def test_five_certificates_and_no_failed_request(vault: Vault, mount: str, tmp_path: Path) -> None:
    """The partner sees each of them, and nobody without one."""
    (code,) = blocks("docs/dynamic-secrets.md", "python")
    names: dict[str, Any] = {}
    exec(compile(code, "partner.py", "exec"), names)
    partner: Rotating[httpx2.AsyncClient] = names["partner"]

    async def run(url: str) -> tuple[set[str], int]:
        over, seen, count = asyncio.Event(), set[str](), 0

        async def call() -> None:
            nonlocal count
            while not over.is_set():
                async with partner.borrow() as client:
                    seen.add((await client.get(url)).raise_for_status().text)
                count += 1

        async def follow() -> str:
            data = await asyncio.to_thread(issued, vault, mount)
            await partner.follow({f"tls_{name}": value for name, value in data.items()})
            return str(int(data["serial_number"].replace(":", ""), 16))

        shown = [await follow()]
        async with asyncio.TaskGroup() as callers:
            for _ in range(4):
                callers.create_task(call())
            for _ in range(5):
                await asyncio.to_thread(until, lambda: shown[-1] in seen, "it to be presented")
                shown.append(await follow())
            await asyncio.to_thread(until, lambda: shown[-1] in seen, "the last one to be presented")
            over.set()
        await partner.aclose()
        assert set(shown) <= seen
        return seen, count

    with serving(issued(vault, mount), str(tmp_path / "ca.pem")) as url:
        seen, count = asyncio.run(run(url))
        assert len(seen) == 6
        assert count >= 6
        with pytest.raises(httpx2.TransportError):
            httpx2.get(url, verify=ssl.create_default_context())
