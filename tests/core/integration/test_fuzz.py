"""Whatever its OpenAPI allows, and much that it does not, is asked of the service: no 500, no undocumented answer."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.config import Settings
from tests.declared import create_app
from tests.support import SECRETS, Service, Vault, environment, unique

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
ADMIN = {"X-API-Key": SECRETS["api_key"]}


@pytest.fixture
def configured(vault: Vault) -> dict[str, Any]:
    """Return settings with which the service may do everything it can do."""
    vault.write(path := unique("fuzzed"), SECRETS)
    raw = {"enabled": True, "url": vault.url, "token": vault.root_token, "secret_path": path}
    return raw | {"access_mode": "read_and_write", "write_prefix": f"{path}/keys"}


@pytest.fixture
def client(configured: dict[str, Any]) -> Iterator[TestClient]:
    """Call the service in this process."""
    app = create_app(Settings.model_validate({"vault": configured, "log_level": "CRITICAL"}))
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


def documented(openapi: Any) -> Any:
    """Return an OpenAPI without the answer that stands for any other: each status must be documented."""
    for operation in itertools.chain.from_iterable(path.values() for path in openapi["paths"].values()):
        del operation["responses"]["default"]
    return openapi


@pytest.mark.slow
def test_the_api_keeps_to_its_openapi(configured: dict[str, Any], tmp_path: Path) -> None:
    """Every operation of the running service, with data that fits and data that does not."""
    statuses: dict[str, set[int]] = {}
    with Service(tmp_path, environment(configured)) as service, requests.Session() as session:
        session.headers.update(ADMIN)
        schema = schemathesis.openapi.from_dict(documented(service.get("/openapi.json").json()))
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()

            @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode]))
            @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            def ask(case: Any) -> None:
                response = case.call(session=session, base_url=service.url)
                statuses.setdefault(case.operation.label, set()).add(response.status_code)
                case.validate_response(response, checks=CHECKS)

            ask()
    assert "POST /caller" in statuses
    # extra: api_keys
    assert statuses.keys() >= {f"POST /api-keys{rest}" for rest in ("", "/{name}/rotate")}
    assert {201, 422} <= statuses["POST /api-keys"]  # both kinds of data arrived
    # /extra


@given(
    path=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    body=st.binary(max_size=2000),
    key=st.none() | st.binary(max_size=100),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_no_request_at_all_is_a_fault(
    client: TestClient, path: str, body: bytes, key: bytes | None, method: str
) -> None:
    """Any path, body and key: an error perhaps, but never a fault of the server."""
    sent = ADMIN["X-API-Key"].encode() if key is None else key
    headers = {b"X-API-Key": sent, b"Content-Type": b"application/json", b"Authorization": b"Bearer " + sent}
    for url in (f"/{quote(path)}", f"/api-keys/{quote(path)}", f"/api-keys/{quote(path, safe='')}/rotate"):
        answer = client.request(method, url, content=body, headers=headers)
        assert answer.status_code < 500, (method, url)
