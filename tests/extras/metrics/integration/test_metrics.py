"""What the numbers and spans say of a real Vault, and that they hold no path and no value."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families

from app.core.errors import PermissionDenied, VaultUnreachable
from app.core.settings.vault import VaultSettings
from app.core.transport import calls as vault_calls
from app.core.transport.calls import Call, calls
from app.extras.metrics.metrics import PREFIX
from app.vault import close_sessions, read_paths
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.declared import OBJECT
from tests.support import SECRETS, Service, Vault, environment, unique, until

QUICK = {"refresh_interval": "0.5", "max_staleness": "1.5", "timeout": "1"}


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a complete secret of this test's own."""
    vault.write(path := unique("canary-path"), SECRETS)
    return path


def value(service: Service, name: str, **labels: str) -> float | None:
    """Return the value of one sample; None if there is none with just these labels."""
    for family in text_string_to_metric_families(service.get("/metrics").text):
        for sample in family.samples:
            if sample.name == f"{PREFIX}_{name}" and sample.labels == labels:
                return sample.value
    return None


def number(service: Service, name: str, **labels: str) -> float:
    """Return the value of one sample that must be there."""
    found = value(service, name, **labels)
    assert found is not None, (name, labels)
    return found


def test_a_start_is_told_in_numbers(vault: Vault, path: str, tmp_path: Path) -> None:
    """One login, one read, how old each secret is, and how long the token will live."""
    variables = environment(vault.app_role(path))
    variables["SECRET_EXTRA"] = f"{{vault://vault/{path}/api_key}}"
    with Service(tmp_path, variables) as service:
        assert value(service, "logins_total", source="vault", outcome="ok") == 1
        assert value(service, "logins_total", source="vault", outcome="failed") == 0
        count = "vault_call_duration_seconds_count"
        for operation in ("login", "read"):
            assert value(service, count, source="vault", operation=operation, outcome="ok") == 1
        assert 0 <= number(service, "source_age_seconds", source="vault") < 30
        assert value(service, "source_max_staleness_seconds", source="vault") == 86400
        assert value(service, "source_stale", source="vault") == 0
        assert value(service, "source_failing", source="vault") == 0
        for name in (*SECRETS, "extra"):
            assert 0 <= number(service, "secret_age_seconds", secret=name) < 60
        assert value(service, "vault_token_ttl_seconds", source="vault") == 1200
        assert 1100 < number(service, "vault_token_left_seconds", source="vault") <= 1200


def test_faults_are_told_in_numbers_and_names_only(vault: Vault, path: str, tmp_path: Path) -> None:
    """A rotation, a refused one, an outage until the secrets are stale; no path, no value, no address."""
    proxy = FaultyProxy(vault.url)
    with (
        proxy.running() as url,
        Service(tmp_path, environment({**vault.app_role(path), **QUICK, "url": url})) as service,
    ):
        extra = {"undeclared-canary": "canary"}
        vault.write(path, {**SECRETS, **extra, "api_key": "canary-new-key"})
        until(lambda: value(service, "rotations_total", source="vault") == 1, "the rotation")
        assert value(service, "rebuilds_total", object=OBJECT, outcome="ok") == 1
        vault.write(path, {**SECRETS, "jwt_secret": "canary"})
        until(lambda: value(service, "refused_snapshots_total", source="vault"), "the refusal")
        assert value(service, "source_failing", source="vault") == 1
        assert value(service, "refresh_failures_total", source="vault") == 0
        proxy.fault = lambda *_: Fault(reset=True)
        until(lambda: value(service, "refresh_failures_total", source="vault"), "the outage")
        until(lambda: value(service, "source_stale", source="vault"), "the bound to pass")
        count = "vault_call_duration_seconds_count"
        assert value(service, count, source="vault", operation="read", outcome="unreachable")
        text = service.get("/metrics").text
    assert "canary" not in text
    assert url.removeprefix("http://") not in text


def test_a_refused_login_is_told_in_numbers(vault: Vault, path: str, tmp_path: Path) -> None:
    """The service has started all the same; there is no token to tell of, and no secret."""
    with Service(tmp_path, environment({**vault.app_role(path), "secret_id": "canary-wrong"})) as service:
        until(lambda: value(service, "logins_total", source="vault", outcome="failed"), "the refusal")
        count = "vault_call_duration_seconds_count"
        assert value(service, count, source="vault", operation="login", outcome="refused")
        assert value(service, "vault_token_left_seconds", source="vault") is None
        assert value(service, "source_age_seconds", source="vault") is None
        assert value(service, "secret_held", secret="api_key") == 0


@contextmanager
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Collect the spans of this process, without making it the process's way for good."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with monkeypatch.context() as patch:
        patch.setattr(vault_calls, "tracer", provider.get_tracer("tests"))
        yield exporter
    provider.shutdown()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the latest span of each name."""
    return {span.name: span for span in exporter.get_finished_spans()}


def test_each_call_is_a_span(vault: Vault, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was asked, where and with what success; without the path, the role, the token or a value."""
    settings = VaultSettings.model_validate(vault.app_role(path))
    with spans(monkeypatch) as exporter:
        read_paths(settings, [path])
        close_sessions()
        finished = by_name(exporter)
    assert set(finished) == {"vault login", "vault read", "vault revoke-self"}
    read = finished["vault read"]
    assert read.kind is SpanKind.CLIENT
    assert read.attributes == {
        "server.address": urlsplit(vault.url).hostname,
        "server.port": int(vault.url.rpartition(":")[2]),
        "vault.source": "vault",
        "vault.operation": "read",
        "vault.outcome": "ok",
    }
    assert "canary" not in "".join(span.to_json() for span in finished.values())


def test_failed_calls_are_spans_with_an_error(vault: Vault, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied by Vault, and not answered at all: neither repeats what was sent or said."""
    settings = vault.app_role(path)
    with spans(monkeypatch) as exporter:
        with pytest.raises(PermissionDenied):
            read_paths(VaultSettings.model_validate(settings), ["canary-other"])
        denied = by_name(exporter)["vault read"]
        with FaultyProxy(vault.url, lambda *_: Fault(reset=True)).running() as url, pytest.raises(VaultUnreachable):
            read_paths(VaultSettings.model_validate({**settings, "url": url}), [path])
        lost = by_name(exporter)["vault login"]
    for span, outcome in ((denied, "denied"), (lost, "unreachable")):
        assert (span.attributes or {})["vault.outcome"] == outcome
        assert span.status.status_code is StatusCode.ERROR
        assert not span.events
        assert "canary" not in span.to_json()


def test_an_answer_that_breaks_off_has_not_come(vault: Vault, path: str) -> None:
    """Though its status was 200; the time that it took is told, too."""
    heard: list[Call] = []
    leave = calls.subscribe(heard.append)
    settings = vault.app_role(path)
    cut = Fault(cut=True)
    proxy = FaultyProxy(vault.url, lambda _method, where: cut if "data" in where else None)
    try:
        with proxy.running() as url, pytest.raises(VaultUnreachable):
            read_paths(VaultSettings.model_validate({**settings, "url": url}), [path])
    finally:
        leave()
    assert [(call.operation, call.outcome) for call in heard] == [("login", "ok"), ("read", "unreachable")]
    assert all(0 < call.seconds < 30 for call in heard)
