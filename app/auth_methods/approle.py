"""Log in with AppRole: a role id that names the service and a secret id that proves it.

Rests on `POST auth/<mount>/login`.
"""

import hvac

from app.auth_methods.protocol import Auth, credential
from app.config import VaultSettings


class AppRoleMethod:
    """Exchange role id and secret id for a token; both are read anew at every login, since they rotate."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings

    def login(self, client: hvac.Client) -> Auth:
        """Log in. A role that does not bind a secret id needs none."""
        settings = self._settings
        answer = client.auth.approle.login(
            role_id=credential(settings.role_id, settings.role_id_file, "VAULT_ROLE_ID"),
            secret_id=credential(settings.secret_id, settings.secret_id_file, "VAULT_SECRET_ID"),
            use_token=False,
            mount_point=settings.login_mount_point,
        )
        return Auth.from_answer(answer)
