"""How are wrong settings reported? By the names of their variables, and without values."""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from app.core.errors import BadSettings
from app.core.settings.tool_names import as_given


def bad_settings(error: ValidationError, *group: str) -> BadSettings:
    """Turn pydantic's report into one that names the variables and shows no value."""
    found = error.errors(include_input=False, include_url=False)
    named = [(variable_name((*group, *problem["loc"])), _text(problem)) for problem in found]
    return BadSettings([f"{variable}: {text}{_where(variable)}" for variable, text in named])


def raise_faults(faults: Mapping[tuple[str, ...], str]) -> None:
    """Report what is wrong at each place, from a validator, together with whatever else is wrong."""
    if faults:
        found = [
            InitErrorDetails(type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=where, input=None)
            for where, text in faults.items()
        ]
        raise ValidationError.from_exception_data("Settings", found)


def _where(variable: str) -> str:
    """Say by which other name a variable is set, if it is."""
    given = as_given(variable)
    return "" if given == variable else f" (it is set as {given})"


def _text(problem: ErrorDetails) -> str:
    """Return what is wrong; the variables that it mentions are those of the Vault that it is about."""
    known = {"missing": "is needed", "extra_forbidden": "there is no such variable; check its name"}
    text = known.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    if problem["loc"][0] == "vaults":
        text = text.replace("VAULT_", f"{variable_name(problem['loc'][:2])}__")
    return text


def variable_name(location: tuple[int | str, ...]) -> str:
    """Name the variable behind a field: `("vault", "url")` is `VAULT_URL`, `("secrets", "x")` is `SECRET_X`."""
    names = [str(part) for part in location if isinstance(part, str) and part != "[key]"]
    if names[0] == "secrets":
        names[0] = "secret"
    if names[1:2] == ["dynamic"]:
        names[:2] = ["_".join(names[:2])]  # VAULT_DYNAMIC__SHOP
        return "__".join(names).upper()
    return ("__" if names[0] == "vaults" else "_").join(names).upper().replace("-", "_")
