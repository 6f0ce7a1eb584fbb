"""The parts of the doctor that need no Vault."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import VaultUnreachable
from app.extras.doctor.certificates import expiry_of
from app.extras.doctor.findings import Finding, HaltError, ok, walk, warning
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
