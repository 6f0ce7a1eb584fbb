"""What a stranger learns from a service in production is what the threat model lists, and nothing else."""

import json
import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families  # extra: metrics

from app.config import Settings
from tests.declared import create_app, router
from tests.support import ROOT, SECRETS

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OF_TESTS = {route.path for route in iter_route_contexts(router.routes)}
WITH, WITHOUT = "with secrets", "without"
# how the detail of a refusal may begin; what is 404 or 405 by the router has none
SAID = re.compile(
    r"X-API-Key is missing or wrong\.|"
    r"The status page is switched off; STATUS_PAGE=true shows it to who has the API key\.|"
    r"secret 'api_key': the service does not hold it\. GET /health/ready tells why\."
)

Answers = dict[tuple[str, str], tuple[int, int]]  # to (method, path): with secrets, and without


def listed() -> Answers:
    """Return the list in the threat model."""
    section = (ROOT / "docs/threat-model.md").read_text().split("\n## What a stranger learns\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([A-Z, ]+) (/\S*)` \| (\d+) \| (\d+) \|", section, re.MULTILINE)
    return {(method, path): (int(a), int(b)) for methods, path, a, b in rows for method in methods.split(", ")}


@pytest.fixture
def stranger() -> Iterator[tuple[TestClient, TestClient]]:
    """Call two services in production, one with its secrets, and one without any."""
    production = {"environment": "production", "vault": {"access_mode": "read_and_write"}}
    services = [create_app(Settings.model_validate({**production, "secrets": held})) for held in (SECRETS, {})]
    with TestClient(services[0], follow_redirects=False) as a, TestClient(services[1], follow_redirects=False) as b:
        yield a, b


def paths(client: TestClient) -> list[str]:
    """Return the templates of all paths, but for those that only tests have."""
    assert isinstance(client.app, FastAPI)
    found = {str(route.path) for route in iter_route_contexts(client.app.routes)}
    return sorted({*found, "/", "/docs", "/redoc", "/openapi.json", "/nowhere"} - OF_TESTS)


def test_a_stranger_learns_what_the_list_says(stranger: tuple[TestClient, TestClient]) -> None:
    """Every route, with every method: what is not in the list is 404 or 405, and no answer shows more than it says."""
    known, seen = listed(), set[tuple[str, str]]()
    assert len(known) >= 5
    for path in paths(stranger[0]):
        for method in METHODS:
            for n, client in enumerate(stranger):
                answer = client.request(method, path.format(name="alice"))
                where = f"{method} {path} {(WITH, WITHOUT)[n]}: {answer.status_code} {answer.text[:300]}"
                expected = known.get((method, path))
                assert answer.status_code in ((expected[n],) if expected else (404, 405)), where
                seen |= {(method, path)} if expected else set()
                assert answer.headers["x-content-type-options"] == "nosniff", where
                assert not {"server", "x-powered-by"} & set(answer.headers), where
                assert not any(value in answer.text for value in SECRETS.values()), where
                if answer.headers.get("content-type") == "application/problem+json" and method != "HEAD":
                    problem = answer.json()
                    assert set(problem) <= {"type", "title", "status", "detail"}, where
                    detail = problem.get("detail")
                    assert path == "/health/ready" or detail is None or SAID.fullmatch(detail), where
    assert seen == set(known), "every row of the list is about a route that there is"


def test_health_is_told_in_names(stranger: tuple[TestClient, TestClient]) -> None:
    """Those of the declaration; nothing of where they come from."""
    healthy, bare = stranger
    assert healthy.get("/health/live").json() == {"status": "alive"}
    assert healthy.get("/health/ready").json() == {"status": "ready"}
    *told, more = bare.get("/health/ready").json()["detail"].split(" | ")
    assert told == [f"{name}: missing" for name in SECRETS]
    assert "administrator's key" in more


# extra: metrics
def test_the_numbers_hold_no_path_and_no_address(stranger: tuple[TestClient, TestClient]) -> None:
    """Labels are names of routes, sources and secrets."""
    vault = Settings().vault
    for client in stranger:
        text = client.get("/metrics").text
        metrics = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        # the service's own name is no secret: it begins each name, and may be part of a path
        told = [value for sample in metrics for value in sample.labels.values() if value != Settings.service.name]
        assert len(told) > len(SECRETS)
        for private in (vault.url, "127.0.0.1", vault.write_prefix, *vault.secret_path, "secret/data"):
            assert not any(private in value for value in told), private
        assert not any(json.dumps(value)[1:-1] in text for value in SECRETS.values())


# /extra
