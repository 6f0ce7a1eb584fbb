"""What the numbers count, what they are called, and what they must never hold. No Vault."""

import asyncio
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app import NAME, VERSION
from app.config import Settings
from app.core.logs.event_log import Kind, journal
from app.core.settings.vault import VaultSettings
from app.core.transport.calls import Call, calls, conjur_operation, outcome_of, vault_operation
from app.core.transport.http import open_http, vault_client
from app.core.vault.auth_methods import Auth
from app.core.vault.login import Login
from app.core.web.requests import ObserveRequests
from app.extras.metrics.metrics import PREFIX
from tests.declared import create_app
from tests.support import SECRETS

DURATION = "http_request_duration_seconds_count"


def service() -> FastAPI:
    """Return the service with literal secrets, one Vault that nobody asks, and two routes more."""
    app = create_app(Settings.model_validate({"secrets": SECRETS, "log_level": "CRITICAL"}))

    @app.post("/orders/{order}")
    async def order(order: int) -> int:
        return order

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Call the service."""
    with TestClient(service()) as client:
        yield client


def samples(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of one metric by the values of its labels, in the order of their names."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = [sample for family in families for sample in family.samples if sample.name == f"{PREFIX}_{name}"]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in found}


def test_requests_are_counted_by_method_route_and_status(client: TestClient) -> None:
    """The route is the template: what callers put into its place is no label."""
    for order in ("1", "2", "x"):
        client.post(f"/orders/{order}")
    client.get("/orders/1")
    counted = samples(client, DURATION)
    assert counted["POST", "/orders/{order}", "200"] == 2
    assert counted["POST", "/orders/{order}", "422"] == 1
    assert counted["GET", "/orders/{order}", "405"] == 1
    seconds = samples(client, DURATION.replace("_count", "_sum"))
    assert 0 < seconds["POST", "/orders/{order}", "200"] < 10


def test_what_never_reaches_a_route_is_counted_too(client: TestClient) -> None:
    """A body that is too large, a path that nobody serves; and a bug, which does reach one."""
    client.post("/orders/1", content=b"x" * 2_000_000)
    client.get("/nowhere")
    client.get("/bug")
    counted = samples(client, DURATION)
    assert counted["POST", "other", "413"] == 1
    assert counted["GET", "other", "404"] == 1
    assert counted["GET", "/bug", "500"] == 1


def test_strangers_cannot_make_labels(client: TestClient) -> None:
    """Whatever methods, paths and queries they think of."""
    before = len(samples(client, DURATION))
    for number in range(50):
        client.request(f"CANARY{number}", f"/canary-{number}?canary={number}")
        client.request("GET", f"/orders/canary{number}")
    counted = samples(client, DURATION)
    assert counted["other", "other", "404"] == 50
    assert len(counted) <= before + 3
    assert "canary" not in client.get("/metrics").text.lower()


def test_a_request_without_an_answer_has_no_status() -> None:
    """The caller went away."""
    seen: list[tuple[Any, ...]] = []

    async def silent(*_: object) -> None: ...

    scope = {"type": "http", "method": "GET", "headers": [], "raw_path": b"/"}
    asyncio.run(ObserveRequests(silent, [lambda *request: seen.append(request[:3])])(scope, silent, silent))  # type: ignore[arg-type]
    assert seen == [("GET", None, 0)]
    app = service()
    app.state.metrics.request(*seen[0], 0.5)
    with TestClient(app) as client:
        assert samples(client, DURATION)["GET", "other", "none"] == 1


def test_each_service_has_numbers_of_its_own(client: TestClient) -> None:
    """Two in one process, as in tests, neither clash nor add up."""
    client.get("/health/live")
    with TestClient(service()) as other:
        assert ("GET", "/health/live", "200") not in samples(other, DURATION)


def test_the_format_is_the_one_that_was_asked_for(client: TestClient) -> None:
    """Prometheus asks for OpenMetrics; a person with curl gets plain text."""
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    open_metrics = client.get("/metrics", headers=accept)
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_metrics.text.endswith("# EOF\n")
    for nonsense in ("text/plain;version=x", "application/openmetrics-text;version=1.x;escaping=y", "*/*;q=z"):
        assert client.get("/metrics", headers={"Accept": nonsense}).status_code == 200
    assert "/metrics" not in client.get("/openapi.json").json()["paths"], "it is not for callers of the API"


def test_the_process_and_the_build_are_there(client: TestClient) -> None:
    """Under the names that every Prometheus knows."""
    text = client.get("/metrics").text
    assert f'{PREFIX}_build_info{{name="{NAME}",version="{VERSION}"}} 1.0' in text
    assert all(
        name in text for name in ("process_resident_memory_bytes ", "python_info{", "python_gc_collections_total")
    )


def test_secrets_from_the_environment_are_held_but_have_no_age(client: TestClient) -> None:
    """Nobody knows when they were written."""
    assert samples(client, "secret_held") == {(name,): 1 for name in SECRETS}
    assert samples(client, "secret_age_seconds") == {}
    with TestClient(create_app(Settings.model_validate({"log_level": "CRITICAL"}))) as bare:
        assert samples(bare, "secret_held") == {(name,): 0 for name in SECRETS}


def test_every_kind_of_event_is_counted(client: TestClient) -> None:
    """A kind that the journal learns later must find its counter."""
    uncounted = []
    for kind in get_args(Kind):
        before = client.get("/metrics").text
        journal.record(kind, "canary", "failed")
        if not set(counters(client.get("/metrics").text)) - set(counters(before)):
            uncounted.append(kind)
    assert not uncounted


def counters(text: str) -> list[str]:
    """Return the lines of counters that the test made."""
    return [line for line in text.splitlines() if "canary" in line and "_total" in line]


def test_events_are_counted_by_source_and_outcome(client: TestClient) -> None:
    """What holds again after a fault is no failure."""
    for kind, outcome in (
        ("login", "ok"),
        ("login", "failed"),
        ("login", "failed"),
        ("load", "ok"),
        ("load", "failed"),
    ):
        journal.record(kind, "partner", outcome, "canary")  # type: ignore[arg-type]
    assert samples(client, "logins_total") == {("ok", "partner"): 1, ("failed", "partner"): 2}
    assert samples(client, "refresh_failures_total") == {("partner",): 1}
    assert "canary" not in client.get("/metrics").text


def test_a_service_that_has_stopped_hears_nothing() -> None:
    """Its listeners are gone: what others do is no longer counted."""
    app = service()
    with TestClient(app):
        journal.record("login", "vault")
        calls.notify(Call("vault", "login", "ok", 0.1))
    journal.record("login", "vault")
    calls.notify(Call("vault", "login", "ok", 0.1))
    value = app.state.metrics.registry.get_sample_value
    assert value(f"{PREFIX}_logins_total", {"source": "vault", "outcome": "ok"}) == 1
    labels = {"source": "vault", "operation": "login", "outcome": "ok"}
    assert value(f"{PREFIX}_vault_call_duration_seconds_count", labels) == 1


OPERATIONS = [
    ("POST", "/v1/auth/approle/login", "login"),
    ("POST", "/v1/auth/team/a/jwt/login", "login"),
    ("GET", "/v1/auth/token/lookup-self", "lookup-self"),
    ("POST", "/v1/auth/token/renew-self", "renew-self"),
    ("POST", "/v1/auth/token/revoke-self", "revoke-self"),
    ("POST", "/v1/sys/wrapping/lookup", "wrapping-lookup"),
    ("POST", "/v1/sys/wrapping/unwrap", "unwrap"),
    ("POST", "/v1/sys/capabilities-self", "capabilities-self"),
    ("GET", "/v1/sys/internal/ui/mounts/secret", "mount"),
    ("GET", "/prefix/v1/team/kv/data/app?version=2", "read"),
    ("GET", "/v1/team/kv/app", "read"),
    ("GET", "/v1/team/kv/data/metadata/login", "read"),
    ("POST", "/v1/team/kv/data/undelete/x", "write"),
    ("PUT", "/v1/team/kv/data/app", "write"),
    ("PATCH", "/v1/team/kv/data/app", "patch"),
    ("DELETE", "/v1/team/kv/data/app", "delete"),
    ("POST", "/v1/team/kv/undelete/app", "undelete"),
    ("POST", "/v1/team/kv/destroy/app", "destroy"),
    ("GET", "/v1/team/kv/metadata/app", "metadata"),
    ("LIST", "/v1/team/kv/metadata/app", "list"),
    ("GET", "/v1/sys/health", "other"),
    ("GET", "/v1/other/data/canary", "other"),
    ("CANARY", "/v1/team/kv/data/app", "other"),
    ("GET", "/", "other"),
]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_each_call_to_vault_has_one_of_few_names(method: str, path: str, operation: str) -> None:
    """Never a path of a secret, whatever it is called."""
    assert vault_operation("team/kv", {"database/creds/shop"}, method, path) == operation


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/authn/default/host%2Fapps%2Fone/authenticate", "login"),
        ("POST", "/api/authn-jwt/service/default/authenticate", "login"),
        ("GET", "/secrets/default/variable/app%2Fpolicies%2Fkey?version=2", "read"),
        ("GET", "/api/secrets?variable_ids=default:variable:canary", "read"),
        ("POST", "/secrets/default/variable/app%2Fkey", "write"),
        ("GET", "/resources/default/variable/app%2Fkey", "metadata"),
        ("GET", "/resources/default/variable?limit=100", "list"),
        ("PATCH", "/policies/default/policy/app", "policy"),
        ("GET", "/whoami", "other"),
    ],
)
def test_each_call_to_conjur_has_one_of_few_names(method: str, path: str, operation: str) -> None:
    """Likewise."""
    assert conjur_operation(method, path) == operation


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (204, "ok"),
        (307, "redirected"),
        (400, "refused"),
        (405, "refused"),
        (401, "denied"),
        (403, "denied"),
        (404, "missing"),
        (429, "limited"),
        (412, "failed"),
        (473, "failed"),
        (500, "failed"),
        (503, "failed"),
    ],
)
def test_each_answer_has_one_of_few_outcomes(status: int, outcome: str) -> None:
    """So that an alert can tell a policy from an outage."""
    assert outcome_of(status) == outcome


@pytest.mark.parametrize(
    ("ttl", "dead", "left"),
    [(1200.0, False, 1100.0), (50.0, False, 0.0), (0.0, False, float("inf")), (None, False, None), (1200.0, True, 0.0)],
)
def test_what_is_left_of_a_token(ttl: float | None, dead: bool, left: float | None) -> None:  # noqa: FBT001
    """100 s after the login: alive, expired, without an end, unknown, and forgotten by Vault."""
    http = open_http(VaultSettings())
    login = Login(VaultSettings(), Auth("t", ttl), 0.0, vault_client(VaultSettings(), http), http, dead=dead)
    assert login.seconds_left(100.0) == left
