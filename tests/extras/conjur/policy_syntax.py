"""How is policy written? Text into statements, and records back into text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.extras.conjur.records import Record, Records

RECORDS = {
    "!policy": "policy",
    "!variable": "variable",
    "!host": "host",
    "!user": "user",
    "!group": "group",
    "!layer": "layer",
    "!webservice": "webservice",
    "!host-factory": "host_factory",
}
REMOVALS = {"!delete", "!deny", "!revoke"}
TEXTS = {"id", "privilege", "privileges", "kind", "mime_type"}
PERMISSION = {"role", "roles", "privilege", "privileges", "resource", "resources"}
MEMBERSHIP = {"role", "roles", "member", "members"}
FIELDS = {
    **{tag: {"id", "owner", "annotations"} for tag in RECORDS},
    "!policy": {"id", "owner", "annotations", "body"},
    "!variable": {"id", "owner", "annotations", "kind", "mime_type"},
    "!host": {"id", "owner", "annotations", "restricted_to"},
    "!user": {"id", "owner", "annotations", "restricted_to"},
    "!host-factory": {"id", "owner", "annotations", "layer", "layers"},
    "!permit": PERMISSION,
    "!deny": PERMISSION,
    "!grant": MEMBERSHIP,
    "!revoke": MEMBERSHIP,
    "!delete": {"record"},
}


class PolicyInvalid(Exception):
    """The load is refused with 422; `more` goes into the error."""

    def __init__(self, message: str, code: str = "policy_invalid", **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.more = more


@dataclass(frozen=True)
class Item:
    """A tagged node: a statement, or a reference to a record."""

    tag: str
    fields: dict[str, Any]

    def __post_init__(self) -> None:
        if unknown := set(self.fields) - FIELDS[self.tag]:
            raise PolicyInvalid(f"Unknown attribute {min(unknown)!r} of {self.tag}")  # refused; words not recorded

    @property
    def id(self) -> str:
        """The id as written; empty if there is none."""
        return str(self.fields.get("id", ""))

    def all(self, name: str) -> list[Any]:
        """Return the field's values, whether it is written in the singular or the plural."""
        return list(flat([self.fields.get(name, []), self.fields.get(f"{name}s", [])]))


def parse(text: bytes) -> list[Item]:
    """Return the statements of a document."""
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)  # libyaml, like Ruby: its messages are part of the answer
    except yaml.YAMLError as error:
        raise PolicyInvalid(str(getattr(error, "problem", error))) from error
    match node:
        case None | yaml.ScalarNode(value=""):
            return []
        case yaml.ScalarNode():
            raise _misplaced(node, "Unexpected scalar")
        case yaml.MappingNode():
            raise _misplaced(node, "Unexpected mapping")
    statements = list(flat(_read(node)))
    if not all(isinstance(statement, Item) for statement in statements):
        raise PolicyInvalid("A policy is a list of tagged statements")
    return statements


def _read(node: yaml.Node) -> Any:
    if node.tag.startswith("!") and node.tag not in FIELDS:
        raise _misplaced(node, f"Unrecognized data type '{node.tag}'")
    match node:
        case yaml.SequenceNode():
            return [_read(child) for child in node.value]
        case yaml.MappingNode():
            fields = {key.value: _read(value) for key, value in node.value}
            if node.tag not in FIELDS:
                return fields
            for key, value in node.value:
                _refuse_no_text(key.value, value)
            return Item(node.tag, fields)
        case _:
            return Item(node.tag, {"id": node.value}) if node.tag in FIELDS else node.value


def _refuse_no_text(field: str, node: yaml.Node) -> None:
    """Refuse what YAML takes for something else than text where a text is due, such as `id: 5`; quotes make it one."""
    kinds = {"int": "Integer", "float": "Float", "timestamp": "Date"}
    kinds["bool"] = "TrueClass" if str(node.value).lower() in {"yes", "on", "true"} else "FalseClass"
    for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        kind = kinds.get(each.tag.removeprefix("tag:yaml.org,2002:"))
        if field in TEXTS and kind:
            raise _misplaced(each, f"Expected a string for field '{field}', got {kind}")


def _misplaced(node: yaml.Node, what: str) -> PolicyInvalid:
    """Say where something is that cannot be there, as the parser tells it: it has read on when it does."""
    line, column = node.end_mark.line + 1, 0
    if isinstance(node, yaml.MappingNode):  # up to the colon behind the first key
        first = node.value[0][0] if node.value else node
        line, column = first.end_mark.line, first.end_mark.column + 1
    elif isinstance(node, yaml.ScalarNode) and node.style:  # up to the end of the quotes
        line, column = node.end_mark.line, node.end_mark.column
    message = f"Error at line {line}, column {column} in policy : {what}"
    inner = {"code": "policy_invalid", "filename": "policy", "line": line, "column": column}
    return PolicyInvalid(message, innererror=inner)


def flat(value: Any) -> Iterator[Any]:
    """Walk through lists in lists, as anchors make them."""
    if isinstance(value, list):
        for element in value:
            yield from flat(element)
    else:
        yield value


def scoped(kind: str, written: str, namespace: str) -> str:
    """Return the whole identifier of what is written inside the policy `namespace`."""
    if written.startswith("/"):
        return written[1:]
    if kind == "user" and namespace:
        return f"{written}@{namespace.replace('/', '-')}"
    return "/".join(part for part in (namespace, written) if part)


def with_bodies(statements: list[Item], namespace: str) -> Iterator[tuple[Item, str]]:
    """Walk through the statements, those in bodies included, each with the namespace that it stands in."""
    for statement in statements:
        yield statement, namespace
        inner = scoped("policy", statement.id, namespace)
        yield from with_bodies(list(flat(statement.fields.get("body", []))), inner)


def effective(records: Records, branch: Record) -> str:
    """Return what a branch holds, as policy again; of the kinds that were recorded."""
    prefix = f"{branch.identifier}/"
    lines = ["---", "- !policy", f"  id: {branch.identifier}", "  body:"]
    order = ["variable", "host", "group"]
    everything = records.records.values()
    held = [record for record in everything if record.identifier.startswith(prefix) and record.kind in order]
    for record in sorted(held, key=lambda record: (order.index(record.kind), record.identifier)):
        short = record.identifier.removeprefix(prefix)
        if mime_type := record.annotations.get("conjur/mime_type"):
            lines += [f"  - !{record.kind}", f"    id: {short}", f"    mime_type: {mime_type[0]}"]
        else:
            lines.append(f"  - !{record.kind} {short}")
    granted: dict[tuple[str, str], list[str]] = {}
    for resource, privilege, role in sorted(records.permissions):
        if resource in {record.id for record in held}:
            granted.setdefault((role, resource), []).append(privilege)
    for (role, resource), privileges in sorted(granted.items()):
        lines += ["  - !permit", f"    role: {_reference(role, prefix)}"]
        lines += [f"    privileges: [{', '.join(privileges)}]", f"    resource: {_reference(resource, prefix)}"]
    return "\n".join(lines) + "\n"


def _reference(full: str, prefix: str) -> str:
    _, kind, identifier = full.split(":", 2)
    return f"!{kind} {identifier.removeprefix(prefix)}"
