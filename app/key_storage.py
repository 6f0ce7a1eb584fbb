"""Where are issued API keys stored?"""

from app.api_keys import ApiKeys
from app.backends.conjur_key_shelf import ConjurKeyShelf
from app.backends.conjur_writer import ConjurWriter
from app.backends.vault_key_shelf import VaultKeyShelf
from app.backends.vault_kv_writer import VaultKVWriter
from app.config import Settings
from app.vault_sessions import get_conjur_session, get_session


def open_api_keys(settings: Settings) -> ApiKeys | None:
    """Return the API keys of this service: in Vault, or in Conjur where there is no Vault.

    None where the settings do not let it store any.
    """
    vault = settings.vault
    if vault.access_mode != "read_and_write":
        return None
    if vault.enabled:
        if vault.kv_version == "1":
            return None  # it has no metadata
        return ApiKeys(VaultKeyShelf(lambda: VaultKVWriter(get_session(vault)), vault.write_prefix))
    if settings.conjur.enabled:
        return ApiKeys(ConjurKeyShelf(lambda: ConjurWriter(get_conjur_session(settings)), vault.write_prefix))
    return None
