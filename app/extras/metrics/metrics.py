"""How is the service doing, in numbers? What Prometheus reads at `GET /metrics`.

Requests, calls to Vault, secrets, tokens. Names of declared secrets and of Vaults are all that it tells: no path, no
value.
"""

import math
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from itertools import product
from typing import get_args

from fastapi import FastAPI, Request, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from pydantic import BaseModel

from app.core.logs.event_log import Event, Outcome, journal
from app.core.settings.app import AppSettings
from app.core.store.refresh import Refresher
from app.core.store.source import Source
from app.core.transport.calls import Call, calls
from app.core.web.refusals import Credential

PREFIX = "blueprint"  # alerts and dashboard, in infrastructure/, ask for these names; `make rename` changes both
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
CALL_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


def install(app: FastAPI) -> None:
    """Add the page, and have requests, calls and events counted."""
    metrics = app.state.metrics = Metrics(
        app.state.settings, app.state.sources, app.state.refresher, app.state.vault_secrets.declared
    )
    app.state.refusals.subscribe(metrics.refusal)
    app.state.observers.append(metrics.request)
    app.state.contexts.append(metrics.counting)
    app.state.routes.add_api_route("/metrics", metrics.page, methods=["GET", "HEAD"], include_in_schema=False)


class Metrics:
    """The numbers of one service, in a registry of its own."""

    def __init__(
        self, settings: AppSettings, sources: Sequence[Source], refresher: Refresher, declared: type[BaseModel]
    ) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._sources = sources
        self._refresher = refresher
        self.registry.register(Memory(settings, sources, refresher, declared))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, labels: Iterable[str], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"{PREFIX}_{name}_seconds", text, labels, buckets=buckets, registry=self.registry)

        Info(f"{PREFIX}_build", "What is running.", registry=self.registry).info(
            {"name": settings.service.name, "version": settings.service.version}
        )
        requests = histogram(
            "http_request_duration", "Requests answered.", ("method", "route", "status"), REQUEST_BUCKETS
        )
        self._requests = cache(requests.labels)  # which takes a lock and makes strings, at each request
        self._calls = histogram(
            "vault_call_duration", "Requests to a Vault.", ("source", "operation", "outcome"), CALL_BUCKETS
        )
        self._logins = counter("logins", "Logins to a Vault.", "source", "outcome")
        self._renewals = counter("token_renewals", "Renewals of a Vault's token.", "source", "outcome")
        self._leases = counter("leases", "Credentials that Vault issued, renewed or took back.", "source", "outcome")
        self._rotations = counter("rotations", "Changed secrets that were taken in.", "source")
        self._refused = counter("refused_snapshots", "Rounds whose secrets broke the declaration.", "source")
        self._failures = counter("refresh_failures", "Rounds that could not read the secrets.", "source")
        self._rebuilds = counter("rebuilds", "Objects built from new secrets.", "object", "outcome")
        self._refusals = counter("refused_credentials", "Keys and tokens sent to the service that are none.", "kind")
        self._background = counter("background_failures", "Background tasks that failed, and go on.", "task")

    def refusal(self, kind: Credential) -> None:
        """Count a key or a token that somebody sent, and that is none."""
        self._refusals.labels(kind).inc()

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request that is over; `route` is the template of its path, `status` is 0 if there was no answer."""
        known = method if method in METHODS else "other"
        self._requests(known, route or "other", status or "none").observe(seconds)

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Hear of calls to Vault and of what the journal notes, until the block ends."""
        self._start_at_zero()
        leave = calls.subscribe(self._count_call), journal.subscribe(self._count_event)
        try:
            yield
        finally:
            for each in leave:
                each()

    def page(self, request: Request) -> Response:
        """Answer Prometheus, in the format that it asks for. A plain `def`: rendering is not the event loop's work."""
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
        except TypeError:  # it asks for a version that is no number
            encode, content_type = choose_encoder("")
        return Response(encode(self.registry), headers={"Content-Type": content_type})

    def _start_at_zero(self) -> None:
        """Show every counter from the start: the rise from nothing to 1 would not count as an increase."""
        for keeper in self._refresher.sources:
            for counter in (self._rotations, self._refused, self._failures):
                counter.labels(keeper.source)
        for kind in get_args(Credential):
            self._refusals.labels(kind)
        for task in self._refresher.background_tasks:
            self._background.labels(task)
        tended = [source.name for source in self._sources if source.periodic()]
        with_outcome = (
            (self._logins, [source.name for source in self._sources]),
            (self._renewals, tended),
            (self._leases, tended),
            (self._rebuilds, self._refresher.rotating),
        )
        for counter, names in with_outcome:
            for name, outcome in product(names, get_args(Outcome)):
                counter.labels(name, outcome)

    def _count_call(self, call: Call) -> None:
        self._calls.labels(call.source, call.operation, call.outcome).observe(call.seconds)

    def _count_event(self, event: Event) -> None:
        match event.kind:
            case "login":
                self._logins.labels(event.source, event.outcome).inc()
            case "renewal":
                self._renewals.labels(event.source, event.outcome).inc()
            case "lease":
                self._leases.labels(event.source, event.outcome).inc()
            case "rotation":
                self._rotations.labels(event.source).inc()
            case "refused":
                self._refused.labels(event.source).inc()
            case "load" if event.outcome == "failed":
                self._failures.labels(event.source).inc()
            case "rebuilt":
                self._rebuilds.labels(event.source, event.outcome).inc()
            case "upkeep":
                self._background.labels(event.source).inc()


class Memory(Collector):
    """What is held now; looked at when Prometheus asks, and nothing but looked at."""

    def __init__(
        self, settings: AppSettings, sources: Sequence[Source], refresher: Refresher, declared: type[BaseModel]
    ) -> None:
        self._from = sources
        self._refresher = refresher
        self._declared = tuple(declared.model_fields)
        self._names = dict.fromkeys((*self._declared, *settings.secrets))  # in order, each once

    def collect(self) -> Iterator[Metric]:
        """Return gauges; one whose value is not known is left out."""
        yield from self._sources()
        yield from self._secrets()
        yield from self._tokens()

    def _sources(self) -> Iterator[Metric]:
        keepers = self._refresher.sources
        ages = [(keeper.source, keeper.age) for keeper in keepers]
        bounds = [(keeper.source, keeper.max_staleness or None) for keeper in keepers]
        stale = [(keeper.source, float(keeper.is_stale)) for keeper in keepers]
        failing = [(keeper.source, float(keeper.fault is not None)) for keeper in keepers]
        overdue = [(keeper.source, float(keeper.is_overdue)) for keeper in keepers]
        yield _gauge("source_age_seconds", "Time since the source last confirmed its secrets.", "source", ages)
        yield _gauge("source_max_staleness_seconds", "The age at which they no longer count.", "source", bounds)
        yield _gauge("source_stale", "Whether they are older than that.", "source", stale)
        yield _gauge("source_failing", "Whether the last round failed, was refused or is overdue.", "source", failing)
        yield _gauge("source_overdue", "Whether a round should have ended, or begun, long ago.", "source", overdue)

    def _secrets(self) -> Iterator[Metric]:
        origins, now = self._refresher.store.snapshot().origins, time.time()
        held = [(name, float(name in origins)) for name in self._declared]
        written = [(name, origins[name].created_at) for name in self._names if name in origins]
        ages = [(name, None if at is None else max(0.0, now - at)) for name, at in written]
        yield _gauge("secret_held", "Whether the service holds this declared secret.", "secret", held)
        yield _gauge("secret_age_seconds", "Time since the version in force was written.", "secret", ages)

    def _tokens(self) -> Iterator[Metric]:
        lives = [(source.name, life) for source in self._from if (life := source.connection().token)]
        left = [(name, math.inf if life.left is None and life.ttl == 0 else life.left) for name, life in lives]
        ttls = [(name, life.ttl or None) for name, life in lives]
        yield _gauge("vault_token_left_seconds", "Time until the token expires; +Inf: never.", "source", left)
        yield _gauge("vault_token_ttl_seconds", "How long it lived when it was last renewed.", "source", ttls)
        leases = [(name, life) for source in self._from for name, life in source.connection().leases.items()]
        ends = [(name, life.left) for name, life in leases]
        spans = [(name, life.ttl) for name, life in leases]
        yield _gauge("dynamic_secret_left_seconds", "Time until the issued credentials end.", "secret", ends)
        yield _gauge(
            "dynamic_secret_ttl_seconds", "How long they were good when last issued or renewed.", "secret", spans
        )


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float | None]]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=(label,))
    for labelled, value in values:
        if value is not None:
            family.add_metric((labelled,), value)
    return family
