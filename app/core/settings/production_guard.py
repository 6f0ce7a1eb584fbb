"""What is refused with ENVIRONMENT=production, unless the operator insists with ALLOW_INSECURE?

A group of settings is checked as it comes, and by the names of its fields: `url` and `…_url`, `token`, `skip_verify`.
A new group, or a single address, needs no more than `Annotated[…, refuse_insecure("ITS_CA_VARIABLE")]`.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)
from pydantic import ValidatorFunctionWrapHandler as Validate
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.core.settings.types import is_loopback

DEV_TOKEN = "dev-token-12345"  # noqa: S105 - the dev Vault's, as documented
Insecurity = Literal["dev-token", "http", "keylog"]

_REFUSED = "which ENVIRONMENT=production refuses"
DEV_TOKEN_REFUSED = f"everybody knows the dev Vault's root token, {_REFUSED}"
ANOTHER_WAY = "use another auth method, or ALLOW_INSECURE=dev-token"


def _split(text: object) -> object:
    return [name.strip().lower() for name in text.split(",") if name.strip()] if isinstance(text, str) else text


def _refuse_keylog(allowed: tuple[Insecurity, ...], info: ValidationInfo) -> tuple[Insecurity, ...]:
    """Python writes the keys of all TLS connections to SSLKEYLOGFILE: who reads it reads what is sent."""
    if _is_production(info) and os.environ.get("SSLKEYLOGFILE") and "keylog" not in allowed:
        raise ValueError(f"SSLKEYLOGFILE writes the keys of TLS connections down, {_REFUSED}: unset it, or add keylog")
    return allowed


class TokenFromFile(BaseModel):
    """Settings whose token may come from a file, which is read, and can be refused, only at the login."""

    _refuses_dev_token: bool = PrivateAttr(default=False)  # no field: there is no variable for it

    @property
    def refuses_dev_token(self) -> bool:
        """Whether these are settings of production, and nobody insists."""
        return self._refuses_dev_token

    def refusing_dev_token(self) -> Self:
        """Return the same settings for production; these may be somebody else's, and stay as they are."""
        copy = self.model_copy()
        copy._refuses_dev_token = True  # noqa: SLF001 - it is one of us
        return copy


Insecurities = Annotated[tuple[Insecurity, ...], BeforeValidator(_split), AfterValidator(_refuse_keylog)]


def _refuse_insecure(ca: str, value: Any, validate: Validate, info: ValidationInfo) -> Any:
    """Validate settings; in production what is insecure in them is reported together with what else is wrong."""
    if not _is_production(info):
        return validate(value)
    problems = list(_problems(info.field_name or "", value, info.data.get("allow_insecure", ()), ca))
    try:
        validated = validate(value)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        told = {each.get("loc") for each in problems}
        problems += [_problem(each["msg"], *each["loc"]) for each in found if each["loc"] not in told]
    if problems:
        raise ValidationError.from_exception_data("Settings", problems)
    return validated if "dev-token" in info.data.get("allow_insecure", ()) else _refusing_dev_token(validated)


def _refusing_dev_token(settings: Any) -> Any:
    match settings:
        case TokenFromFile():
            return settings.refusing_dev_token()
        case Mapping():
            return {name: _refusing_dev_token(each) for name, each in settings.items()}
        case _:
            return settings


def refuse_insecure(ca: str) -> WrapValidator:
    """Return the check of a group of settings; `ca` is the variable that names its CA."""

    def check(value: Any, validate: Validate, info: ValidationInfo) -> Any:
        return _refuse_insecure(ca, value, validate, info)

    return WrapValidator(check)


RefuseInsecure = refuse_insecure("VAULT_CACERT")


def _is_production(info: ValidationInfo) -> bool:
    return info.data.get("environment") == "production"


def _problems(name: str, value: Any, allowed: tuple[str, ...], ca: str, *location: str) -> Iterator[InitErrorDetails]:
    match value:
        case BaseModel() | Mapping():
            for inner, each in dict(value).items():
                yield from _problems(inner, each, allowed, ca, *location, inner)
        case SecretStr():
            yield from _problems(name, value.get_secret_value(), allowed, ca, *location)
        case str() if name.endswith("url") and "http" not in allowed and _is_in_the_clear(value):
            yield _problem(f"sends secrets in the clear, {_REFUSED}: use https://, or ALLOW_INSECURE=http", *location)
        case str() if name == "token" and "dev-token" not in allowed and value.strip() == DEV_TOKEN:
            yield _problem(f"{DEV_TOKEN_REFUSED}: {ANOTHER_WAY}", *location)
        case str() if name == "skip_verify" and value.lower() not in {"0", "f", "false"}:
            yield _problem(f"certificates are always verified: remove it, and name a private CA in {ca}", *location)


def _is_in_the_clear(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme == "http" and not is_loopback(url.strip())
    except ValueError:
        return False  # not a URL, which is reported anyhow


def _problem(text: str, *location: int | str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("insecure", text), loc=location, input=None)
