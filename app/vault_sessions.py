"""Which sessions does the process have? One, so one login and one token, for each Vault, and for Conjur."""

import atexit
import math
import threading
import time

from pydantic import ValidationError

from app.backends.protocol import Connection, TokenLife
from app.config import MAIN_VAULT, Settings, VaultSettings, bad_settings
from app.config_conjur import CONJUR, ConjurSettings
from app.conjur_session import ConjurSession
from app.redaction import credentials_in, hold
from app.vault_login import Login
from app.vault_session import VaultSession

CLOSING = 5.0  # seconds; an orchestrator kills a service that takes much longer to end

_sessions: dict[VaultSettings, VaultSession] = {}
_conjur_sessions: dict[tuple[ConjurSettings, VaultSettings], ConjurSession] = {}
_sessions_lock = threading.Lock()


def get_session(settings: VaultSettings, name: str = MAIN_VAULT) -> VaultSession:
    """Return the process's one session with this Vault; `name` is what the journal calls it."""
    with _sessions_lock:
        if settings not in _sessions:
            hold((settings, "settings"), [*credentials_in(settings)])
            _sessions[settings] = VaultSession(_checked(settings), name=name)
        return _sessions[settings]


def get_conjur_session(settings: Settings) -> ConjurSession:
    """Return the process's one session with Conjur."""
    key = (settings.conjur, settings.vault)
    with _sessions_lock:
        if key not in _conjur_sessions:
            try:
                checked = ConjurSettings.model_validate({**dict(settings.conjur), "enabled": True})
            except ValidationError as error:
                raise bad_settings(error, CONJUR) from None
            _conjur_sessions[key] = ConjurSession(checked, settings.vault)
        return _conjur_sessions[key]


def held_sessions(settings: Settings) -> dict[str, VaultSession | ConjurSession]:
    """Return the sessions that there are, by the names of their Vaults; makes none."""
    vaults = settings.every_vault
    held = {name: _sessions[vault] for name, vault in vaults.items() if vault in _sessions}
    conjur = _conjur_sessions.get((settings.conjur, settings.vault))
    return {**held, CONJUR: conjur} if conjur else {**held}


def connection(settings: Settings, source: str = MAIN_VAULT) -> Connection:
    """Return how a source is reached and how long the token in force will live; asks nobody, and logs nobody in."""
    if source not in {MAIN_VAULT, CONJUR, *settings.vaults}:  # the index of API keys: it is where they are stored
        source = MAIN_VAULT if settings.vault.enabled else CONJUR
    if source == CONJUR:
        conjur = settings.conjur
        by_jwt = f"authn-jwt/{conjur.authn_jwt_service_id}" if conjur.authn_jwt_service_id else None
        address, method = conjur.appliance_url or "", by_jwt or ("token file" if conjur.authn_token_file else "API key")
    else:
        vault = settings.vaults.get(source, settings.vault)
        place = "" if vault.login_mount_point == vault.auth_method else f" at auth/{vault.login_mount_point}"
        address, method = vault.url, f"{vault.auth_method}{place}"
    session = held_sessions(settings).get(source)
    login = session.current() if session else None
    if session is None or login is None:
        return Connection(address, method)
    left = session.time_left()
    renewable = isinstance(login, Login) and login.auth.renewable
    return Connection(address, method, TokenLife(login.lifetime, None if left == math.inf else left, renewable))


def close_sessions() -> None:
    """Revoke the tokens that this process obtained; the next use logs in again.

    Side by side, so that a Vault that hangs keeps no other from hearing of it; after `CLOSING` seconds nobody waits.
    """
    threads = [threading.Thread(target=session.close, daemon=True) for session in _forgotten_sessions()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + CLOSING
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


@atexit.register  # for scripts; the service does it in its lifespan
def _close_in_turn() -> None:
    for session in _forgotten_sessions():  # no thread can be started any more
        session.close()


def _forgotten_sessions() -> list[VaultSession | ConjurSession]:
    with _sessions_lock:
        sessions: list[VaultSession | ConjurSession] = [*_sessions.values(), *_conjur_sessions.values()]
        _sessions.clear()
        _conjur_sessions.clear()
    return sessions


def _checked(settings: VaultSettings) -> VaultSettings:
    """Make sure of the credentials even where `VAULT_ENABLED` is false and the start did not ask for them."""
    try:
        return VaultSettings.model_validate({**dict(settings), "enabled": True})
    except ValidationError as error:
        raise bad_settings(error, "vault") from None
