"""What callers see of the sample routes."""

import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import NAME, logging_config, references
from app.config import Settings
from app.main import create_app
from app.routes.signing_keys import TOKEN_LIFETIME
from tests.support import SECRETS


def service() -> FastAPI:
    """Return your service without Vault, with all that the samples need."""
    return create_app(Settings.model_validate({"secrets": SECRETS, "log_format": "json"}))


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Call it."""
    with TestClient(service()) as client:
        yield client


def token_of(client: TestClient) -> str:
    """Return a fresh token."""
    token: str = client.post("/token", headers={"X-API-Key": SECRETS["api_key"]}).json()["access_token"]
    return token


def test_the_api_key_buys_a_short_lived_token(client: TestClient) -> None:
    """The answer has the form of OAuth 2.0 and is not cached."""
    answer = client.post("/token", headers={"X-API-Key": SECRETS["api_key"]})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", TOKEN_LIFETIME)
    claims = jwt.decode(body["access_token"], SECRETS["jwt_secret"], ["HS256"], issuer=NAME)
    assert claims["exp"] - claims["iat"] == TOKEN_LIFETIME


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}], ids=["missing", "wrong"])
def test_nobody_else_gets_a_token(client: TestClient, headers: dict[str, str]) -> None:
    """401, and how to log in."""
    answer = client.post("/token", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("APIKey ")


def test_no_token_reaches_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a good one nor one that is refused."""
    with TestClient(service()) as client:
        token = token_of(client)
        for sent in (token, token[:-2]):
            client.get("/me", headers={"Authorization": f"Bearer {sent}"})
    said = capsys.readouterr().err
    assert '"path": "/me"' in said
    assert token.rpartition(".")[0] not in said


def test_the_token_says_who_its_bearer_is(client: TestClient) -> None:
    """`GET /me` verifies it with the same secret."""
    answer = client.get("/me", headers={"Authorization": f"Bearer {token_of(client)}"})
    assert answer.status_code == 200
    assert answer.json()["subject"] == "api-key"


def forged(secret: str, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token that looks like one of ours, but for the differences given."""
    now = int(time.time())
    times = {"iat": now, "exp": now + TOKEN_LIFETIME}
    return jwt.encode({"iss": NAME, "sub": "x", **times, **claims}, secret, algorithm)


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="missing"),
        pytest.param("Basic dXNlcjpwYXNz", id="other scheme"),
        pytest.param("Bearer garbage", id="no token"),
        pytest.param(f"Bearer {forged('another-secret-of-sufficient-length-0123')}", id="other secret"),
        pytest.param(f"Bearer {forged(SECRETS['jwt_secret'], iat=1, exp=2)}", id="expired"),
        pytest.param(f"Bearer {forged(SECRETS['jwt_secret'], exp=4_102_444_800)}", id="for ever"),
        pytest.param(f"Bearer {forged(SECRETS['jwt_secret'], iat=1.5)}", id="half a second"),
        pytest.param(f"Bearer {forged(SECRETS['jwt_secret'], iss='other')}", id="other issuer"),
        pytest.param(f"Bearer {forged(SECRETS['jwt_secret'], 'HS384')}", id="other algorithm"),
        pytest.param(f"Bearer {forged('', 'none')}", id="unsigned"),
        pytest.param(f"Bearer {jwt.encode({'sub': 'x'}, SECRETS['jwt_secret'])}", id="no expiry"),
    ],
)
def test_without_a_valid_token_nobody_is_anybody(client: TestClient, authorization: str | None) -> None:
    """401 with a challenge, whatever is wrong with the token."""
    answer = client.get("/me", headers={} if authorization is None else {"Authorization": authorization})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_the_front_door_leads_to_the_documentation(client: TestClient) -> None:
    """Somebody who only knows the address finds the way."""
    where = "/health/live"
    where = "/docs"  # extra: api_docs
    for method in ("GET", "HEAD"):
        assert client.request(method, "/", follow_redirects=False).headers["location"] == where
    refused = client.put("/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_the_front_door_of_a_mounted_service_leads_to_its_own() -> None:
    """And not to a page of the application that has mounted it."""
    outer = FastAPI()
    outer.mount("/api", service())
    with TestClient(outer, follow_redirects=False) as client:
        assert client.get("/api/").headers["location"].startswith("/api/")


def test_in_production_a_stranger_learns_nothing_of_the_samples() -> None:
    """How to log in is all; the front door leads to what says that the service is there."""
    settings = {"environment": "production", "secrets": SECRETS}
    with TestClient(create_app(Settings.model_validate(settings)), follow_redirects=False) as client:
        assert client.get("/").headers["location"] == "/health/live"
        for method, path in (("POST", "/token"), ("GET", "/me")):
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers["cache-control"]) == (401, "no-store")
            assert client.request(method, path, headers={"Authorization": "Bearer x"}).status_code == 401
            assert client.request("PUT", path).status_code == 405


def test_a_generated_client_has_functions_with_our_names() -> None:
    """Each operation of your API has an id that no other has, and without its path; the samples say what they are."""
    schema = service().openapi()
    found = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert {"issue_token", "get_me"} <= set(found)
    assert len(found) == len(set(found))
    assert all(name.isidentifier() and not name.endswith(("_get", "_post", "_put", "_delete")) for name in found)
    assert "tokens" in {tag["name"] for tag in schema["tags"] if tag["description"]}


def test_a_forged_token_leaves_a_trace_and_an_expired_one_does_not() -> None:
    """The one is a guess, the other what every client sends now and then."""
    app, counted = service(), list[str]()
    app.state.refusals.subscribe(counted.append)
    expired = forged(SECRETS["jwt_secret"], iat=1, exp=2)
    with TestClient(app) as client:
        for token in (expired, token_of(client)):
            client.get("/me", headers={"Authorization": f"Bearer {token}"})
        assert not counted
        client.get("/me", headers={"Authorization": f"Bearer {forged('x' * 32)}"})
    assert counted == ["token"]


def test_the_names_of_the_tutorial_are_there() -> None:
    """What other code of yours may import."""
    assert references.is_reference("{vault://vault/app/key}")
    assert references.parse_reference("{vault://vault/app/key}").key == "key"
    assert logging_config.get_logger("yours") is not None
