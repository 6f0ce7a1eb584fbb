"""What is an auth method, and what does it bring back?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import hvac
from pydantic import SecretStr

from app.core.errors import LoginRefused
from app.core.logs.redaction import mask_from_now_on
from app.core.not_serializable import NotSerializable
from app.core.settings.vault import SERVICE_ACCOUNT_TOKEN, VaultSettings
from app.core.transport.credential_files import read_credential_file, warn_if_others_may_read
from app.core.transport.http import quoted
from app.core.vault.answers import checked_auth
from app.core.vault.auth_methods.oddities import look_of, look_of_bytes

NOT_BARE = "does not hold a bare credential"
BARE = "Put the bare credential there: one line of text, with nothing around it."
REPLACED = "\N{REPLACEMENT CHARACTER}"  # for what cannot be decoded


@dataclass(frozen=True, slots=True)
class Auth(NotSerializable):
    """A token and what Vault said about it: the `auth` part of a login answer."""

    client_token: str = field(repr=False)  # "": none of ours; an Agent or Proxy adds its own
    lease_duration: float | None = None  # seconds; 0: it does not expire; None: nobody has said
    renewable: bool = False
    obtained: bool = False  # by a login of ours: only such a token is ours to revoke
    num_uses: int = 0  # how many requests it is good for; 0: any number
    token_type: str = "service"  # noqa: S105 - or "batch", which can be neither renewed nor revoked

    @classmethod
    def from_answer(cls, answer: Any, subject: str = "login") -> Self:
        """Read the answer to a login or a renewal; raise `UnexpectedAnswer` if it is malformed.

        Raises `BadRequest` for one that wants a second factor before there is a token.
        """
        told = checked_auth(answer, subject)
        ttl, renewable = float(told["lease_duration"]), told["renewable"]
        rest = {name: told[name] for name in ("num_uses", "token_type") if told.get(name) is not None}
        return cls(told["client_token"], ttl, renewable, obtained=True, **rest)


class AuthMethod(Protocol):
    """The one thing that an auth method does; called again for every re-login, so it reads its files each time."""

    def login(self, client: hvac.Client) -> Auth:
        """Exchange the credentials for a token, over a client that has none."""
        ...


def login_with(
    client: hvac.Client, settings: VaultSettings, credentials: Mapping[str, str | None], where: str = "login"
) -> Auth:
    """Send the credentials that are given to the method's login; `where` is percent-encoded."""
    given = {name: value for name, value in credentials.items() if value is not None}
    mount = settings.login_mount_point
    answer = client.adapter.post(f"/v1/auth/{quoted(mount)}/{where}", json=given)
    return Auth.from_answer(answer, f"auth/{mount}/login")


def credential(value: SecretStr | None, file: Path | None, variable: str, encoding: str = "ascii") -> str | None:
    """Return a credential given as a value or, read again at each call, as a file; surrounding white space is dropped.

    Raises `LoginRefused` if the file cannot be read or is empty.
    """
    if file is None and value is None:
        return None
    source = _source(file, variable)
    try:
        content = read_credential_file(file) if file is not None else (value or SecretStr("")).get_secret_value()
    except OSError as error:
        remedy = "Check the path and its owner."
        raise LoginRefused(source, f"the credential file cannot be read: {error.strerror}", remedy) from None
    raw = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    text = raw.decode(encoding, "replace").strip()
    if not text:
        raise LoginRefused(source, "the credential is empty", "Check what should fill it.")
    if not (text.isprintable() and (text.isascii() or encoding != "ascii")) or REPLACED in text:
        kind = "ASCII" if encoding == "ascii" else encoding.upper()
        cause = f"this cannot be a credential: it is not one line of {kind} text, but {look_of_bytes(raw)}"
        raise LoginRefused(source, cause, f"Check what has been written there. {BARE}")
    mask_from_now_on(source, [text])
    if file is not None:
        warn_if_others_may_read(f"{variable}_FILE", file)
    return text


def look_of_credentials(settings: VaultSettings) -> str:
    """Say which credential does not look like one, and what it is instead; to be asked after Vault has refused it.

    Before that it may be right: an operator may choose role ids and secret ids freely.
    """
    for name in settings.used_credentials():
        variable, file = f"VAULT_{name.upper()}", getattr(settings, settings.value_or_file[name])
        if settings.auth_method == "kubernetes" and getattr(settings, name) is None and file is None:
            file = SERVICE_ACCOUNT_TOKEN
        try:
            text = credential(getattr(settings, name), file, variable, "utf-8" if name == "password" else "ascii")
        except LoginRefused:
            continue
        kind = "" if name == "secret_id" and settings.secret_id_wrapped else variable  # that is a token, rightly
        if text is not None and (look := look_of(text, kind)):
            return f"{_source(file, variable)} {NOT_BARE}: {look}"
    return ""


def _source(file: Path | None, variable: str) -> str:
    return variable if file is None else f"{variable}_FILE={file}"
