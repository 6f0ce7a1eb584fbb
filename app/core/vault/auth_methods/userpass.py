"""Log in with a user name and a password.

Rests on `POST auth/<mount>/login/<user name>`. After five wrong passwords Vault locks a user out for 15 minutes, unless
it is configured otherwise.
"""

from urllib.parse import quote

import hvac
import hvac.exceptions

from app.core.errors import LoginRefused
from app.core.settings.vault import VaultSettings
from app.core.vault.auth_methods.protocol import Auth, credential, login_with


class UserpassMethod:
    """Exchange them for a token; the password's file is read again at every login, since passwords are changed."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings

    def login(self, client: hvac.Client) -> Auth:
        """Log in."""
        settings = self._settings
        password = credential(settings.password, settings.password_file, "VAULT_PASSWORD", encoding="utf-8")
        user = quote(settings.username or "", safe="")
        try:
            return login_with(client, settings, {"password": password}, f"login/{user}")
        except hvac.exceptions.InvalidPath as error:
            if "unsupported path" not in str(error.errors):
                raise
            cause = "no user can have this name, or what is mounted there is not userpass"
            remedy = "Check VAULT_USERNAME (letters, digits, _, and within it . and -), and VAULT_AUTH_MOUNT_POINT."
            raise LoginRefused(f"VAULT_USERNAME at auth/{settings.login_mount_point}", cause, remedy) from None
