"""Where are issued API keys stored, and how often is their index read?"""

from dataclasses import replace

from app.core.settings.app import AppSettings
from app.core.store.provider import Providers, adapter
from app.core.store.source import Connection
from app.core.store.source_refresher import SPREAD, SourceRefresher
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.sessions import get_session
from app.extras.api_keys.key_records import ApiKeyStore
from app.extras.api_keys.keys import ApiKeys
from app.extras.api_keys.vault_store import VaultApiKeyStore


def open_api_keys(settings: AppSettings, providers: Providers) -> ApiKeys | None:
    """Return the API keys of this service: in Vault, or in the first other kind of source where there is no Vault.

    None where the settings do not let it store any. Raises `BadSettings` if they name a place where it could not.
    """
    provider, name = providers.primary(settings)
    if settings.vault.access_mode != "read_and_write" or not provider.names(settings)[name]:
        return None
    own = adapter(provider, "api_keys")
    store: ApiKeyStore | None = own.key_store(settings) if own else vault_key_store(settings)
    return None if store is None else ApiKeys(store)


def vault_key_store(settings: AppSettings) -> VaultApiKeyStore | None:
    """Return where they are in Vault; None in KV version 1, which has no metadata."""
    vault = settings.vault
    if vault.kv_version == "1":
        return None
    return VaultApiKeyStore(lambda: VaultKVWriter(get_session(vault)), vault.write_prefix)


def index_refreshers(settings: AppSettings, providers: Providers, api_keys: ApiKeys | None) -> list[SourceRefresher]:
    """Read the index of API keys often enough for a revocation to count within one refresh interval."""
    if api_keys is None:
        return []
    interval, longest = settings.vault.refresh_interval / SPREAD[1], settings.vault.max_staleness
    provider, name = providers.primary(settings)
    source = provider.source(settings, name)

    def connection() -> Connection:
        """Return how they are reached; what that source has issued is none of their business."""
        return replace(source.connection(), leases={})

    return [
        SourceRefresher(
            "api-keys",
            api_keys.load,
            api_keys.index,
            interval=interval,
            max_staleness=longest,
            connection=connection,
        )
    ]
