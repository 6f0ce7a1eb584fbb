"""A redirect is followed once, and only to where the settings would let a token go."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import BackendError, UnexpectedAnswer, VaultTLSFailed, VaultUnreachable
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http, vault_client
from app.core.transport.redirects import origin
from app.core.vault.errors import vault_errors
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.core.integration.test_connections import tls_server
from tests.pki import Authority
from tests.support import DEADLINE, free_port

METHODS = ["GET", "LIST", "POST", "PUT", "PATCH", "DELETE"]
ALL = [301, 302, 303, 307, 308]


class Pair:
    """A server that redirects, and another one."""

    def __init__(self) -> None:
        self.first, self.second = FaultyProxy("http://127.0.0.1:9"), FaultyProxy("http://127.0.0.1:9")
        self.second.fault = lambda *_: Fault(200, body=b'{"data": {}}')

    def redirect(self, status: int, location: str) -> None:
        """Let the first one redirect everything."""
        self.first.fault = lambda *_: Fault(status, (("Location", location),), b"")


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Serve both."""
    pair = Pair()
    with pair.first.running(), pair.second.running():
        yield pair


def ask(url: str, method: str = "GET", **more: Any) -> Any:
    """Send a token, and perhaps a secret, as the service does."""
    settings = VaultSettings.model_validate({"url": url, **more})
    with open_http(settings) as http, vault_errors(url, "a call"):
        client = vault_client(settings, http, "canary-token", "team")
        return client.adapter.request(method, "/v1/x?list=true", json={"secret_id": "canary"})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", [307, 308])
def test_what_keeps_the_method_is_followed_once(pair: Pair, method: str, status: int) -> None:
    """With token, namespace and body; as a standby wants it."""
    pair.redirect(status, f"{pair.second.url}/v1/x?list=true")
    assert ask(pair.first.url, method) == {"data": {}}
    assert pair.second.requests == [(method, "/v1/x?list=true")]
    assert pair.second.bodies == [b'{"secret_id": "canary"}']
    sent = {name.lower(): value for name, value in pair.second.headers[0].items()}
    assert (sent["x-vault-token"], sent["x-vault-namespace"]) == ("canary-token", "team")
    assert sent["host"] == pair.second.url.removeprefix("http://")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", [301, 302, 303])
def test_what_changes_the_method_is_not_followed(pair: Pair, method: str, status: int) -> None:
    """A login would become a read, a list another one."""
    pair.redirect(status, f"{pair.second.url}/v1/x")
    with pytest.raises(UnexpectedAnswer, match=rf"HTTP {status}, a redirect to {pair.second.url}\)"):
        ask(pair.first.url, method)
    assert pair.second.requests == []


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("prefix", ["", "/vault"])
def test_an_address_that_wants_https_is_told(pair: Pair, status: int, method: str, prefix: str) -> None:
    """With what to write instead."""
    pair.redirect(status, f"https://vault.example.com{prefix}/v1/x?list=true")
    with pytest.raises(UnexpectedAnswer) as caught:
        ask(pair.first.url + prefix, method)
    assert caught.value.cause == f"VAULT_URL redirects to https://vault.example.com{prefix}"
    assert caught.value.remedy == f"Set VAULT_URL to https://vault.example.com{prefix}."


def test_an_address_that_wants_https_for_good_is_told_where_that_does_not_answer(pair: Pair) -> None:
    """308 is what a load balancer says (ingress-nginx); a standby says 307."""
    pair.redirect(308, f"https://127.0.0.1:{free_port()}/v1/x")
    with pytest.raises(VaultUnreachable, match=r"VAULT_URL redirects to https://.*: no connection") as caught:
        ask(pair.first.url)
    assert caught.value.remedy.startswith("Set VAULT_URL to https://127.0.0.1:")


@pytest.mark.parametrize("status", ALL)
@pytest.mark.parametrize(
    "location",
    [
        "http://vault.example.com/v1/x",
        "http://10.0.0.1:8200/v1/x",
        "http://0.0.0.0:8200/v1/x",
        "https:evil.example.com/v1/x",
        "//vault.example.com/v1/x",
        "HTTP://Vault.Example.COM/v1/x",
        "http://127.0.0.1.example.com/v1/x",
        "http://127.0.0.1@vault.example.com/v1/x",
        "https://app:canary@127.0.0.1/v1/x",
        "ftp://127.0.0.1/v1/x",
        "file:///etc/passwd",
        "unix:///run/vault.sock",
        "http://[::1/v1/x",
        "http://127.0.0.1:port/v1/x",
        "javascript:canary",
    ],
)
def test_nothing_is_sent_where_the_settings_would_not_let_it_go(pair: Pair, status: int, location: str) -> None:
    """To another machine in the clear, with credentials of somebody else's, or to what is no address."""
    pair.redirect(status, location)
    with pytest.raises(UnexpectedAnswer) as caught:
        ask(pair.first.url, "POST")
    assert "canary" not in str(caught.value)
    assert len(pair.first.requests) == 1


def test_a_second_redirect_is_not_followed(pair: Pair) -> None:
    """Whoever redirects in a circle is named."""
    pair.redirect(307, f"{pair.second.url}/v1/x")
    pair.second.fault = lambda *_: Fault(307, (("Location", f"{pair.first.url}/v1/x"),), b"")
    with pytest.raises(UnexpectedAnswer, match=f"redirects to {pair.second.url}, and that redirects again") as caught:
        ask(pair.first.url)
    assert "api_addr" in caught.value.remedy
    assert len(pair.first.requests) == len(pair.second.requests) == 1


@pytest.mark.parametrize("location", ["/v1/y", "?again", "y"])
def test_the_same_server_may_name_a_path_alone(pair: Pair, location: str) -> None:
    """Relative to what was asked."""
    pair.first.fault = lambda _, path: (
        Fault(307, (("Location", location),), b"") if "list=true" in path else Fault(200, body=b'{"data": {}}')
    )
    assert ask(pair.first.url) == {"data": {}}
    assert len(pair.first.requests) == 2


def test_a_redirect_from_http_to_https_trusts_the_ca_of_the_settings(pair: Pair, tmp_path: Path) -> None:
    """And no other one."""
    authority = Authority(tmp_path / "ca")
    with tls_server(authority) as url:
        pair.redirect(307, f"{url}/v1/x")
        assert ask(pair.first.url, cacert=authority.file).status_code == 200
        with pytest.raises(VaultTLSFailed, match=f"it redirects to {url}: the TLS handshake failed") as caught:
            ask(pair.first.url)
    assert "VAULT_CACERT" in caught.value.remedy


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_node_that_is_dead_is_named_beside_the_address(pair: Pair, method: str) -> None:
    """It is not VAULT_URL that is wrong."""
    dead = f"http://127.0.0.1:{free_port()}"
    pair.redirect(307, f"{dead}/v1/x")
    with pytest.raises(VaultUnreachable) as caught:
        ask(pair.first.url, method)
    assert caught.value.subject == pair.first.url
    assert caught.value.cause == f"it redirects to {dead}: no connection (Connection refused)"
    assert "api_addr" in caught.value.remedy
    assert "VAULT_URL" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(hang=True), "it redirects to {}: no answer within VAULT_TIMEOUT"),
        (Fault(reset=True), "it redirects to {}: no connection"),
        (Fault(502, (("Content-Type", "text/html"),), b"<html>"), "redirected to {}: something in front of Vault"),
    ],
    ids=["hangs", "resets", "is a load balancer"],
)
def test_a_node_that_fails_otherwise_is_named_too(pair: Pair, fault: Fault, said: str) -> None:
    """Both addresses, whatever it is."""
    pair.redirect(307, f"{pair.second.url}/v1/x")
    pair.second.fault = lambda *_: fault
    with pytest.raises(BackendError) as caught:
        ask(pair.first.url, timeout=1 if fault.hang else DEADLINE)
    assert pair.first.url in str(caught.value)
    assert said.format(pair.second.url) in str(caught.value)


@pytest.mark.parametrize("status", ["no redirect", 307])
def test_nothing_is_taken_from_netrc(pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: Any) -> None:
    """Neither for the address nor for where it redirects."""
    (tmp_path / ".netrc").write_text("default login app password canary\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    if status == "no redirect":
        pair.first.fault = pair.second.fault
    else:
        pair.redirect(status, f"{pair.second.url}/v1/x")
    ask(pair.first.url)
    names = {name.lower() for headers in (*pair.first.headers, *pair.second.headers) for name in headers}
    assert "authorization" not in names


def test_a_redirect_to_this_machine_goes_past_the_proxy(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every request to this machine does."""
    proxy = FaultyProxy("http://127.0.0.1:9")
    proxy.fault = lambda *_: Fault(307, (("Location", f"{pair.second.url}/v1/x"),), b"")
    with proxy.running() as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("NO_PROXY", "")
        assert ask("http://vault.example.com") == {"data": {}}
    assert len(proxy.requests) == len(pair.second.requests) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:canary@host:1/path?token=canary#x", "https://host:1"),
        ("HTTPS://Host/", "https://host"),
        ("http://[::1]:8200/x", "http://[::1]:8200"),
        ("http://ho\nst/", "an address that is none"),
        ("data:canary", "an address that is none"),
        ("", "an address that is none"),
    ],
)
def test_of_an_address_only_who_it_is_about_is_shown(url: str, shown: str) -> None:
    """Not what somebody has put into it."""
    assert origin(url) in {shown, "http://host"}
