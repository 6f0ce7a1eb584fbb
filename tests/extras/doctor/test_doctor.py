"""The parts of the doctor that need no Vault."""

import datetime as dt
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config import Settings
from app.core.errors import VaultUnreachable
from app.core.store.overrides import local_overrides
from app.core.store.secret_store import merge
from app.core.store.source import Secret
from app.extras.doctor.certificates import expiry_of
from app.extras.doctor.findings import Finding, HaltError, ok, walk, warning
from app.extras.doctor.local_servers import examine_local_servers
from tests.pki import Authority


@given(days=st.integers(min_value=-10_000, max_value=40_000))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_expiry_of_a_certificate_is_read_to_the_second(tmp_path: Path, days: int) -> None:
    """From 2050 on, certificates write the year otherwise."""
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    certificate, _ = Authority(tmp_path).issue("app", dt.timedelta(days=days))
    found = expiry_of(f"a comment\n{certificate.read_text()}")
    assert found is not None
    assert abs(found - expires.timestamp()) < 10


def test_a_file_without_a_certificate_has_no_expiry() -> None:
    """Whether it can be used is OpenSSL's to say."""
    assert expiry_of("-----BEGIN CERTIFICATE REQUEST-----\nMIG\n-----END CERTIFICATE REQUEST-----\n") is None


def fails() -> Iterator[Finding]:
    """Find something, and then a fault."""
    yield warning("a warning", "a remedy")
    raise VaultUnreachable("subject", "cause", "remedy")


def halts() -> Iterator[Finding]:
    """End the chain."""
    raise HaltError(warning("not tried", "a remedy"))


@pytest.mark.parametrize(("step", "last"), [(fails, "fault"), (halts, "warning")])
def test_what_comes_after_a_step_that_fails_is_not_reached(step: type, last: str) -> None:
    """And says for which step it waits."""
    found = list(walk("vault", {"one": lambda: [ok("fine")], "two": step, "three": halts, "four": halts}))
    assert [(each.step, each.status) for each in found if each.step != "two"] == [
        ("one", "ok"),
        ("three", "not reached"),
        ("four", "not reached"),
    ]
    assert [each.status for each in found if each.step == "two"][-1] == last
    assert {each.text for each in found if each.status == "not reached"} == {"waits for: two"}
    assert {each.source for each in found} == {"vault"}


@contextmanager
def listening() -> Iterator[int]:
    """Accept connections at a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def looked_at(text: str, held: str | None = None) -> list[Finding]:
    """Return what is found where `SECRET_DATABASE_URL` is this text, and what Vault holds beside it is this."""
    login = {"enabled": True, "auth_method": "token", "token": "a-token", "dynamic": {"db": "database/creds/shop"}}
    settings = Settings.model_validate({"vault": login, "secrets": {"database_url": text}})
    kept = [Secret("shop", {"database_url": held})] if held else []
    merged = merge({"vault": kept, "environment": local_overrides(settings.secrets)})
    return list(examine_local_servers(settings, ["database_url", "api_key"], merged))


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://app:canary-1@127.0.0.1:{}/shop",
        "postgresql+asyncpg://app:canary-1@localhost:{}/shop?ssl=disable",
        "jdbc:postgresql://127.0.0.1:{}/shop",
        "redis://:canary-1@127.0.0.1:{}",
    ],
)
def test_a_server_on_this_machine_is_missed_only_where_nobody_listens(form: str) -> None:
    """Nothing is said but its host and its port."""
    with listening() as port:
        (found,) = looked_at(form.format(port))
        assert (found.status, found.text) == ("ok", "accepts connections")
    (found,) = looked_at(form.format(port))
    assert (found.status, found.text) == ("warning", "nothing listens there")
    assert re.fullmatch(rf"database_url: (127\.0\.0\.1|localhost):{port}", found.subject)
    assert "canary" not in str(found)


def test_where_vault_issues_the_login_the_server_is_known_before() -> None:
    """From what stands around it."""
    with listening() as port:
        url = f"postgresql://{{dynamic://db/username}}:{{dynamic://db/password}}@127.0.0.1:{port}/shop"
        (found,) = looked_at(url, held="postgresql://localhost:1/does-not-count")
        assert (found.status, found.subject) == ("ok", f"database_url: 127.0.0.1:{port}")
    assert looked_at("{dynamic://db/url}", held="postgresql://localhost:1/does-not-count") == []


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app@db.example.com/shop",
        "postgresql://localhost:1,localhost:2/shop",
        "postgresql://app:p[w@localhost/shop",
        "postgresql://localhost:99999/shop",
        "sqlite:///here.db",
        "smtp://localhost",
        "localhost:5432",
        "",
    ],
)
def test_a_server_that_is_elsewhere_or_not_plain_to_see_is_not_looked_for(text: str) -> None:
    """Nor is what no URL tells."""
    assert looked_at(text) == []
