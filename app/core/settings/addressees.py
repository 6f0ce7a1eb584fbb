"""Whom does a reference ask, and does it lead there? To a source by its name, or to the Vault of a dynamic secret."""

from collections.abc import Container, Mapping

from app.core.settings.dynamic import SCHEME
from app.core.settings.problems import variable_name
from app.core.settings.references import Reference, references_in
from app.core.settings.source import SourceSettings
from app.core.settings.vault import MAIN_VAULT, VaultSettings


def owner_of(reference: Reference, vaults: Mapping[str, SourceSettings]) -> str:
    """Return the name of the source that a reference leads to; raise `ValueError` for an unknown dynamic secret."""
    if not reference.is_dynamic:
        return reference.name
    owners = _owners(vaults)
    if reference.addressee not in owners:
        there = ", ".join(each.removeprefix(SCHEME) for each in owners) or "none"
        text = f"{reference.text}: there is no dynamic secret {reference.name}; there is: {there}"
        raise ValueError(f"{text}. {variable_name((MAIN_VAULT, 'dynamic', reference.name))} would name one")
    return owners[reference.addressee]


def names_given_twice(vaults: Mapping[str, VaultSettings]) -> dict[tuple[str, ...], str]:
    """Say where a further Vault has a dynamic secret of a name that is taken: its entries would be the other's, too."""
    owners: dict[str, str] = {}
    faults: dict[tuple[str, ...], str] = {}
    for vault, own in vaults.items():
        for each in own.dynamic:
            if (other := owners.setdefault(each.name, vault)) != vault:
                faults[(vault, "dynamic", each.name)] = f"is there twice: the Vault {other} has one of this name, too"
    return faults


def check_references(text: str, sources: Mapping[str, SourceSettings], groups: Container[str]) -> None:
    """Raise `ValueError` unless all references in the text lead to one source, which is enabled."""
    owners: set[str] = set()
    for reference in references_in(text):
        name = owner_of(reference, sources)
        source = sources.get(name)
        if source is None:
            there = ", ".join(name for name, own in sources.items() if own.enabled or name == MAIN_VAULT)
            raise ValueError(f"{reference.text}: there is no Vault named {name}; there is: {there}")
        if not source.enabled:
            group = (name,) if name in groups else ("vaults", name)
            raise ValueError(f"{reference.text}: needs {variable_name((*group, 'enabled'))}=true")
        owners.add(name)
    if len(owners) > 1:
        raise ValueError("refers to more than one Vault: they would not rotate together; make it two entries")


def _owners(sources: Mapping[str, SourceSettings]) -> dict[str, str]:
    vaults = {name: own for name, own in sources.items() if isinstance(own, VaultSettings)}
    return {each.address: name for name, own in vaults.items() for each in own.dynamic}
