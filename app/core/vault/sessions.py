"""Which session belongs to which Vault? The process has one, so one login and one token, for each."""

from pydantic import ValidationError

from app.core.logs.redaction import credentials_in, mask_from_now_on
from app.core.settings.problems import bad_settings
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.store.sessions import Sessions
from app.core.vault.session import VaultSession

_sessions: Sessions[VaultSettings, VaultSession] = Sessions()


def get_session(settings: VaultSettings, name: str = MAIN_VAULT) -> VaultSession:
    """Return the process's one session with this Vault; `name` is what the journal calls it."""
    return _sessions.get(settings, lambda: _session(settings, name))


def held_session(settings: VaultSettings) -> VaultSession | None:
    """Return the session with this Vault, if there is one; makes none."""
    return _sessions.held(settings)


def _session(settings: VaultSettings, name: str) -> VaultSession:
    """Make sure of the credentials even where `VAULT_ENABLED` is false and the start did not ask for them."""
    mask_from_now_on((settings, "settings"), [*credentials_in(settings)])
    try:
        checked = VaultSettings.model_validate({**dict(settings), "enabled": True})
    except ValidationError as error:
        raise bad_settings(error, "vault") from None
    return VaultSession(checked, name=name)
