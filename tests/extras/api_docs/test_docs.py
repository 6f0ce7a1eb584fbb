"""Who sees the interactive documentation, and what it is made of."""

from itertools import product
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from tests.declared import create_app
from tests.support import SECRETS

FILES = ["/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/favicon.png"]


def client(**settings: Any) -> TestClient:
    """Call a service with these settings."""
    return TestClient(create_app(Settings.model_validate({"secrets": SECRETS, **settings})))


@pytest.mark.parametrize(
    ("settings", "is_shown"),
    [
        ({}, True),
        ({"environment": "staging"}, True),
        ({"environment": "production"}, False),
        ({"environment": "production", "api_docs": True}, True),
        ({"api_docs": False}, False),
    ],
)
def test_in_production_the_api_is_not_described_unless_asked_for(settings: dict[str, Any], *, is_shown: bool) -> None:
    """Neither the page nor what it is made of; FastAPI's other page, which needs a CDN, is nowhere."""
    asked = client(**settings)
    for method, path in [("GET", "/openapi.json"), *product(("GET", "HEAD"), FILES)]:
        assert asked.request(method, path).status_code == (200 if is_shown else 404), (method, path)
    for path in ("/redoc", "/docs/oauth2-redirect", "/docs/redoc.standalone.js", "/docs/../pyproject.toml"):
        assert asked.get(path).status_code in {404, 422}


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """Its policy would not let it."""
    page = client().get("/docs")
    assert "://" not in page.text
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
