"""What is kept fresh, from where, and how often?

Each Vault, and Conjur, has a keeper and a token of its own: one that is down neither delays nor breaks the others. The
start waits for the main Vault, and for Conjur if that is there instead, and half a second for the others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from app.api_keys import ApiKeys
from app.config import MAIN_VAULT, Settings
from app.config_conjur import CONJUR
from app.conjur import read_conjur
from app.refresh import SPREAD, Keeper, Refresher
from app.rotating import Rotating
from app.secret_store import SecretStore
from app.token_life import TokenKeeper
from app.vault import get_session, read_vault


def refresher_of(
    settings: Settings, store: SecretStore, rotating: Mapping[str, Rotating[Any]], api_keys: ApiKeys | None = None
) -> Refresher:
    """Return what keeps the store filled from all that is enabled, `rotating` in step with it, and the keys' index."""
    keepers = [*_keepers(settings, store), *_index_keepers(settings, api_keys)]
    return Refresher(store, keepers, rotating, list(_token_ticks(settings)))


def _keepers(settings: Settings, store: SecretStore) -> Iterator[Keeper]:
    for name, vault in settings.every_vault.items():
        if vault.enabled:
            load = partial(read_vault, settings, name)
            often, bound, awaited = vault.refresh_interval, vault.max_staleness, name == MAIN_VAULT
            yield Keeper(name, load, store, interval=often, max_staleness=bound, awaited=awaited)
    if settings.conjur.enabled:
        shared, load = settings.vault, partial(read_conjur, settings)
        often, bound, awaited = shared.refresh_interval, shared.max_staleness, not shared.enabled
        yield Keeper(CONJUR, load, store, interval=often, max_staleness=bound, awaited=awaited)


def _index_keepers(settings: Settings, api_keys: ApiKeys | None) -> Iterable[Keeper]:
    """Read the index of API keys often enough for a revocation to count within one refresh interval."""
    if api_keys is None:
        return
    interval, staleness = settings.vault.refresh_interval / SPREAD[1], settings.vault.max_staleness
    yield Keeper("api-keys", api_keys.load, api_keys.index, interval=interval, max_staleness=staleness)


def _token_ticks(settings: Settings) -> Iterator[Callable[[], float]]:
    for name, vault in settings.every_vault.items():
        if vault.enabled:
            yield TokenKeeper(partial(get_session, vault, name)).tick
