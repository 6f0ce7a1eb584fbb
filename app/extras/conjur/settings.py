"""Which variables steer the Conjur side, under the names that CyberArk's own tools know?

How often secrets are refreshed, how long they count, what the service may do and how long it waits for an answer is set
for Vault and Conjur together, by the `VAULT_…` variables.
"""

from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from app.core.settings.production_guard import refuse_insecure
from app.core.settings.source import SourceSettings
from app.core.settings.types import ServerAddress, VaultPath, refuse_bad_path, vault_path

CONJUR = "conjur"  # its name in references, among the sources of secrets, and in the group of settings


def _segment(text: str) -> str:
    """Accept what stands in the address of requests as one segment, percent-encoded whole: an account, a login."""
    refuse_bad_path(text)
    return text


def _account(text: str) -> str:
    if ":" in text or "/" in text:
        raise ValueError("must be the name of an account, without : and /")
    return _segment(text)


def _variables(text: object) -> object:
    """Read `path/to/variable, name=path/to/variable`; without a name, the last segment is the name."""
    if not isinstance(text, str):
        return text
    found: dict[str, str] = {}
    for entry in text.split(","):
        name, renamed, path = entry.partition("=")
        variable = vault_path(path if renamed else entry)
        name = name.strip() if renamed else variable.rpartition("/")[2]
        if not name:
            raise ValueError(f"{variable}: there is no name in front of the =")
        if name in found:
            raise ValueError(f"{found[name]} and {variable} would both be {name}: write another name in front, name=…")
        found[name] = variable
    return tuple(found.items())


class ConjurSettings(SourceSettings):
    """The `CONJUR_…` variables. The order counts: a field may look at those above it."""

    value_or_file = MappingProxyType({"authn_api_key": "authn_api_key_file", "ssl_certificate": "cert_file"})
    credentials = ("authn_api_key",)
    credential_files = ("authn_token_file", "authn_jwt_file", "client_key")
    stand_ins = MappingProxyType({"authn_api_key": "-"})

    appliance_url: ServerAddress | None = Field(None, validate_default=True)
    account: Annotated[str, AfterValidator(_account)] | None = Field(None, validate_default=True)
    authn_token_file: Path | None = None
    authn_jwt_service_id: Annotated[str, AfterValidator(_segment)] | None = None
    authn_jwt_file: Path | None = None
    authn_api_key_file: Path | None = None
    authn_api_key: SecretStr | None = Field(None, validate_default=True)
    authn_login: Annotated[str, AfterValidator(_segment)] | None = Field(None, validate_default=True)
    cert_file: Path | None = None
    ssl_certificate: str | None = None
    client_cert: Path | None = None
    client_key: Path | None = Field(None, validate_default=True)
    policy_branch: VaultPath | None = None
    variables: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_variables)] = ()  # (name, variable)

    @field_validator("appliance_url", "account")
    @classmethod
    def _is_given_if_needed(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("enabled"):
            raise ValueError(f"CONJUR_ENABLED=true needs CONJUR_{str(info.field_name).upper()}")
        return value

    @field_validator("authn_api_key")
    @classmethod
    def _there_is_one_way_to_log_in(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if not info.data.get("enabled"):
            return value
        ways = {
            "CONJUR_AUTHN_API_KEY or CONJUR_AUTHN_API_KEY_FILE": value or info.data.get("authn_api_key_file"),
            "CONJUR_AUTHN_TOKEN_FILE": info.data.get("authn_token_file"),
            "CONJUR_AUTHN_JWT_SERVICE_ID": info.data.get("authn_jwt_service_id"),
        }
        given = [name for name, setting in ways.items() if setting]
        if not given:
            raise ValueError(f"CONJUR_ENABLED=true needs one of {', '.join(ways)}")
        if len(given) > 1:
            raise ValueError(f"there is more than one way to log in: {', '.join(given)}; set one")
        return value

    @field_validator("authn_login")
    @classmethod
    def _api_key_has_a_login(cls, value: str | None, info: ValidationInfo) -> str | None:
        other_way = info.data.get("authn_token_file") or info.data.get("authn_jwt_service_id")
        if value is None and info.data.get("enabled") and not other_way:
            raise ValueError("an API key needs CONJUR_AUTHN_LOGIN, such as host/apps/my-service")
        return value

    @field_validator("authn_jwt_file")
    @classmethod
    def _jwt_has_a_service(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and "authn_jwt_service_id" in info.data and info.data["authn_jwt_service_id"] is None:
            raise ValueError("CONJUR_AUTHN_JWT_FILE needs CONJUR_AUTHN_JWT_SERVICE_ID")
        return value

    @field_validator("ssl_certificate")
    @classmethod
    def _there_is_one_ca(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("cert_file"):
            raise ValueError("CONJUR_CERT_FILE and CONJUR_SSL_CERTIFICATE both name the CA; set one")
        return value and value.replace("\\n", "\n")  # a variable of one line; PEM has no backslashes

    @field_validator("client_key")
    @classmethod
    def _pair_is_complete(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("client_cert") is None):
            raise ValueError("CONJUR_CLIENT_CERT and CONJUR_CLIENT_KEY belong together (both may name the same file)")
        return value

    def used_credentials(self) -> tuple[str, ...]:
        """Return the API key."""
        return ("authn_api_key",)


ConjurGroup = Annotated[ConjurSettings, refuse_insecure("CONJUR_CERT_FILE")]
