"""What does the project know of a kind of source, without credentials and without asking one?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Protocol

from pydantic import BaseModel

from app.core.errors import BadSettings
from app.core.settings.app import AppSettings
from app.core.store.source import Folders, Source


class Provider(Protocol):
    """A kind of source. It works on settings that lack credentials, and makes no session before one is needed."""

    primary: str  # the name of the source that is meant where none is given

    def names(self, settings: AppSettings) -> Mapping[str, bool]:
        """Return the sources of this kind that the settings name, and whether each is enabled."""
        ...

    def source(self, settings: AppSettings, name: str) -> Source:
        """Return one of them, enabled or not."""
        ...

    def folders(self, settings: AppSettings, name: str) -> Folders:
        """Return what changes secrets there for the command line."""
        ...

    def policy(self, settings: AppSettings, name: str) -> str:
        """Return the least-privilege policy for what the settings declare; raise a `BlueprintError` if none is."""
        ...


def adapter(provider: Provider, extra: str) -> ModuleType | None:
    """Return how this kind of source serves an extra: the module `for_<extra>` in its folder, if it has one."""
    name = f"{type(provider).__module__.rpartition('.')[0]}.for_{extra}"
    return import_module(name) if find_spec(name) else None


class Providers:
    """The kinds of sources that a service knows."""

    def __init__(self, *providers: Provider) -> None:
        self._providers = providers

    def enabled(self, settings: AppSettings) -> Iterator[tuple[Provider, str]]:
        """Yield the sources that are enabled, by their provider and their name."""
        for provider in self._providers:
            yield from ((provider, name) for name, is_enabled in provider.names(settings).items() if is_enabled)

    def sources(self, settings: AppSettings) -> list[Source]:
        """Return the sources that are enabled."""
        return [provider.source(settings, name) for provider, name in self.enabled(settings)]

    def source(self, settings: AppSettings, name: str) -> Source:
        """Return the source of this name, enabled or not; raise `BadSettings` if there is none."""
        return self.of(settings, name).source(settings, name)

    def of(self, settings: AppSettings, name: str) -> Provider:
        """Return what provides the source of this name; raise `BadSettings` if nothing does."""
        for provider in self._providers:
            if name in provider.names(settings):
                return provider
        variable = f"VAULTS__{name.upper().replace('-', '_')}__URL"
        there = ", ".join(each for provider in self._providers for each in provider.names(settings))
        raise BadSettings([f"{variable}: there is no Vault named {name}; there is: {there}"])

    def primary(self, settings: AppSettings) -> tuple[Provider, str]:
        """Return the source that is meant where none is named: the first kind that is enabled, else the first kind."""
        found = (each for each in self._providers if each.names(settings)[each.primary])
        provider = next(found, self._providers[0])
        return provider, provider.primary


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a service is made of, for what works without HTTP: the command line, the doctor."""

    declared: type[BaseModel]
    settings: type[AppSettings]
    providers: Providers
