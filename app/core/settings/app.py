"""Which settings does every service have? Yours, in `app/config.py`, extends them."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.core.errors import BadSettings
from app.core.settings.addressees import check_references, names_given_twice, owner_of
from app.core.settings.problems import bad_settings, raise_faults
from app.core.settings.production_guard import Insecurities, RefuseInsecure
from app.core.settings.references import Reference
from app.core.settings.secret_files import with_files_read
from app.core.settings.types import LowerCase, UpperCase
from app.core.settings.variables import DotEnv, Environment, groups_of
from app.core.settings.vault import MAIN_VAULT, NamedVaultSettings, VaultSettings
from app.core.settings.web import Hosts, Origins

NOT_A_NAME = "cannot be the name of a Vault: use letters and digits, and no name that another source has"


def _is_free(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or name in {MAIN_VAULT, "environment", "defaults"}:
        raise ValueError(NOT_A_NAME)
    return name


VaultName = Annotated[str, AfterValidator(_is_free)]


class Service(NamedTuple):
    """What the service is called."""

    name: str  # for machines: in challenges, metrics and policies
    title: str  # for people
    version: str
    description: str = ""  # what callers read first, in Markdown


class AppSettings(BaseSettings):
    """Everything that can be set from outside: first the environment counts, then `.env`, then the defaults.

    A further kind of source is one more field: a group of settings, with a default.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a ValidationError would print the values
        defer_build=True,  # until the fields of a subclass are in their order
    )
    service: ClassVar[Service] = Service("service", "Service", "0")

    environment: Annotated[Literal["development", "staging", "production"], LowerCase] = "development"
    allow_insecure: Insecurities = Field((), validate_default=True)
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], UpperCase] = "INFO"
    log_format: Annotated[Literal["auto", "json", "console"], LowerCase] = "auto"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    allowed_hosts: Hosts = ()  # none: in development those of this machine, elsewhere all
    cors_origins: Origins = ()
    api_docs: bool | None = None  # None: not in production
    shutdown_delay: Annotated[float, Field(ge=0, le=3600)] | None = None  # seconds; None: see below
    vault: Annotated[VaultSettings, RefuseInsecure] = VaultSettings()
    vaults: Annotated[dict[VaultName, NamedVaultSettings], RefuseInsecure] = Field(default_factory=dict)
    secrets: dict[str, SecretStr] = Field(default_factory=dict)  # always the last field: it refers to all groups

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Put `secrets` behind the fields of a subclass, since its references may lead to each of them.

        And build it now: at the first use pydantic would take a lock, which a child may inherit held.
        """
        fields = cls.__pydantic_fields__
        fields["secrets"] = fields.pop("secrets")
        cls.model_rebuild(force=True)

    @field_validator("vault", "vaults")
    @classmethod
    def _environment_is_filled_in(cls, value: Any, info: ValidationInfo) -> Any:
        """Put its name into the paths that ask for it."""
        environment = info.data.get("environment")
        if environment is None:  # it is wrong, which is reported anyhow
            return value
        if isinstance(value, VaultSettings):
            return value.in_environment(environment)
        return {name: own.in_environment(environment) for name, own in value.items()}

    @field_validator("vaults")
    @classmethod
    def _names_are_free(cls, vaults: dict[str, NamedVaultSettings]) -> dict[str, NamedVaultSettings]:
        _raise({name: NOT_A_NAME for name in vaults if name in groups_of(cls)})
        return vaults

    @field_validator("vaults")
    @classmethod
    def _dynamic_names_are_free(
        cls, vaults: dict[str, NamedVaultSettings], info: ValidationInfo
    ) -> dict[str, NamedVaultSettings]:
        """Refuse a dynamic secret whose name another Vault has given: its entries would be the other's, too."""
        main = info.data.get(MAIN_VAULT)
        raise_faults(names_given_twice({**({MAIN_VAULT: main} if main else {}), **vaults}))
        return vaults

    @field_validator("secrets", mode="before")
    @classmethod
    def _files_are_read(cls, secrets: Any) -> Any:
        """Put what `SECRET_<NAME>_FILE` names in the place of `SECRET_<NAME>`."""
        if not isinstance(secrets, Mapping):
            return secrets
        read, faults = with_files_read(secrets)
        _raise(faults)
        return read

    @field_validator("secrets")
    @classmethod
    def _references_lead_somewhere(cls, secrets: dict[str, SecretStr], info: ValidationInfo) -> dict[str, SecretStr]:
        """Refuse references that cannot be understood, or that name a source which is not there."""
        groups = groups_of(cls)
        if not {"vaults", *groups} <= info.data.keys():
            return secrets  # which sources there are is not known: their settings are wrong
        sources = {MAIN_VAULT: info.data[MAIN_VAULT], **info.data["vaults"]}
        sources |= {name: info.data[name] for name in groups}
        faults: dict[str, str] = {}
        for entry, text in secrets.items():
            try:
                check_references(text.get_secret_value(), sources, groups)
            except ValueError as error:
                faults[entry] = str(error)
        _raise(faults)
        return secrets

    # pydantic-settings' own cache has locks, which a child may inherit while another thread holds them
    @classmethod
    def settings_cached(cls) -> Self:
        """Return the settings that the environment makes, read once."""
        settings: Self = _read_once(cls)
        return settings

    @classmethod
    def settings_clear_cache(cls) -> None:
        """Read them again the next time."""
        _read_once.cache_clear()

    @classmethod
    def of_environment(cls) -> Self:
        """Return the settings of this process, read once; raise one `BadSettings` that lists every problem."""
        try:
            return cls.settings_cached()
        except ValidationError as error:
            raise bad_settings(error) from None

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
        return init_settings, Environment(settings_cls), DotEnv(settings_cls)

    @property
    def shows_api_docs(self) -> bool:
        """Whether everybody may read what the API is like."""
        return self.environment != "production" if self.api_docs is None else self.api_docs

    @property
    def seconds_until_stop(self) -> float:
        """How long the service goes on after SIGTERM, not ready any more, so that load balancers let it go first."""
        if self.shutdown_delay is not None:
            return self.shutdown_delay
        return 0.0 if self.environment == "development" else 1.0

    @property
    def every_vault(self) -> dict[str, VaultSettings]:
        """The settings of each Vault, by its name in references."""
        return {MAIN_VAULT: self.vault, **self.vaults}

    def vault_settings(self, vault: str) -> VaultSettings:
        """Return the settings of the Vault of this name; raise `BadSettings` if there is none."""
        known = self.every_vault
        if vault not in known:
            variable = f"VAULTS__{vault.upper().replace('-', '_')}__URL"
            raise BadSettings([f"{variable}: there is no Vault named {vault}; there is: {', '.join(known)}"])
        return known[vault]

    def source_of(self, reference: Reference) -> str:
        """Return the name of the source that a reference leads to; raise `BadSettings` if no dynamic secret has it."""
        if not reference.is_dynamic:
            return reference.name
        try:
            return owner_of(reference, self.every_vault)
        except ValueError as error:
            raise BadSettings([str(error)]) from None


@cache
def _read_once(kind: type[Any]) -> Any:
    return kind()


def _raise(faults: Mapping[str, str]) -> None:
    """Report what is wrong with each entry of a mapping, together with whatever else is wrong."""
    raise_faults({(name,): text for name, text in faults.items()})
