"""Log in with a token that somebody else obtained: a person, or a Vault Agent that writes it to a sink file."""

import hvac

from app.core.errors import LoginRefused
from app.core.settings.production_guard import ANOTHER_WAY, DEV_TOKEN, DEV_TOKEN_REFUSED
from app.core.settings.vault import VaultSettings
from app.core.vault.auth_methods.protocol import Auth, credential


class TokenMethod:
    """Take the token as it is; whether Vault accepts it shows at its first use."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings

    def login(self, client: hvac.Client) -> Auth:  # noqa: ARG002 - nothing to ask Vault
        """Read the token, from its file if there is one: a Vault Agent replaces the file's content.

        Raises `LoginRefused` for the dev Vault's root token in production: what a file holds, its settings cannot tell.
        """
        settings = self._settings
        token = credential(settings.token, settings.token_file, "VAULT_TOKEN")
        if token is None:
            raise LoginRefused("auth method token", "no token was given", "Set VAULT_TOKEN or VAULT_TOKEN_FILE.")
        if settings.refuses_dev_token and token == DEV_TOKEN:
            remedy = f"{ANOTHER_WAY[0].upper()}{ANOTHER_WAY[1:]}."
            raise LoginRefused(f"VAULT_TOKEN_FILE={settings.token_file}", DEV_TOKEN_REFUSED, remedy)
        return Auth(token)
