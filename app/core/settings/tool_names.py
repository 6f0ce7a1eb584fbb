"""How else do the tools of Vault and OpenBao call our variables? `VAULT_ADDR`, and `BAO_…` for `VAULT_…`."""

import os
import re
from collections.abc import Callable, Mapping

from app.core.errors import BlueprintError

OURS = "vault_"  # the beginning of the names that count in the end
THEIRS = "bao_"
# The first that is set is the address. Where that is one of OpenBao's, its other names go before Vault's, too: a shell
# may have both tools' variables, and the token of one must not go to the address of the other.
ADDRESSES = ("vault_url", "bao_url", "bao_addr", "vault_addr")


def our_name(variable: str) -> str:
    """Return what we call the variable of this name, in lower case."""
    if variable in ADDRESSES:
        return ADDRESSES[0]
    return OURS + variable.removeprefix(THEIRS) if variable.startswith(THEIRS) else variable


def names_that_count(variables: Mapping[str, str]) -> dict[str, str]:
    """Return which of the variables counts for each of our names, of all that one place sets; names in lower case."""
    address = next((name for name in ADDRESSES if name in variables), "")
    second = _goes_second(address)
    others = [name for name in variables if name not in ADDRESSES]
    counts = {our_name(address): address} if address else {}
    for name in sorted(others, key=lambda name: name.startswith(second)):
        counts.setdefault(our_name(name), name)
    return counts


def in_our_names(variables: Mapping[str, str], others_of: Callable[[str], set[str]]) -> dict[str, str]:
    """Return the variables of one place, what counts of them by our names; `others_of` one are instead of it.

    A file or another kind of CA that goes second does not count where the first has anything: no token of Vault's is
    read from a file where OpenBao's is given.
    """
    counts = names_that_count(variables)
    second = _goes_second(counts.get(ADDRESSES[0], ""))
    firsts = [ours for ours, name in counts.items() if not name.startswith(second)]
    beaten = {other for ours in firsts for other in others_of(ours) if counts.get(other, "").startswith(second)}
    return {**variables, **{ours: variables[name] for ours, name in counts.items()}, **dict.fromkeys(beaten, "")}


def _goes_second(address: str) -> str:
    return OURS if address.startswith(THEIRS) else THEIRS


def as_given(variable: str) -> str:
    """Return by which name the environment sets one of our variables; in upper case."""
    given = {name.lower(): value for name, value in os.environ.items() if value.strip()}
    return names_that_count(given).get(variable.lower(), variable).upper()


def is_given(variable: str) -> bool:
    """Tell whether the environment sets one of our variables, by any of its names; in upper case."""
    return bool(os.environ.get(as_given(variable), "").strip())


def named_as_given(text: str) -> str:
    """Put into a text the names by which the environment sets our variables: what else it says would change nothing."""
    return re.sub(r"\bVAULT_[A-Z_]+\b", lambda match: as_given(match[0]), text)


BlueprintError.as_given = staticmethod(named_as_given)
