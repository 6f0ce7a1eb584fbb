"""How do we log in? One file a method; a new one is one file, one `case` below, one line in `REQUIRED_BY_METHOD`."""

from app.core.settings.vault import VaultSettings
from app.core.vault.auth_methods.approle import AppRoleMethod
from app.core.vault.auth_methods.cert import CertMethod
from app.core.vault.auth_methods.jwt import JWTMethod
from app.core.vault.auth_methods.none import NoMethod
from app.core.vault.auth_methods.protocol import Auth, AuthMethod
from app.core.vault.auth_methods.token import TokenMethod
from app.core.vault.auth_methods.userpass import UserpassMethod

__all__ = ["Auth", "AuthMethod", "auth_method"]


def auth_method(settings: VaultSettings) -> AuthMethod:
    """Return the configured auth method; unsupported ones were refused by `VaultSettings`."""
    match settings.auth_method:
        case "token":
            return TokenMethod(settings)
        case "approle":
            return AppRoleMethod(settings)
        case "cert":
            return CertMethod(settings)
        case "kubernetes" | "jwt":
            return JWTMethod(settings)
        case "userpass":
            return UserpassMethod(settings)
        case "none":
            return NoMethod()
