"""Who is answered: under which names, and from which pages."""

from functools import cache
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from app.config import PROVIDERS, Settings
from app.core.run.serve import serve
from app.core.store.provider import Blueprint
from tests.declared import DeclaredForTests, create_app
from tests.support import SECRETS

PRODUCTION = {"environment": "production"}
OURS = {"allowed_hosts": "api.example.com, *.internal.example.com, 10.0.0.5, ::1"}


@cache
def client(**settings: Any) -> TestClient:
    """Call a service with these settings; nothing here changes it."""
    return TestClient(create_app(Settings.model_validate({"secrets": SECRETS, **settings})))


def status(of: TestClient, host: str | list[str], path: str = "/openapi.json") -> int:
    """Return what a request for this `Host` is answered with."""
    hosts = [host] if isinstance(host, str) else host
    return of.get(path, headers=[(b"Host", each.encode()) for each in hosts]).status_code


LOOPBACK = ["localhost", "LocalHost:8000", "localhost.", "127.0.0.1", "127.0.0.1:1", "127.3.2.1", "[::1]", "[::1]:8000"]
LOOPBACK += ["[0:0:0:0:0:0:0:1]", "app.localhost", "testserver", "test"]
FOREIGN = ["evil.example.com", "evil.example.com:8000", "localhost.evil.example.com", "127.0.0.1.evil.example.com"]
FOREIGN += ["evillocalhost", "0.0.0.0", "192.168.1.1", "[fe80::1]", "localhost..", "a b", "", "user@localhost", "[::1"]
FOREIGN += ["localhost:8000:1", "localhost/x", "x" * 300, "[::1]x", "localhost\u00e9"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_in_development_the_names_of_this_machine_are_answered(host: str) -> None:
    """With any port, in any case, with the dot that makes a name complete."""
    assert status(client(), host) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_in_development_no_other_name_is_answered(host: str) -> None:
    """A page under that name could have its name lead to this machine."""
    asked = client()
    assert status(asked, host) == 400
    refused = asked.post("/status/refresh", headers=[(b"Host", host.encode())])
    assert refused.headers["content-type"] == "application/problem+json"
    assert "ALLOWED_HOSTS" in refused.json()["detail"]
    assert status(client(environment="staging"), host) == 200


def test_two_hosts_are_none() -> None:
    """What a proxy in front makes of them is not known."""
    assert status(client(), ["localhost", "evil.example.com"]) == 400


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("api.example.com", True),
        ("API.example.com.:443", True),
        ("a.internal.example.com", True),
        ("a.b.internal.example.com", True),
        ("10.0.0.5:8000", True),
        ("[0::1]", True),
        ("internal.example.com", False),
        ("evilinternal.example.com", False),
        ("example.com", False),
        ("api.example.com.evil.com", False),
        ("localhost", False),
        ("10.0.0.6", False),
    ],
)
def test_allowed_hosts_say_who_is_answered(environment: str, host: str, *, is_ours: bool) -> None:
    """Everywhere, and instead of what counts without them."""
    asked = client(**OURS, environment=environment, api_docs=True)
    assert status(asked, host) == (200 if is_ours else 400)


def test_a_star_allows_every_host() -> None:
    """For whom it may concern."""
    for host in ("evil.example.com", "", "x" * 300):
        assert status(client(allowed_hosts="*"), host) == 200


@pytest.mark.parametrize("settings", [{}, OURS | PRODUCTION], ids=["development", "allowed hosts"])
@pytest.mark.parametrize("host", ["10.244.3.7:8000", "[fd00::7]:8000", "localhost", "127.0.0.1", ""])
@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probes_ask_by_address(settings: dict[str, str], host: str, path: str) -> None:
    """Orchestrators do, and some send no name at all; a page of somebody else's can only come by a name."""
    with client(**settings) as asked:
        assert status(asked, host, path) == 200
        assert status(asked, "evil.example.com", path) == 400


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("allowed_hosts", "example.com:8000", "without port"),
        ("allowed_hosts", "https://example.com", "without port"),
        ("allowed_hosts", "exa*mple.com", "without port"),
        ("cors_origins", "app.example.com", "must start with http"),
        ("cors_origins", "https://app.example.com/x", "must be an origin"),
        ("cors_origins", "https://*.example.com", "must be an origin"),
        ("cors_origins", "null", "must start with http"),
    ],
)
def test_what_could_never_match_is_refused(variable: str, value: str, why: str) -> None:
    """It would be a silent lock-out."""
    with pytest.raises(ValidationError, match=why):
        Settings.model_validate({variable: value})


PAGES = [
    ({}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8000"}, False),
    ({"Sec-Fetch-Site": "whatever"}, False),
    ({"Origin": "http://localhost:8000"}, True),
    ({"Origin": "HTTP://LOCALHOST:8000"}, True),
    ({"Origin": "http://localhost:3000"}, False),
    ({"Origin": "http://localhost"}, False),
    ({"Origin": "http://evil.example.com"}, False),
    ({"Origin": "http://localhost:8000.evil.example.com"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "localhost:8000"}, False),
]


@pytest.mark.parametrize(("headers", "is_ours"), PAGES)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_only_a_page_of_ours_may_change_anything(environment: str, headers: dict[str, str], *, is_ours: bool) -> None:
    """What is no browser sends neither header."""
    asked, sent = (
        client(environment=environment),
        {"Host": "localhost:8000", "X-API-Key": SECRETS["api_key"], **headers},
    )
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = asked.request(method, "/status/refresh", headers=sent)
        assert (answer.status_code != 403) == is_ours, (method, answer.text)
        assert is_ours or "CORS_ORIGINS" in answer.json()["detail"]
    for method in ("GET", "HEAD"):
        assert asked.request(method, "/health/live", headers=sent).status_code == 200


def test_a_default_port_is_no_other_origin() -> None:
    """Browsers leave it out, proxies may add it."""
    asked = client(environment="production")
    for host, page in (
        ("app.example.com:443", "https://app.example.com"),
        ("app.example.com", "http://app.example.com"),
    ):
        assert asked.post("/caller", headers={"Host": host, "Origin": page}).status_code == 401
    foreign = {"Host": "app.example.com", "Origin": "https://app.example.com:8443"}
    assert asked.post("/caller", headers=foreign).status_code == 403


def test_origins_that_are_named_may_use_the_api() -> None:
    """Their pages get the headers that let them read the answer, also after a preflight, and nobody else does."""
    asked = client(cors_origins="https://app.example.com:443, http://LOCALHOST:3000/")
    for page, is_named in (
        ("https://app.example.com", True),
        ("http://localhost:3000", True),
        ("https://evil.example.com", False),
    ):
        sent = {"Origin": page, "Sec-Fetch-Site": "cross-site", "X-API-Key": SECRETS["api_key"]}
        answer = asked.post("/caller", headers=sent)
        assert answer.status_code == (200 if is_named else 403)
        wish = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "X-API-Key"}
        preflight = asked.options("/caller", headers={"Origin": page, **wish})
        assert preflight.status_code == (200 if is_named else 400)
        for each in (answer, preflight):
            assert each.headers.get("access-control-allow-origin") == (page if is_named else None)
            assert "access-control-allow-credentials" not in each.headers
            assert each.headers["x-content-type-options"] == "nosniff"


def test_without_origins_no_page_of_others_reads_anything() -> None:
    """Not even a refusal."""
    answer = client().get("/health/live", headers={"Origin": "https://evil.example.com"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_socket_of_a_foreign_page_is_not_opened() -> None:
    """Browsers let any page open one."""
    app = create_app(Settings.model_validate({"secrets": SECRETS}))

    @app.websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    asked = TestClient(app)
    for headers in ({}, {"origin": "http://testserver"}):
        with asked.websocket_connect("/socket", headers=headers) as opened:
            assert opened.receive_text() == "hello"
    for headers in ({"origin": "https://evil.example.com"}, {"host": "evil.example.com"}):
        with pytest.raises(WebSocketDisconnect), asked.websocket_connect("/socket", headers=headers):
            pass


def test_below_a_prefix_it_is_the_same() -> None:
    """Mounted in another application."""
    outer = FastAPI()
    outer.mount("/api", create_app(Settings.model_validate({"secrets": SECRETS})))
    asked = TestClient(outer)
    assert status(asked, "10.1.2.3", "/api/health/live") == 200
    assert status(asked, "10.1.2.3", "/api/openapi.json") == 400
    assert status(asked, "evil.example.com", "/api/health/live") == 400


@pytest.mark.parametrize(
    ("address", "settings", "warned"),
    [
        ("192.0.2.5", {}, True),
        ("[2001:db8::5]", {}, True),
        ("127.0.0.1", {}, False),
        ("testserver", {}, False),
        ("192.0.2.5", {"environment": "development"}, False),
        ("192.0.2.5", {"environment": "production"}, False),
    ],
)
def test_a_service_on_the_network_wants_to_know_where_it_is(
    address: str, settings: dict[str, str], capsys: pytest.CaptureFixture[str], *, warned: bool
) -> None:
    """Once: without ENVIRONMENT it takes itself for a developer's."""
    app = create_app(Settings.model_validate({"secrets": SECRETS, "log_format": "json", **settings}))
    asked = TestClient(app, base_url=f"http://{address}")
    for _ in range(2):
        asked.get("/health/live")
    assert capsys.readouterr().err.count("development_exposed") == warned


@pytest.mark.parametrize(
    ("host", "environment", "warned"),
    [("0.0.0.0", "", True), ("::", "", True), ("127.0.0.1", "", False), ("0.0.0.0", "development", False)],
)
def test_so_does_the_command_that_serves_it(
    host: str,
    environment: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    warned: bool,
) -> None:
    """Before the first request, where it is told the address."""
    served: list[str] = []
    monkeypatch.setattr("uvicorn.run", lambda *_, host, **__: served.append(host))
    monkeypatch.setenv("ENVIRONMENT", environment)
    serve(Blueprint(DeclaredForTests, Settings, PROVIDERS), ["--host", host])
    assert served == [host]
    assert capsys.readouterr().err.count("development_exposed") == warned
