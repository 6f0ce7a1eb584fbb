"""Where are issued API keys stored, and what keeps the index of them fresh?"""

from app.api_keys import ApiKeys
from app.backends.vault_key_shelf import VaultKeyShelf
from app.backends.vault_kv_writer import VaultKVWriter
from app.config import Settings
from app.refresh import SPREAD, Keeper
from app.vault_sessions import get_session


def open_api_keys(settings: Settings) -> ApiKeys | None:
    """Return the API keys of this service; None where its settings do not let it store any."""
    vault = settings.vault
    if not vault.enabled or vault.access_mode != "read_and_write":
        return None
    return ApiKeys(VaultKeyShelf(lambda: VaultKVWriter(get_session(vault)), vault.write_prefix))


def index_keepers(settings: Settings, api_keys: ApiKeys | None) -> list[Keeper]:
    """Return what reads the index anew, often enough for a revocation to count within one refresh interval."""
    if api_keys is None:
        return []
    interval = settings.vault.refresh_interval / SPREAD[1]
    staleness = settings.vault.max_staleness
    return [Keeper("api-keys", api_keys.load, api_keys.index, interval=interval, max_staleness=staleness)]
