"""What does pydantic make of the secrets that were found? Values by the names of fields, or what is wrong."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError, create_model, model_serializer
from pydantic.fields import FieldInfo

from app.core.logs.redaction import redact
from app.core.not_serializable import NotSerializable

WHOLE = "the declaration"  # the name of what is wrong with no single field: a model validator has refused
OVERRIDE = "SECRET_"  # the beginning of the path of what the settings say themselves


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry comes from; shown to people, so it holds no value."""

    source: str
    path: str
    version: int | None
    created_at: float | None  # when this version was written, in seconds since 1970
    key: str = ""  # its name there, where that is another one


DEFAULT = Origin("defaults", WHOLE, None, None)


@dataclass(frozen=True, slots=True)
class Reading(NotSerializable):
    """What a declaration makes of what was found."""

    values: dict[str, Any] = field(repr=False)  # declared ones by their field's name, others by their key
    origins: dict[str, Origin]
    problems: dict[str, str]  # what is missing or malformed, by the field's name
    model: BaseModel | None = field(repr=False)  # the declared model; None if anything is wrong


class _Served(NotSerializable, BaseModel):
    """A declared model that shows no value: not in `repr`, and not as JSON."""

    def __repr_args__(self) -> Iterator[tuple[None, str]]:
        """Show the names only."""
        yield from ((None, name) for name in type(self).model_fields)

    @model_serializer(mode="plain")
    def _refuse(self) -> dict[str, str]:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be a response")


class Declaration:
    """A pydantic model as the declaration of secrets; its aliases name the keys in Vault."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model
        self._aliases = {name: tuple(_aliases(info)) for name, info in model.model_fields.items()}
        # the top-level keys that a field takes its value from: its aliases', else its name
        self._keys = {
            name: tuple(dict.fromkeys(str(path[0]) for path in paths)) or (name,)
            for name, paths in self._aliases.items()
        }
        config = model.model_config
        self._by_name = bool(config.get("validate_by_name") or config.get("populate_by_name"))
        self._served: type[BaseModel] = create_model(model.__name__, __base__=(_Served, model))
        self._is_bound = bool(model.__pydantic_decorators__.model_validators)  # fields are only good together

    def read(self, found: Mapping[str, Any], origins: Mapping[str, Origin]) -> Reading:
        """Validate what was found. Where a field is broken the others are served, unless a validator looks at them all.

        What `SECRET_<NAME>` sets counts by the field's name, whatever its alias, and may be JSON. Keys that no field
        takes stay as they are.
        """
        given = dict(found)
        for name, keys in self._keys.items():
            if name in keys or name not in given:
                continue
            if _is_override(origins.get(name)):
                given = {key: value for key, value in given.items() if key == name or key not in keys}
            elif not self._by_name:
                del given[name]  # a key of this name is none of the field's
        model, problems = self._validated(given)
        for key in [key for key in given if problems and _is_override(origins.get(key))]:
            for text in _parsed(given[key]):
                better, left = self._validated(given | {key: text})
                if self._field_of(key) not in left:
                    given[key], model, problems = text, better, left
        values = self._values(model, given, problems)
        used = {key: origin for key, origin in origins.items() if key in given}
        rest = {key: value for key, value in found.items() if key not in self._taken}
        return Reading(
            {**rest, **values},
            {
                **{key: origin for key, origin in origins.items() if key in rest},
                **{name: self.origin(name, used) or DEFAULT for name in values},
            },
            problems,
            model,
        )

    @property
    def _taken(self) -> set[str]:
        return {key for name, keys in self._keys.items() for key in (name, *keys)}

    def _validated(self, given: Mapping[str, Any], kind: type[BaseModel] | None = None) -> tuple[Any, dict[str, str]]:
        try:
            return (kind or self._served).model_validate(dict(given), by_alias=True, by_name=True), {}
        except ValidationError as error:
            return None, self._problems(error)

    def _problems(self, error: ValidationError) -> dict[str, str]:
        """Say what is wrong with each field, and where in it, without any value."""
        found: dict[str, list[str]] = {}
        for problem in error.errors(include_input=False, include_url=False):
            name, inside = self._place(problem["loc"])
            text = "missing" if problem["type"] == "missing" else problem["msg"]
            where = ".".join(map(str, inside))
            found.setdefault(name, []).append(redact(f"{where}: {text}" if where else text))
        return {name: "; ".join(texts) for name, texts in found.items()}

    def _place(self, location: tuple[int | str, ...]) -> tuple[str, tuple[int | str, ...]]:
        """Return the field that an error is about, and where in it."""
        if not location:
            return WHOLE, ()
        for name, paths in self._aliases.items():
            for path in sorted(paths, key=len, reverse=True):
                if location[: len(path)] == path:
                    return name, location[len(path) :]
        return str(location[0]), location[1:]

    def _field_of(self, key: str) -> str:
        return next((name for name, keys in self._keys.items() if key in (name, *keys)), key)

    def _values(self, model: BaseModel | None, given: Mapping[str, Any], problems: Mapping[str, str]) -> dict[str, Any]:
        """Return what is good of the fields."""
        broken = set(problems)
        while model is None and not self._is_bound and WHOLE not in broken:
            others: dict[str, Any] = {name: (Any, None) for name in broken if name in self._keys}
            partial = create_model(self.model.__name__, __base__=self.model, **others)
            rest = {key: value for key, value in given.items() if self._field_of(key) not in broken}
            model, further = self._validated(rest, partial)
            if model is None and not further.keys() - broken:
                break
            broken |= further.keys()
        return {} if model is None else {name: getattr(model, name) for name in self._keys if name not in broken}

    def origin(self, name: str, origins: Mapping[str, Origin]) -> Origin | None:
        """Return where a field's value comes from, be it good or not; None: from nowhere."""
        found = next((key for key in (*self._keys.get(name, ()), name) if key in origins), None)
        if found is None:
            return None
        return origins[found] if found == name else replace(origins[found], key=found)


def broken_secrets(declared: type[BaseModel], values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with each declared secret that is missing or malformed, without any value."""
    return Declaration(declared).read(values, {}).problems


def _aliases(info: FieldInfo) -> Iterator[tuple[int | str, ...]]:
    """Yield the paths at which a field's value may be, as pydantic's errors name them."""
    match info.validation_alias:
        case AliasChoices(choices=choices):
            yield from (tuple(each.path) if isinstance(each, AliasPath) else (each,) for each in choices)
        case AliasPath(path=path):
            yield tuple(path)
        case str(alias):
            yield (alias,)


def _is_override(origin: Origin | None) -> bool:
    return origin is not None and origin.path.startswith(OVERRIDE)


def _parsed(text: object) -> Iterator[Any]:
    """Yield what a text says as JSON, if it does."""
    if isinstance(text, str):
        try:
            yield json.loads(text)
        except (ValueError, RecursionError):
            return
