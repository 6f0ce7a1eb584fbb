"""Log in with a client certificate: the TLS connection proves who we are.

Rests on `POST auth/<mount>/login`, over connections that present `VAULT_CLIENT_CERT`. Every login opens new ones with
the pair that the files hold then, so a rotated certificate is picked up without a restart.
"""

import hvac

from app.core.settings.vault import VaultSettings
from app.core.vault.auth_methods.protocol import Auth, login_with


class CertMethod:
    """Present the certificate, and name the role if one is set; without, Vault tries all that match."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings

    def login(self, client: hvac.Client) -> Auth:
        """Log in."""
        return login_with(client, self._settings, {"name": self._settings.role} if self._settings.role else {})
