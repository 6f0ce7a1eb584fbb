"""What keeps each source's secrets fresh, and tells it how far what is built from them has followed?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from app.core.store.overrides import Texts, local_overrides
from app.core.store.refresh import Refresher
from app.core.store.rotating import Rotating
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret, Source, read_source
from app.core.store.source_refresher import SourceRefresher


def refresher_of(
    declared: type[BaseModel],
    sources: Sequence[Source],
    texts: Texts,
    load: Callable[[Source], tuple[Secret, ...]] = read_source,
    rotating: Mapping[str, Rotating[Any]] = MappingProxyType({}),
) -> Refresher:
    """Return what keeps the secrets fresh that are `declared`, and what is built from them; its `store` holds them."""
    store = SecretStore(declared, [source.name for source in sources], local_overrides(texts))
    return Refresher(
        store,
        refreshers_of(sources, store, load, rotating),
        rotating,
        periodic={name: tick for source in sources for name, tick in source.periodic().items()},
    )


def refreshers_of(
    sources: Iterable[Source],
    store: SecretStore,
    load: Callable[[Source], tuple[Secret, ...]] = read_source,
    rotating: Mapping[str, Rotating[Any]] = MappingProxyType({}),
) -> list[SourceRefresher]:
    """Return what keeps each source's secrets fresh; `load` reads one, and `rotating` are built from them."""

    def drained() -> Callable[[], bool]:
        now = store.snapshot().generation
        return lambda: all(each.oldest >= now for each in rotating.values())

    return [
        SourceRefresher(
            source.name,
            partial(load, source),
            store,
            interval=source.interval,
            max_staleness=source.max_staleness,
            awaited=source.awaited,
            connection=source.connection,
            upstream=source,
            drained=drained,
        )
        for source in sources
    ]
