"""What callers see: who is let in, health, and one form for every error."""

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from httpx2 import Headers, Response
from pydantic import BaseModel

from app.config import Settings
from app.core.logs.redaction import mask_from_now_on
from tests.declared import create_app
from tests.support import SECRETS


class Order(BaseModel):
    """A body for the test routes."""

    name: str
    amount: int


def service(**secrets: str) -> FastAPI:
    """Return the service without Vault, with these local overrides, and with a few routes more."""
    app = create_app(Settings.model_validate({"secrets": secrets, "log_format": "json"}))

    @app.post("/orders")
    async def order(_order: Order, _trace: Annotated[int, Header()] = 0) -> None: ...

    @app.get("/database")
    async def database(request: Request) -> str:
        url: str = request.app.state.vault_secrets["database_url"]
        return url.split(":", maxsplit=1)[0]

    @app.get("/everything")
    async def everything(request: Request) -> Any:
        return request.app.state.vault_secrets

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Call the service with all its secrets."""
    with TestClient(service(**SECRETS)) as client:
        yield client


@pytest.fixture
def bare_client() -> Iterator[TestClient]:
    """Call the service without any secret."""
    with TestClient(service()) as client:
        yield client


def assert_problem(response: Response, status: int) -> dict[str, Any]:
    """Check that the response is a problem of this status; return its body."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    return body


@pytest.mark.parametrize("key", [None, "", "wrong", SECRETS["api_key"] + "x", SECRETS["api_key"][:-1], "schlüssel"])
def test_without_the_right_api_key_nobody_is_let_in(client: TestClient, key: str | None) -> None:
    """Missing, empty, longer, shorter and non-ASCII keys are all just wrong."""
    headers = Headers({} if key is None else {"X-API-Key": key}, encoding="utf-8")
    answer = client.post("/caller", headers=headers)
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("APIKey ")


def test_with_all_declared_secrets_from_the_environment_the_service_is_ready(client: TestClient) -> None:
    """Development needs no Vault."""
    assert client.get("/health/live").json() == {"status": "alive"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    assert client.get("/database").json() == "postgresql"


def test_without_secrets_the_service_lives_but_says_what_it_lacks(bare_client: TestClient) -> None:
    """Not ready, with every missing name; a handler that needs one answers 503, with a hint when to come back."""
    assert bare_client.get("/health/live").status_code == 200
    detail = assert_problem(bare_client.get("/health/ready"), 503)["detail"]
    assert all(name in detail for name in SECRETS)
    for answer in (bare_client.get("/database"), bare_client.post("/caller", headers={"X-API-Key": "x"})):
        assert "does not hold it" in assert_problem(answer, 503)["detail"]
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/caller", 405)])
def test_the_routers_own_errors_are_problems(client: TestClient, method: str, path: str, status: int) -> None:
    """404 and 405 come in the same form."""
    assert_problem(client.request(method, path), status)


STRAY = [("{}/", "at the end"), ("/{}", "in front"), ("{}//", "two at the end")]


@pytest.mark.parametrize(("form", "where"), STRAY, ids=[where for _, where in STRAY])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_a_stray_slash_leads_nowhere(method: str, form: str, where: str) -> None:
    """A redirect would take the API key to the host that the request names, in the clear."""
    app = create_app(Settings.model_validate({"secrets": SECRETS, "allowed_hosts": "*"}))
    client = TestClient(app)
    paths = {str(route.path).format(name="alice") for route in iter_route_contexts(app.routes)} - {"/"}
    assert {"/caller", "/health/ready", "/openapi.json"} <= paths
    assert "/docs" in paths  # extra: api_docs
    assert {"/api-keys", "/api-keys/alice/rotate"} <= paths  # extra: api_keys
    assert "/metrics" in paths  # extra: metrics
    assert "/status" in paths  # extra: status
    for path in sorted(paths):
        headers = {"X-API-Key": SECRETS["api_key"], "Host": "elsewhere.example.com"}
        answer = client.request(
            method, f"http://testserver{form.format(path)}", headers=headers, follow_redirects=False
        )
        assert answer.status_code == 404, f"{path} with a slash {where}"
        assert "location" not in answer.headers
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body", [b"canary is not JSON", b'{"name": {"canary": 1}}', b'"canary"', b'{"amount": "canary"}', b"\xff\xfe"]
)
def test_an_invalid_request_is_refused_without_an_echo(client: TestClient, body: bytes) -> None:
    """A 422 says where and why; FastAPI's own would repeat what was sent."""
    answer = client.post("/orders", content=body, headers={"Content-Type": "application/json", "trace": "canary"})
    problem = assert_problem(answer, 422)
    assert problem["errors"]
    assert all(set(error) == {"loc", "msg", "type"} for error in problem["errors"])
    assert "canary" not in answer.text


def test_a_body_that_is_too_large_is_refused(client: TestClient) -> None:
    """16 KiB are the limit: more is refused before it is read, or as soon as it has arrived if nobody announced it."""
    assert_problem(client.post("/orders", content=b"x" * 16_384), 422)
    assert_problem(client.post("/orders", content=b"x" * 16_385), 413)
    assert_problem(client.post("/orders", content=b"x" * 10_000_000), 413)
    assert_problem(client.post("/caller", content=b"x" * 10_000_000), 413)
    assert_problem(client.post("/orders", content=(b"x" * 100_000 for _ in range(100))), 413)


def test_a_bug_is_a_plain_500_with_a_traceback_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The caller learns the request id and nothing else."""
    with TestClient(service(**SECRETS)) as client:
        answer = client.get("/bug", headers={"X-Request-ID": "the-bug"})
    assert_problem(answer, 500)
    assert answer.headers["x-request-id"] == "the-bug"
    assert "ZeroDivision" not in answer.text
    failed = next(line for line in events(capsys) if line["event"] == "request_failed")
    assert failed["request_id"] == "the-bug"
    assert "ZeroDivisionError" in failed["exception"]


def test_a_handler_that_returns_the_whole_store_fails(client: TestClient) -> None:
    """It would have sent every secret."""
    answer = client.get("/everything")
    assert_problem(answer, 500)
    assert "canary" not in answer.text


def test_openapi_tells_the_truth_about_errors(client: TestClient) -> None:
    """Every documented error is a problem, and FastAPI's own form of a 422 does not appear."""
    schema = client.get("/openapi.json").json()
    documented = [
        (status, response["content"])
        for path in schema["paths"].values()
        for operation in path.values()
        for status, response in operation["responses"].items()
        if status >= "400"
    ]
    assert {"401", "422", "503"} <= {status for status, _ in documented}
    assert all(set(content) == {"application/problem+json"} for _, content in documented)
    assert "ValidationError" not in json.dumps(schema)
    assert "Problem" in schema["components"]["schemas"]


def test_a_generated_client_has_functions_with_our_names() -> None:
    """An operation's id is what its handler is called, and no other one is called so."""
    operations = operations_of(create_app(Settings.model_validate({"secrets": SECRETS})))
    found = sorted(operation["operationId"] for operation in operations)
    wanted = ["caller", "fingerprint", "get_liveness", "get_readiness", "refresh_secrets"]
    wanted += ["issue_api_key", "list_api_keys", "revoke_api_key", "rotate_api_key"]  # extra: api_keys
    wanted += ["get_status", "get_status_page"]  # extra: status
    assert found == sorted(wanted)


def test_the_api_says_what_it_and_its_groups_are_for() -> None:
    """Every tag that an operation has is described, and no other one."""
    app = create_app(Settings.model_validate({"secrets": SECRETS}))
    schema = app.openapi()
    assert "X-API-Key" in schema["info"]["description"]
    described = {tag["name"]: tag["description"] for tag in schema["tags"]}
    assert all(described.values())
    used = [tag for operation in operations_of(app) for tag in operation.get("tags", [None])]
    assert set(used) == set(described), "an operation without a tag counts as one"


def operations_of(app: FastAPI) -> list[dict[str, Any]]:
    """Return what OpenAPI says of each operation."""
    return [operation for path in app.openapi()["paths"].values() for operation in path.values()]


@pytest.mark.parametrize("sent", ["abc", "a" * 128, "01J-x_y.z"])
def test_a_well_formed_request_id_is_taken_over(client: TestClient, sent: str) -> None:
    """So that a request can be followed across services."""
    assert client.get("/health/live", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "a" * 129, "a b", "a\tb", 'a"}', "ä", "a;b", "<script>"])
def test_an_ill_formed_request_id_is_replaced(client: TestClient, sent: str) -> None:
    """What a stranger sends goes into the logs and back into a header."""
    answer = client.get("/health/live", headers=Headers({"X-Request-ID": sent}, encoding="utf-8"))
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        ({"a": ["x", f"of {SECRETS['api_key']}"]}, '{"a": ["x", "of ***"]}'),
        ([1, None, "ü"], '[1, null, "ü"]'),
        ({"when": date(2026, 11, 21)}, '{"when": "2026-11-21"}'),
        (7, "7"),
    ],
)
def test_a_detail_that_is_no_text_becomes_one(detail: object, text: str) -> None:
    """FastAPI allows any; as JSON, and masked like any other."""
    app = service(**SECRETS)

    @app.get("/detail")
    async def raise_it() -> None:
        raise HTTPException(400, detail=detail)

    with TestClient(app) as client:
        answer = client.get("/detail")
    assert_problem(answer, 400)
    assert answer.json()["detail"] == text


def test_a_status_without_a_name_stays_what_it_is() -> None:
    """A handler may make one up."""
    app = service(**SECRETS)

    @app.get("/made-up")
    async def raise_it() -> None:
        raise HTTPException(499)

    with TestClient(app) as client:
        assert "detail" not in assert_problem(client.get("/made-up"), 499)


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the log lines written so far."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_one_access_event_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    """With id, method, path, status and duration, but without the query, which may hold anything."""
    with TestClient(service(**SECRETS)) as client:
        client.get("/nowhere%0Afake?canary=1", headers={"X-Request-ID": "x1"})
    (event,) = [line for line in events(capsys) if line["event"] == "request_finished"]
    assert event["request_id"] == "x1"
    assert (event["method"], event["path"], event["status"]) == ("GET", "/nowhere%0Afake", 404)
    assert event["duration_ms"] >= 0
    assert "canary" not in json.dumps(event)


def test_a_long_path_is_cut_and_shows_no_half_of_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """What a stranger sends neither fills the log nor keeps the service busy."""
    mask_from_now_on("test", ["canary-" * 9])
    with TestClient(service(**SECRETS)) as client:
        client.get("/" + "x" * 2000 + "canary-" * 9 + "y" * 9000)
    (event,) = [line for line in events(capsys) if line["event"] == "request_finished"]
    assert event["path"].startswith("/" + "x" * 2000 + "***yyy")
    assert event["path"].endswith("y...")
    assert len(event["path"]) < 2100
