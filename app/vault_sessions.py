"""Which sessions does the process have? One, and so one login and one token, for each Vault it is configured for."""

import atexit
import threading

from pydantic import ValidationError

from app.config import MAIN_VAULT, VaultSettings, bad_settings
from app.vault_session import VaultSession

_sessions: dict[VaultSettings, VaultSession] = {}
_sessions_lock = threading.Lock()


def get_session(settings: VaultSettings, name: str = MAIN_VAULT) -> VaultSession:
    """Return the process's one session with this Vault; `name` is what the journal calls it."""
    with _sessions_lock:
        if settings not in _sessions:
            _sessions[settings] = VaultSession(_checked(settings), name=name)
        return _sessions[settings]


def close_sessions() -> None:
    """Revoke the tokens that this process obtained; the next use logs in again."""
    with _sessions_lock:
        sessions = list(_sessions.values())
        _sessions.clear()
    for session in sessions:
        session.close()


atexit.register(close_sessions)  # for scripts; the service does it in its lifespan


def _checked(settings: VaultSettings) -> VaultSettings:
    """Make sure of the credentials even where `VAULT_ENABLED` is false and the start did not ask for them."""
    try:
        return VaultSettings.model_validate({**dict(settings), "enabled": True})
    except ValidationError as error:
        raise bad_settings(error, "vault") from None
