"""What a browser is told with every answer."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.testclient import TestClient

from app.config import Settings
from tests.declared import create_app
from tests.support import SECRETS

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
KEY = {"X-API-Key": SECRETS["api_key"]}


def service(**settings: Any) -> FastAPI:
    """Return a service with routes of all kinds."""
    app = create_app(Settings.model_validate({"secrets": SECRETS, **settings}))
    inner = FastAPI()

    @inner.get("/there")
    async def there() -> str:
        return "there"

    @app.get("/page")
    async def page() -> HTMLResponse:
        own = {
            "Content-Security-Policy": "default-src 'self'",
            "X-Frame-Options": "SAMEORIGIN",
            "Cache-Control": "public",
        }
        return HTMLResponse("", headers=own)

    @app.get("/kept")
    async def kept() -> Response:
        return Response(headers={"ETag": '"1"'})

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    @app.get("/elsewhere")
    async def elsewhere() -> RedirectResponse:
        return RedirectResponse("/page")

    app.mount("/mounted", inner)
    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Call it."""
    with TestClient(service(), follow_redirects=False) as client:
        yield client


ANSWERS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("GET", "/health/live", 200, {}),
    ("HEAD", "/health/live", 200, {}),
    ("GET", "/openapi.json", 200, {}),
    ("POST", "/caller", 200, {"headers": KEY}),
    ("POST", "/caller", 401, {}),
    ("GET", "/elsewhere", 307, {}),
    ("GET", "/nowhere", 404, {}),
    ("DELETE", "/caller", 405, {}),
    ("POST", "/caller", 413, {"content": b"x" * 20_000}),
    ("GET", "/health/live", 400, {"headers": {"Host": "evil.example.com"}}),
    ("POST", "/caller", 403, {"headers": {"Origin": "null"}}),
    ("GET", "/bug", 500, {}),
    ("GET", "/mounted/there", 200, {}),
    ("GET", "/mounted/nowhere", 404, {}),
]


@pytest.mark.parametrize(("method", "path", "expected", "more"), ANSWERS)
def test_every_answer_has_them(client: TestClient, method: str, path: str, expected: int, more: dict[str, Any]) -> None:
    """Whoever makes the answer: a handler, the router, a middleware, an application that is mounted."""
    answer = client.request(method, path, **more)
    assert answer.status_code == expected
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert "strict-transport-security" not in answer.headers


def test_a_handler_has_the_last_word(client: TestClient) -> None:
    """Its page needs a policy of its own."""
    headers = client.get("/page").headers
    assert headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert headers.get_list("x-frame-options") == ["SAMEORIGIN"]
    assert headers.get_list("cache-control") == ["public"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["X-API-Key", "Authorization", "Cookie"])
def test_what_was_asked_for_with_a_credential_is_kept_nowhere(client: TestClient, name: str) -> None:
    """What brings a validator may be kept otherwise."""
    assert "cache-control" not in client.get("/kept").headers
    assert client.get("/kept", headers={name: "x"}).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("environment", ["development", "production"])
def test_over_https_a_browser_shall_stay_there(environment: str) -> None:
    """But not on a developer's machine, where other services are on the same name."""
    client = TestClient(service(environment=environment), base_url="https://testserver")
    told = client.get("/health/live").headers.get("strict-transport-security")
    assert told == ("max-age=31536000" if environment == "production" else None)


# extra: api_keys
@pytest.mark.parametrize(("method", "path"), [("GET", "/api-keys"), ("POST", "/api-keys"), ("DELETE", "/api-keys/x")])
@pytest.mark.parametrize("headers", [{}, KEY], ids=["stranger", "administrator"])
def test_no_answer_about_keys_is_kept(client: TestClient, method: str, path: str, headers: dict[str, str]) -> None:
    """Nor an error."""
    assert client.request(method, path, headers=headers).headers["cache-control"] == "no-store"


# /extra
