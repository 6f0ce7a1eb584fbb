"""How do we log in? One file a method; a new one is one file, one `case` below and one line in `config.NEEDED`."""

from app.auth_methods.approle import AppRoleMethod
from app.auth_methods.cert import CertMethod
from app.auth_methods.jwt import JWTMethod
from app.auth_methods.protocol import Auth, AuthMethod
from app.auth_methods.token import TokenMethod
from app.config import VaultSettings

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
