"""Log in with a JWT of an identity provider that Vault trusts, and likewise with a Kubernetes service account's token.

Rests on `POST auth/<mount>/login`, which the methods `jwt` and `kubernetes` have in common.
"""

import hvac

from app.core.settings.vault import SERVICE_ACCOUNT_TOKEN, VaultSettings
from app.core.vault.auth_methods.protocol import Auth, credential, login_with


class JWTMethod:
    """Exchange the JWT for a token; the file is read again at every login, since Kubernetes and others rotate it."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings
        self._file = settings.jwt_file
        if settings.auth_method == "kubernetes" and settings.jwt is None and settings.jwt_file is None:
            self._file = SERVICE_ACCOUNT_TOKEN

    def login(self, client: hvac.Client) -> Auth:
        """Log in."""
        jwt = credential(self._settings.jwt, self._file, "VAULT_JWT")
        return login_with(client, self._settings, {"role": self._settings.role, "jwt": jwt})
