"""Which variables steer one Vault, what are their defaults, and what does each auth method need?"""

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from app.core.settings.dynamic import DynamicSecrets
from app.core.settings.production_guard import TokenFromFile
from app.core.settings.source import SourceSettings
from app.core.settings.types import (
    ENVIRONMENT,
    OPTIONAL,
    ROOT,
    Address,
    LowerCase,
    Name,
    Namespace,
    Paths,
    Seconds,
    ServerName,
    VaultPath,
)

# What each auth method cannot do without: for every entry one of the named settings must be given.
REQUIRED_BY_METHOD: dict[str, tuple[tuple[str, ...], ...]] = {
    "token": (("token", "token_file"),),
    "approle": (("role_id", "role_id_file"),),
    "cert": (("client_cert",), ("client_key",)),
    "kubernetes": (("role",),),
    "jwt": (("jwt", "jwt_file"),),
    "userpass": (("username",), ("password", "password_file")),
    "none": (),
}
# What each takes of which there is a variable and a file.
USED: dict[str, tuple[str, ...]] = {
    "token": ("token",),
    "approle": ("role_id", "secret_id"),
    "kubernetes": ("jwt",),
    "jwt": ("jwt",),
    "userpass": ("password",),
}
VALUES_OR_FILES = ("token", "role_id", "secret_id", "jwt", "password")
CAS = ("cacert_bytes", "cacert", "capath")  # the first that is set counts, as in Vault's own tools
MAIN_VAULT = "vault"  # its name in references
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class VaultSettings(SourceSettings, TokenFromFile):
    """The `VAULT_…` variables. The order counts: a field may look at those above it."""

    value_or_file = MappingProxyType({name: f"{name}_file" for name in VALUES_OR_FILES})
    one_of = (CAS,)
    credentials = ("token", "secret_id", "jwt", "password")
    credential_files = ("client_key",)
    stand_ins = MappingProxyType(
        {**{choices[0]: "-" for needs in REQUIRED_BY_METHOD.values() for choices in needs}, "secret_id_wrapped": False}
    )

    url: Address = "http://127.0.0.1:8200"
    auth_method: Annotated[Literal["token", "approle", "cert", "kubernetes", "jwt", "userpass", "none"], LowerCase] = (
        "token"
    )
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
    username: Name | None = Field(None, validate_default=True)
    password_file: Path | None = None
    password: SecretStr | None = Field(None, validate_default=True)
    cacert: Path | None = None
    cacert_bytes: str | None = None
    capath: Path | None = None
    tls_server_name: ServerName | None = None
    client_cert: Path | None = Field(None, validate_default=True)
    client_key: Path | None = Field(None, validate_default=True)
    namespace: Namespace | None = None
    login_namespace: Namespace | None = None
    mount_point: VaultPath = "secret"
    secret_path: Paths = ("python-production-blueprint",)
    dynamic: DynamicSecrets = ()
    kv_version: Annotated[Literal["1", "2", "auto"], LowerCase] = "2"
    fail_fast: bool = False
    refresh_interval: Seconds = 300.0
    max_staleness: Seconds = Field(86400.0, validate_default=True)
    access_mode: Annotated[Literal["read_only", "write_only", "read_and_write"], LowerCase] = "read_only"
    write_prefix: VaultPath = "python-production-blueprint/api-keys"
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0

    @field_validator(*{choices[0] for needs in REQUIRED_BY_METHOD.values() for choices in needs})
    @classmethod
    def _is_given_if_needed(cls, value: Any, info: ValidationInfo) -> Any:
        """Check each field by itself, so that this is reported together with whatever else is wrong."""
        if info.data.get("enabled"):
            method = info.data.get("auth_method", "")
            for choices in REQUIRED_BY_METHOD.get(method, ()):
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

    def used_credentials(self) -> tuple[str, ...]:
        """Return those that the auth method takes."""
        return USED.get(self.auth_method, ())

    @property
    def paths(self) -> dict[str, bool]:
        """The paths in `secret_path`, and whether each may be missing: where it stands without the mark, it may not."""
        bare = [path.removesuffix(OPTIONAL) for path in self.secret_path]
        return {path: path not in self.secret_path for path in bare}

    def answers_to(self, name: str) -> frozenset[str]:
        """Return whom references ask that lead to the Vault of this name: itself, or one of its dynamic secrets."""
        return frozenset({name, *(each.address for each in self.dynamic)})

    def in_environment(self, environment: str) -> Self:
        """Return the same settings, with this name where a path has `{environment}`."""
        if not any(ENVIRONMENT in path for path in self.secret_path):
            return self
        filled = tuple(path.replace(ENVIRONMENT, environment) for path in self.secret_path)
        return self.model_copy(update={"secret_path": filled})

    @property
    def home(self) -> str | None:
        """The namespace of the auth method, so of the token; None: the root one."""
        return _below_root(self.login_namespace or self.namespace)

    @property
    def place(self) -> str | None:
        """The namespace of the secrets; None: the root one."""
        return _below_root(self.namespace)

    @property
    def login_mount_point(self) -> str:
        """Where the auth method is mounted: by default under its own name."""
        return self.auth_mount_point or self.auth_method


def _below_root(namespace: str | None) -> str | None:
    return None if namespace == ROOT else namespace


class NamedVaultSettings(VaultSettings):
    """The `VAULTS__<NAME>__…` variables of one further Vault, for references; declared is enabled.

    There is no default address, and no variable may be misspelt: its token would go to somebody else's Vault.
    """

    model_config = ConfigDict(extra="forbid")

    enabled: bool = True
    url: Address
    secret_path: Paths = ()
