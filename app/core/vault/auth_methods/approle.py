"""Log in with AppRole: a role id that names the service and a secret id that proves it.

Rests on `POST auth/<mount>/login`, and for a wrapped secret id on `sys/wrapping/lookup` and `sys/wrapping/unwrap`.
"""

import re
from copy import copy

import hvac

from app.core.errors import BadRequest, PermissionDenied, WrappingTokenRefused
from app.core.logs.redaction import mask_from_now_on
from app.core.settings.vault import VaultSettings
from app.core.transport.network_errors import not_vault
from app.core.vault.auth_methods.protocol import Auth, credential, login_with, look_of_credentials
from app.core.vault.errors import data_of, vault_errors

_SECRET_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as Vault makes them
_UNKNOWN = "Vault does not know it: used, expired or wrong"


class AppRoleMethod:
    """Exchange role id and secret id for a token; both are read again at every login, since they rotate."""

    def __init__(self, settings: VaultSettings) -> None:
        self._settings = settings
        self._unwrapped: tuple[str | None, str] | None = None  # a wrapping token, and the secret id that was in it
        self._refused: tuple[str, WrappingTokenRefused] | None = None  # a wrapping token that is not tried again

    def login(self, client: hvac.Client) -> Auth:
        """Log in. A role that does not bind a secret id needs none."""
        settings = self._settings
        role_id = credential(settings.role_id, settings.role_id_file, "VAULT_ROLE_ID")
        if settings.secret_id_wrapped:
            secret_id: str | None = self._unwrap(client)
        else:
            secret_id = credential(settings.secret_id, settings.secret_id_file, "VAULT_SECRET_ID")
        return login_with(client, settings, {"role_id": role_id, "secret_id": secret_id})

    def look_up(self, client: hvac.Client) -> None:
        """Look at the wrapping token without using it up; raise `WrappingTokenRefused` if it is no good."""
        wrapping_token = credential(self._settings.secret_id, self._settings.secret_id_file, "VAULT_SECRET_ID") or ""
        try:
            self._check_origin(client, wrapping_token)
        except (BadRequest, PermissionDenied):
            raise self._unknown(wrapping_token) from None

    def _unwrap(self, client: hvac.Client) -> str:
        """Return the secret id, unwrapped exactly once and kept in memory; a new wrapping token is unwrapped again."""
        settings = self._settings
        file = settings.secret_id_file
        if self._unwrapped is not None and file is not None and not file.exists():
            return self._unwrapped[1]  # the file may be removed once it has been read
        wrapping_token = credential(settings.secret_id, file, "VAULT_SECRET_ID") or ""
        if self._unwrapped is not None and self._unwrapped[0] == wrapping_token:
            return self._unwrapped[1]
        if self._refused is not None and self._refused[0] == wrapping_token:
            raise copy(self._refused[1])
        try:
            self._check_origin(client, wrapping_token)
            with vault_errors(settings.url, "sys/wrapping/unwrap"):
                # the wrapping token travels as the client token: this way it can unwrap itself and nothing else
                answer = client.adapter.post("/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": wrapping_token})
        except (BadRequest, PermissionDenied):
            self._refused = wrapping_token, self._unknown(wrapping_token)
            raise self._refused[1] from None
        except WrappingTokenRefused as error:
            self._refused = wrapping_token, error
            raise
        secret_id = data_of(answer).get("secret_id")
        if not (isinstance(secret_id, str) and secret_id.isascii() and secret_id.isprintable() and secret_id.strip()):
            raise not_vault("sys/wrapping/unwrap", "no secret id in it")
        mask_from_now_on((settings, "unwrapped"), [secret_id])
        self._unwrapped = wrapping_token, secret_id
        return secret_id

    def _unknown(self, wrapping_token: str) -> WrappingTokenRefused:
        if _SECRET_ID.fullmatch(wrapping_token):
            cause = "it is no wrapping token, but looks like a secret id itself"
            remedy = "Unset VAULT_SECRET_ID_WRAPPED, or have the secret id delivered wrapped (-wrap-ttl)."
            return WrappingTokenRefused("VAULT_SECRET_ID", cause, remedy)
        look = look_of_credentials(self._settings)
        return _refusal(f"{_UNKNOWN}; {look}" if look else _UNKNOWN)

    def _check_origin(self, client: hvac.Client, wrapping_token: str) -> None:
        """Make sure that the token wraps a secret id of this mount, before it is used up.

        Somebody who intercepted the real one could have put a wrapping token of his own in its place.
        """
        with vault_errors(self._settings.url, "sys/wrapping/lookup"):
            answer = client.adapter.post("/v1/sys/wrapping/lookup", json={"token": wrapping_token})
        mount_point = re.escape(self._settings.login_mount_point)
        if not re.fullmatch(rf"auth/{mount_point}/role/[^/]+/secret-id", str(data_of(answer).get("creation_path"))):
            raise _refusal(f"it was not made by auth/{self._settings.login_mount_point}/role/…/secret-id")


def _refusal(cause: str) -> WrappingTokenRefused:
    return WrappingTokenRefused(
        "the wrapping token in VAULT_SECRET_ID",
        cause,
        "Somebody else may have read the secret id, if it was not this service: find out who, destroy it in Vault, and "
        "deliver a new one.",
    )
