"""Which variables steer the service, what are their defaults, and what does each auth method need?"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.config_conjur import CONJUR, ConjurSettings
from app.config_types import Address, LowerCase, Paths, Seconds, UpperCase, VaultPath
from app.errors import BadSettings
from app.insecure import Insecurities, RefuseInsecure, TokenFromFile
from app.references import references_in
from app.unpicklable import Unpicklable

# What each auth method cannot do without: for every entry one of the named settings must be given.
NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "token": (("token", "token_file"),),
    "approle": (("role_id", "role_id_file"),),
    "cert": (("client_cert",), ("client_key",)),
    "kubernetes": (("role",),),
    "jwt": (("role",), ("jwt", "jwt_file")),
}
# Two names for one setting: a value, and the file that holds it; if one place sets both, the second counts.
TWICE: dict[str, str] = {
    "token": "token_file",
    "role_id": "role_id_file",
    "secret_id": "secret_id_file",
    "jwt": "jwt_file",
    "authn_api_key": "authn_api_key_file",
    "ssl_certificate": "cert_file",
}
MAIN_VAULT = "vault"  # its name in references
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class VaultSettings(Unpicklable, TokenFromFile):
    """The `VAULT_…` variables. The order counts: a field may look at those above it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    enabled: bool = False
    url: Address = "http://127.0.0.1:8200"
    auth_method: Annotated[Literal["token", "approle", "cert", "kubernetes", "jwt"], LowerCase] = "token"
    auth_mount_point: VaultPath | None = None
    token_file: Path | None = None
    token: SecretStr | None = Field(None, validate_default=True)
    role_id_file: Path | None = None
    role_id: SecretStr | None = Field(None, validate_default=True)
    secret_id_file: Path | None = None
    secret_id: SecretStr | None = None
    secret_id_wrapped: bool = False
    role: str | None = Field(None, validate_default=True)
    jwt_file: Path | None = None
    jwt: SecretStr | None = Field(None, validate_default=True)
    cacert: Path | None = None
    client_cert: Path | None = Field(None, validate_default=True)
    client_key: Path | None = Field(None, validate_default=True)
    namespace: VaultPath | None = None
    login_namespace: VaultPath | None = None
    mount_point: VaultPath = "secret"
    secret_path: Paths = ("python-production-blueprint",)
    kv_version: Literal["1", "2", "auto"] = "2"
    fail_fast: bool = False
    refresh_interval: Seconds = 300.0
    max_staleness: Seconds = Field(86400.0, validate_default=True)
    access_mode: Annotated[Literal["read_only", "write_only", "read_and_write"], LowerCase] = "read_only"
    write_prefix: VaultPath = "python-production-blueprint/api-keys"
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0

    @field_validator(*{choices[0] for needs in NEEDED.values() for choices in needs})
    @classmethod
    def _is_given_if_needed(cls, value: Any, info: ValidationInfo) -> Any:
        """Check each field by itself, so that this is reported together with whatever else is wrong."""
        if info.data.get("enabled"):
            method = info.data.get("auth_method", "")
            for choices in NEEDED.get(method, ()):
                if info.field_name == choices[0] and not value and not any(info.data.get(name) for name in choices[1:]):
                    names = " or ".join(f"VAULT_{name.upper()}" for name in choices)
                    raise ValueError(f"VAULT_AUTH_METHOD={method} needs {names}")
        return value

    @field_validator("client_key")
    @classmethod
    def _pair_is_complete(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None and info.data.get("client_cert"):
            raise ValueError("VAULT_CLIENT_CERT needs VAULT_CLIENT_KEY (both may name the same file)")
        return value

    @field_validator("secret_id_wrapped")
    @classmethod
    def _there_is_something_to_unwrap(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic calls it
        if value and info.data.get("enabled") and not (info.data.get("secret_id") or info.data.get("secret_id_file")):
            raise ValueError("VAULT_SECRET_ID_WRAPPED=true needs VAULT_SECRET_ID or VAULT_SECRET_ID_FILE")
        return value

    @field_validator("max_staleness")
    @classmethod
    def _bound_is_longer_than_the_interval(cls, value: float, info: ValidationInfo) -> float:
        interval = info.data.get("refresh_interval", 0.0)
        if 0 < value < 2 * interval:
            text = f"is {value:g}, but must be 0 or at least twice VAULT_REFRESH_INTERVAL, which is {interval:g}"
            raise ValueError(f"{text}: set one of the two")
        return value

    @property
    def login_mount_point(self) -> str:
        """Where the auth method is mounted: by default under its own name."""
        return self.auth_mount_point or self.auth_method


def _resolvable(value: SecretStr, info: ValidationInfo) -> SecretStr:
    """Refuse references that cannot be understood, or that name a Vault which is not there."""
    references = references_in(value.get_secret_value())
    if not {"vaults", "vault", "conjur"} <= info.data.keys():
        return value  # which Vaults there are is not known: their settings are wrong
    places = {MAIN_VAULT: info.data["vault"], **info.data["vaults"], CONJUR: info.data["conjur"]}
    for reference in references:
        if reference.name not in places:
            there = ", ".join(name for name, own in places.items() if name != CONJUR or own.enabled)
            raise ValueError(f"{reference.text}: there is no Vault named {reference.name}; there is: {there}")
        if not places[reference.name].enabled:
            group = (reference.name,) if reference.name in {MAIN_VAULT, CONJUR} else ("vaults", reference.name)
            raise ValueError(f"{reference.text}: needs {_variable((*group, 'enabled'))}=true")
    if len({reference.name for reference in references}) > 1:
        raise ValueError("refers to more than one Vault: they would not rotate together; make it two entries")
    return value


def _is_free(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or name in {MAIN_VAULT, CONJUR, "environment", "defaults"}:
        raise ValueError("cannot be the name of a Vault: use letters and digits, and neither vault nor conjur")
    return name


VaultName = Annotated[str, AfterValidator(_is_free)]


class NamedVaultSettings(VaultSettings):
    """The `VAULTS__<NAME>__…` variables of one further Vault, for references; declared is enabled.

    There is no default address, and no variable may be misspelt: its token would go to somebody else's Vault.
    """

    model_config = ConfigDict(extra="forbid")

    enabled: bool = True
    url: Address
    secret_path: Paths = ()


class _Variables:
    """Sorts the flat variables into the groups of `Settings`.

    `VAULT_URL` is `vault.url`, `SECRET_X` is `secrets.x`, `VAULTS__PARTNER__URL` is `vaults.partner.url`.
    """

    env_vars: Mapping[str, str | None]

    def __call__(self) -> dict[str, Any]:
        variables = {name: value for name, value in self.env_vars.items() if value}
        if "vault_addr" in variables:  # the name that Vault's own tools use
            variables.setdefault("vault_url", variables.pop("vault_addr"))
        return {
            **{name: variables[name] for name in Settings.model_fields if name in variables},
            "vault": _group("vault_", variables),
            "conjur": _group("conjur_", variables),
            "vaults": {
                name: _group(f"vaults__{name.replace('-', '_')}__", variables) for name in _named_vaults(variables)
            },
            "secrets": _group("secret_", variables),
        }


def _named_vaults(variables: Mapping[str, str]) -> list[str]:
    found = (re.fullmatch(r"vaults__(.+?)__\w+", name) for name in variables)
    return sorted({match[1].replace("_", "-") for match in found if match})


def _group(prefix: str, variables: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)}


class _Environment(_Variables, EnvSettingsSource):
    """The environment of the process."""


class _DotEnv(_Variables, DotEnvSettingsSource):
    """The `.env` file in the working directory, but for what the environment sets by another name."""

    def __call__(self) -> dict[str, Any]:
        given = {name.lower() for name, value in os.environ.items() if value}
        self.env_vars = {name: value for name, value in self.env_vars.items() if not given & other_names(name)}
        return super().__call__()


def other_names(variable: str) -> set[str]:
    """Return how else one may set what this variable sets: `vault_token` for `vault_token_file`."""
    match = re.fullmatch(r"(vault_|conjur_|vaults__.+?__)(\w+)", variable)
    pairs = TWICE | {other: name for name, other in TWICE.items()}
    return {f"{match[1]}{pairs[match[2]]}"} if match and match[2] in pairs else set()


class Settings(BaseSettings):
    """Everything that can be set from outside: first the environment counts, then `.env`, then the defaults."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a ValidationError would print the values
        env_file=".env",
        env_file_encoding="utf-8-sig",  # with or without a byte-order mark
    )

    environment: Annotated[Literal["development", "staging", "production"], LowerCase] = "development"
    allow_insecure: Insecurities = Field((), validate_default=True)
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], UpperCase] = "INFO"
    log_format: Annotated[Literal["auto", "json", "console"], LowerCase] = "auto"
    third_party_url: Annotated[Address | None, RefuseInsecure] = None
    status_page: bool | None = None  # None: in development only
    vault: Annotated[VaultSettings, RefuseInsecure] = VaultSettings()
    conjur: Annotated[ConjurSettings, RefuseInsecure] = ConjurSettings()
    vaults: Annotated[dict[VaultName, NamedVaultSettings], RefuseInsecure] = Field(default_factory=dict)
    secrets: dict[str, Annotated[SecretStr, AfterValidator(_resolvable)]] = Field(default_factory=dict)

    @property
    def every_vault(self) -> dict[str, VaultSettings]:
        """The settings of each Vault, by its name in references."""
        return {MAIN_VAULT: self.vault, **self.vaults}

    def of(self, vault: str) -> VaultSettings:
        """Return the settings of the Vault of this name; raise `BadSettings` if there is none."""
        known = self.every_vault
        if vault not in known:
            variable = f"VAULTS__{vault.upper().replace('-', '_')}__URL"
            raise BadSettings([f"{variable}: there is no Vault named {vault}; there is: {', '.join(known)}"])
        return known[vault]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by ours
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by ours
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not used
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the same variables from the environment and from `.env`."""
        return init_settings, _Environment(settings_cls), _DotEnv(settings_cls)


def get_settings() -> Settings:
    """Return the settings of this process, read once; raise one `BadSettings` that lists every problem."""
    try:
        return Settings.settings_cached()
    except ValidationError as error:
        raise bad_settings(error) from None
    except UnicodeDecodeError:
        raise BadSettings([".env: is not UTF-8; save it as UTF-8"]) from None


def bad_settings(error: ValidationError, *group: str) -> BadSettings:
    """Turn pydantic's report into one that names the variables and shows no value."""
    return BadSettings(
        [
            f"{_variable((*group, *problem['loc']))}: {_text(problem)}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
    )


def _text(problem: ErrorDetails) -> str:
    """Return what is wrong; the variables that it mentions are those of the Vault that it is about."""
    known = {"missing": "is needed", "extra_forbidden": "there is no such variable; check its name"}
    text = known.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    if problem["loc"][0] == "vaults":
        text = text.replace("VAULT_", f"{_variable(problem['loc'][:2])}__")
    return text


def _variable(location: tuple[int | str, ...]) -> str:
    """Name the variable behind a field: `("vault", "url")` is `VAULT_URL`, `("secrets", "x")` is `SECRET_X`."""
    names = [str(part) for part in location if isinstance(part, str) and part != "[key]"]
    if names[0] == "secrets":
        names[0] = "secret"
    return ("__" if names[0] == "vaults" else "_").join(names).upper().replace("-", "_")
