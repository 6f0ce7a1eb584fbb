"""What is an auth method, and what does it bring back?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import hvac
from pydantic import SecretStr

from app.config import VaultSettings
from app.credential_files import warn_if_others_may_read
from app.errors import LoginRefused
from app.redaction import hold
from app.unpicklable import Unpicklable
from app.vault_errors import not_vault
from app.vault_http import quoted


@dataclass(frozen=True, slots=True)
class Auth(Unpicklable):
    """A token and what Vault said about it: the `auth` part of a login answer."""

    client_token: str = field(repr=False)
    lease_duration: float | None = None  # seconds; 0: it does not expire; None: nobody has said
    renewable: bool = False
    obtained: bool = False  # by a login of ours: only such a token is ours to revoke
    num_uses: int = 0  # how many requests it is good for; 0: any number
    token_type: str = "service"  # noqa: S105 - or "batch", which can be neither renewed nor revoked

    @classmethod
    def from_answer(cls, answer: Any) -> Self:
        """Read the answer to a login; raise `UnexpectedAnswer` if it is not one."""
        match answer:
            case {"auth": {"client_token": str(token), "lease_duration": int(ttl), "renewable": bool(renewable)}}:
                rest = {name: answer["auth"][name] for name in ("num_uses", "token_type") if name in answer["auth"]}
                return cls(token, float(ttl), renewable, obtained=True, **rest)
            case _:
                raise not_vault("login", "no token in it")


class AuthMethod(Protocol):
    """The one thing that an auth method does; called again for every re-login, so it reads its files each time."""

    def login(self, client: hvac.Client) -> Auth:
        """Exchange the credentials for a token, over a client that has none."""
        ...


def login_with(client: hvac.Client, settings: VaultSettings, credentials: Mapping[str, str | None]) -> Auth:
    """Send the credentials that are given to the method's login."""
    given = {name: value for name, value in credentials.items() if value is not None}
    return Auth.from_answer(client.adapter.post(f"/v1/auth/{quoted(settings.login_mount_point)}/login", json=given))


def credential(value: SecretStr | None, file: Path | None, variable: str) -> str | None:
    """Return a credential given as a value or, read anew at each call, as a file; surrounding white space is dropped.

    Raises `LoginRefused` if the file cannot be read or is empty.
    """
    if file is None and value is None:
        return None
    source = variable if file is None else f"{variable}_FILE={file}"
    try:
        text = value.get_secret_value() if file is None and value is not None else Path(file or "").read_text("ascii")
    except OSError as error:
        remedy = "Check the path and its owner."
        raise LoginRefused(source, f"the credential file cannot be read: {error.strerror}", remedy) from None
    except UnicodeDecodeError:
        text = "\N{REPLACEMENT CHARACTER}"
    text = text.strip()
    if not text:
        raise LoginRefused(source, "the credential is empty", "Check what should fill it.")
    if not (text.isascii() and text.isprintable()):
        remedy = "Check what has been written there."
        raise LoginRefused(source, "this cannot be a credential: it is not one line of ASCII text", remedy)
    hold(source, [text])
    if file is not None:
        warn_if_others_may_read(f"{variable}_FILE", file)
    return text
