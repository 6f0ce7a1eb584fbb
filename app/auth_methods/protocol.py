"""What is an auth method, and what does it bring back?"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import hvac
from pydantic import SecretStr

from app.errors import LoginRefused
from app.vault_http import not_vault


@dataclass(frozen=True, slots=True)
class Auth:
    """A token and what Vault said about it: the `auth` part of a login answer."""

    client_token: str = field(repr=False)
    lease_duration: float  # seconds; 0: the token does not expire, or nobody said
    renewable: bool
    obtained: bool  # by a login of ours: only such a token is ours to replace and to revoke
    token_type: str = "service"  # noqa: S105 - or "batch", which can be neither renewed nor revoked

    @classmethod
    def from_answer(cls, answer: Any) -> Self:
        """Read the answer to a login call; raise `UnexpectedAnswer` if it is not one."""
        match answer:
            case {"auth": {"client_token": str(token), "lease_duration": int(ttl), "renewable": bool(renewable)}}:
                token_type = answer["auth"].get("token_type", "service")
                return cls(token, float(ttl), renewable, obtained=True, token_type=token_type)
            case _:
                raise not_vault("login", "no token in it")


class AuthMethod(Protocol):
    """The one thing that an auth method does; called again for every re-login, so it reads its files each time."""

    def login(self, client: hvac.Client) -> Auth:
        """Exchange the credentials for a token, over a client that has none."""
        ...


def credential(value: SecretStr | None, file: Path | None, variable: str) -> str | None:
    """Return a credential given as a value or, read anew at each call, as a file; surrounding white space is dropped.

    Raises `LoginRefused` if the file cannot be read or is empty.
    """
    if file is None:
        return value.get_secret_value().strip() if value is not None else None
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not a text file"
        raise LoginRefused(
            f"{variable}_FILE={file}", f"the credential file cannot be read: {cause}", "Check the path and its owner."
        ) from None
    if not text:
        raise LoginRefused(f"{variable}_FILE={file}", "the credential file is empty", "Check what should fill it.")
    return text
