"""What does loading a policy do? The part of Conjur's policy language that the tests and the service write.

A load deletes what it is told to delete, declares records, then grants and permits, all or nothing. `POST` only adds,
`PATCH` updates and deletes, `PUT` also removes what the branch held before and the document leaves out.
"""

import copy
from collections.abc import Callable
from typing import Any

from tests.extras.conjur.policy_syntax import RECORDS, REMOVALS, Item, PolicyInvalid, flat, parse, scoped, with_bodies
from tests.extras.conjur.records import Record, Records


class Load:
    """One load into a branch. It works on a copy, which takes effect when the caller keeps `records`."""

    def __init__(self, records: Records, branch: str, method: str, now: Callable[[], float]) -> None:
        self.records = copy.deepcopy(records)
        self.branch = self.records.records[f"{records.account}:policy:{branch}"]
        self.created: list[Record] = []
        self._method = method
        self._now = now
        self._seen: set[str] = set()

    def run(self, text: bytes) -> None:
        """Apply the document; raise PolicyInvalid."""
        if not text.strip():
            raise _invalid_text("is not present")
        statements = parse(text)
        root = self.branch.identifier == "root"
        namespace, owner = ("", self.branch.owner) if root else (self.branch.identifier, self.branch.id)
        everything = list(with_bodies(statements, namespace))
        if self._method == "POST" and any(statement.tag in REMOVALS for statement, _ in everything):
            raise _invalid_text("may not contain deletion statements")
        for statement, where in everything:
            self._remove(statement, where)
        if self._method == "PUT":
            self._forget_rules()
        self._declare(statements, namespace, owner)
        if self._method == "PUT":
            held = (record.id for record in self.records.records.values() if record.policy == self.branch.id)
            self.records.delete(set(held) - self._seen)
        for statement, where in everything:
            self._permit(statement, where)
        self.branch.loads += 1

    def _forget_rules(self) -> None:
        here = self.branch.id
        self.records.permissions = {key: by for key, by in self.records.permissions.items() if by != here}
        self.records.memberships = {key: by for key, by in self.records.memberships.items() if by != here}
        for record in self.records.records.values():
            record.annotations = {name: note for name, note in record.annotations.items() if note[1] != here}

    def _declare(self, statements: list[Item], namespace: str, owner: str) -> None:
        for item in statements:
            if not (kind := RECORDS.get(item.tag)):
                continue
            if item.id.startswith("/"):
                raise PolicyInvalid(f"Illegal absolute id: {item.id}")
            owned_by = self._existing(item.fields["owner"], namespace) if "owner" in item.fields else owner
            record = self._record(kind, scoped(kind, item.id, namespace), owned_by)
            self._annotate(record, item.fields)
            record.restricted_to = list(item.all("restricted_to")) or record.restricted_to
            record.layers = [self._id(layer, namespace) for layer in item.all("layer")]
            self._declare(list(flat(item.fields.get("body", []))), record.identifier, record.id)

    def _record(self, kind: str, identifier: str, owner: str) -> Record:
        full = f"{self.records.account}:{kind}:{identifier}"
        if full in self._seen:
            raise PolicyInvalid("Missing required option account")  # the recorded words for a record declared twice
        self._seen.add(full)
        if not (record := self.records.records.get(full)):
            record = self.records.records[full] = Record(full, owner, self.branch.id, self._now())
            self.created.append(record)
        elif self._method != "POST" and record.policy == self.branch.id:
            record.owner = owner
        return record

    def _annotate(self, record: Record, fields: dict[str, Any]) -> None:
        shorthands = {f"conjur/{name}": fields[name] for name in ("kind", "mime_type") if name in fields}
        for name, value in {**fields.get("annotations", {}), **shorthands}.items():
            _, policy = record.annotations.get(name, ("", None))
            if policy is None or (self._method != "POST" and policy == self.branch.id):
                record.annotations[name] = (value, self.branch.id)

    def _remove(self, item: Item, namespace: str) -> None:
        match item.tag:
            case "!delete":
                self.records.delete({self._id(record, namespace) for record in item.all("record")})
            case "!deny":
                for key in self._permissions(item, namespace):
                    self.records.permissions.pop(key, None)
            case "!revoke":
                for pair in self._memberships(item, namespace):
                    self.records.memberships.pop(pair, None)

    def _permit(self, item: Item, namespace: str) -> None:
        match item.tag:
            case "!permit":
                for key in self._permissions(item, namespace):
                    self.records.permissions.setdefault(key, self.branch.id)
            case "!grant":
                for pair in self._memberships(item, namespace):
                    self.records.memberships.setdefault(pair, self.branch.id)

    def _permissions(self, item: Item, namespace: str) -> list[tuple[str, str, str]]:
        resources = [self._existing(resource, namespace) for resource in item.all("resource")]
        roles = [self._existing(role, namespace) for role in item.all("role")]
        return [(resource, how, role) for resource in resources for how in item.all("privilege") for role in roles]

    def _memberships(self, item: Item, namespace: str) -> list[tuple[str, str]]:
        roles = [self._existing(role, namespace) for role in item.all("role")]
        members = [self._existing(member, namespace) for member in item.all("member")]
        return [(role, member) for role in roles for member in members]

    def _existing(self, reference: Any, namespace: str) -> str:
        if (full := self._id(reference, namespace)) not in self.records.records:
            account, kind, identifier = full.split(":", 2)
            raise PolicyInvalid(f"{kind.capitalize()} '{identifier}' not found in account '{account}'")
        return full

    def _id(self, reference: Any, namespace: str) -> str:
        if not isinstance(reference, Item) or reference.tag not in RECORDS:
            raise PolicyInvalid(f"Expected a reference to a record, got {reference!r}")
        kind = RECORDS[reference.tag]
        return f"{self.records.account}:{kind}:{scoped(kind, reference.id, namespace)}"

    def forecast(self) -> dict[str, Any]:
        """Return what a dry run tells; records that change or go are left out, since none are in the recordings."""
        items = []
        for record in self.created:
            known: dict[str, Any] = {"id": record.identifier, "type": record.kind}
            known |= {"owner": record.owner, "policy": record.policy, "permitted": {}}
            known["annotations"] = {name: value for name, (value, _) in record.annotations.items()}
            items.append({"identifier": {"identifier": record.id, **known}, **dict.fromkeys(known)})
        none: dict[str, Any] = {"items": []}
        updated = {"before": none, "after": none}
        return {"status": "Valid YAML", "created": {"items": items}, "updated": updated, "deleted": none}


def _invalid_text(what: str) -> PolicyInvalid:
    details = [{"code": "validation_failed", "target": "policy_text", "message": what}]
    return PolicyInvalid(f"policy_text {what}", "validation_failed", details=details)
