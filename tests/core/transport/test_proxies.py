"""A proxy of the environment is used as the documents promise, within the time of the call, and named when it fails."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import BackendError, VaultUnreachable
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http, vault_client
from app.core.transport.proxies import proxies_for, proxy_for
from app.core.vault.errors import vault_errors
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.pki import Authority
from tests.support import free_port
from tests.trickling import Script, answering, served

VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    """Run a proxy that answers everything by itself."""
    proxy = FaultyProxy("http://127.0.0.1:9", lambda *_: Fault(200, body=b'{"data": {}}'))
    with proxy.running():
        yield proxy


def ask(url: str, **more: Any) -> Any:
    """Send one request, as the service does."""
    settings = VaultSettings.model_validate({"url": url, **more})
    with open_http(settings) as http, vault_errors(url, "a call"):
        return vault_client(settings, http).adapter.get("/v1/x")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_used(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Whichever variable names it, also without a scheme, and with credentials, which go to it alone."""
    monkeypatch.setenv(variable, proxy.url.replace("http://", "http://app:canary@"))
    assert ask("http://vault.example.com") == {"data": {}}
    assert proxy.requests == [("GET", "http://vault.example.com/v1/x")]
    assert proxy.headers[0]["Proxy-Authorization"].startswith("Basic ")
    monkeypatch.setenv(variable, proxy.url.removeprefix("http://"))
    assert ask("http://vault.example.com") == {"data": {}}


@pytest.mark.parametrize("except_for", ["vault.example.com", ".example.com", "*"])
def test_what_needs_none_goes_past_it(monkeypatch: pytest.MonkeyPatch, except_for: str) -> None:
    """By `NO_PROXY`, and on this machine."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", except_for)
    for url in ("https://vault.example.com", "https://127.0.0.1", "https://localhost:8200", "https://[::1]:8200"):
        assert proxies_for(url) == {}
        assert proxy_for(url) is None


@pytest.mark.parametrize(
    ("environment", "url", "variable"),
    [
        ({"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://p:2"}, "https://v", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://p:2"}, "http://v", "HTTP_PROXY"),
        ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://p:2"}, "https://v", "https_proxy"),
        ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://p:1"}, "https://v", "https_proxy"),
        ({"ALL_PROXY": "http://p:1"}, "https://v", "ALL_PROXY"),
        ({"all_proxy": "http://p:1", "HTTP_PROXY": "http://p:1"}, "https://v", "all_proxy"),
        ({"ALL_PROXY": "http://p:2", "HTTPS_PROXY": "http://p:1"}, "https://v", "HTTPS_PROXY"),
    ],
    ids=str,
)
def test_the_variable_that_counts_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, variable: str
) -> None:
    """And not one that would count for another scheme, or less."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert found is not None
    number = environment[variable][-1]
    assert str(found) == f"the proxy p:{number} of {variable}"


SLOW: dict[str, Script] = {
    "says nothing": answering(then=b""),
    "trickles its answer": answering(then=b"H"),
    "trickles a header": answering(b"HTTP/1.1 200 OK\r\n", then=b"X-A: b\r\n"),
}


@pytest.mark.parametrize("slow", SLOW)
@pytest.mark.parametrize("url", ["https://vault.example.com", "http://vault.example.com"])
def test_a_proxy_that_is_slow_ends_with_the_time_of_the_call(
    monkeypatch: pytest.MonkeyPatch, slow: str, url: str
) -> None:
    """And is named beside the address."""

    def script(client: Any, closing: Any) -> None:
        SLOW[slow](client, closing)
        closing.wait()

    with served(script) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy)
        with pytest.raises(VaultUnreachable, match="no answer within VAULT_TIMEOUT through the proxy") as caught:
            ask(url, timeout=0.5)
    assert "ALL_PROXY" in str(caught.value)


def test_a_proxy_over_tls_that_is_not_trusted_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is not Vault's certificate that is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path / "ca").issue("proxy"))
    proxy = FaultyProxy("http://127.0.0.1:9")
    proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
    with proxy.running() as url:
        monkeypatch.setenv("HTTPS_PROXY", url.replace("http:", "https:"))
        with pytest.raises(BackendError, match=r"no TLS connection to the proxy .* of HTTPS_PROXY") as caught:
            ask("https://vault.example.com")
    assert "VAULT_CACERT" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_a_proxy_that_speaks_socks_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """With what would be needed."""
    monkeypatch.setenv("all_proxy", f"{scheme}://app:canary@127.0.0.1:{free_port()}")
    with pytest.raises(VaultUnreachable, match="of all_proxy speaks SOCKS, for which the package PySocks") as caught:
        ask("https://vault.example.com")
    assert "canary" not in str(caught.value)


BAD_ADDRESSES = ["http://", "http://:3128", "ftp://proxy:21", "http://proxy:port", "proxy:3128", "://", "http://[::1"]
# what is special in a password must be encoded; requests would show a part of it, or take it for the host
BAD_ADDRESSES += [f"http://app:can{special}ary@127.0.0.1:3128" for special in "[/#?€\u2100"]


@pytest.mark.parametrize("value", BAD_ADDRESSES)
def test_what_is_not_the_address_of_a_proxy_is_told(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Instead of an error about Vault's address; the doctor says the same."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(VaultUnreachable, match="HTTPS_PROXY is not the address of a proxy") as caught:
        ask("https://vault.example.com")
    assert "can" not in str(caught.value).replace("vault.example.com", "")
    found = proxy_for("https://vault.example.com")
    assert found is not None
    assert not found.is_usable


@pytest.mark.parametrize("value", ["http://app:canary@proxy:3128", "http://proxy", "https://[::1]:3128/"])
def test_what_is_the_address_of_a_proxy_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """With a password, without a port, or an address itself."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    found = proxy_for("https://vault.example.com")
    assert found is not None
    assert found.is_usable
