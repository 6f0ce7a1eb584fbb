"""Where are issued API keys stored?"""

from app.api_keys import ApiKeys
from app.backends.conjur_key_shelf import ConjurKeyShelf
from app.backends.conjur_writer import ConjurWriter
from app.backends.vault_key_shelf import VaultKeyShelf
from app.backends.vault_kv_writer import VaultKVWriter
from app.config import Settings
from app.conjur_policy import policy_branch
from app.errors import BadSettings
from app.vault_sessions import get_conjur_session, get_session

PATIENCE = 10.0  # seconds that a request waits for other policy loads: while one does, the service cannot end


def open_api_keys(settings: Settings) -> ApiKeys | None:
    """Return the API keys of this service: in Vault, or in Conjur where there is no Vault.

    None where the settings do not let it store any. Raises `BadSettings` if they name a place where it could not.
    """
    vault = settings.vault
    if vault.access_mode != "read_and_write":
        return None
    if vault.enabled:
        if vault.kv_version == "1":
            return None  # it has no metadata
        return ApiKeys(VaultKeyShelf(lambda: VaultKVWriter(get_session(vault)), vault.write_prefix))
    if settings.conjur.enabled:
        prefix = _prefix_in_conjur(settings)
        find = lambda: ConjurWriter(get_conjur_session(settings), patience=PATIENCE)  # noqa: E731
        return ApiKeys(ConjurKeyShelf(find, prefix))
    return None


def _prefix_in_conjur(settings: Settings) -> str:
    """Return below which path the keys are: `VAULT_WRITE_PREFIX`, by default the branch in which we may create."""
    prefix, branch = settings.vault.write_prefix, policy_branch(settings)
    if branch == "root" or f"{prefix}/".startswith(f"{branch}/"):
        return prefix
    if "write_prefix" not in settings.vault.model_fields_set:
        return branch
    problem = f"{prefix} does not lie in the policy branch {branch}, where alone API keys can be created"
    raise BadSettings([f"VAULT_WRITE_PREFIX: {problem}; leave it out, or set CONJUR_POLICY_BRANCH"])
