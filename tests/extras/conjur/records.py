"""What does a Conjur account hold, and who may see and do what?"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.extras.conjur.tokens import new_api_key

ROLES = {"user", "host", "group", "layer", "policy", "host_factory"}
ACTORS = {"user", "host"}
KINDS = ROLES | {"variable", "webservice"}
KEPT_VERSIONS = 20


@dataclass
class Record:
    """A resource; of most kinds it is a role, too."""

    id: str
    owner: str
    policy: str | None
    created_at: float
    annotations: dict[str, tuple[str, str]] = field(default_factory=dict)  # name: (value, policy)
    versions: dict[int, bytes] = field(default_factory=dict)
    api_key: str | None = None
    restricted_to: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)  # a host factory's
    loads: int = 0  # a policy's

    def __post_init__(self) -> None:
        if self.kind in ACTORS:
            self.api_key = new_api_key()

    @property
    def account(self) -> str:
        """The first part of the id."""
        return self.id.split(":", 2)[0]

    @property
    def kind(self) -> str:
        """The second part of the id."""
        return self.id.split(":", 2)[1]

    @property
    def identifier(self) -> str:
        """The rest of the id."""
        return self.id.split(":", 2)[2]

    @property
    def value(self) -> bytes | None:
        """The newest value."""
        return self.versions[max(self.versions)] if self.versions else None

    def set(self, value: bytes) -> None:
        """Add a version, unless the value is the current one; forget the oldest beyond twenty."""
        if value != self.value:
            self.versions[max(self.versions, default=0) + 1] = value
            self.versions = dict(sorted(self.versions.items())[-KEPT_VERSIONS:])


@dataclass
class Records:
    """Everything in one account."""

    account: str
    records: dict[str, Record] = field(default_factory=dict)
    permissions: dict[tuple[str, str, str], str] = field(default_factory=dict)  # (resource, privilege, role): policy
    memberships: dict[tuple[str, str], str] = field(default_factory=dict)  # (role, member): policy

    def find(self, kind: str, identifier: str) -> Record | None:
        """Return the record, whoever asks."""
        return self.records.get(f"{self.account}:{kind}:{identifier}")

    def roles_of(self, role: str) -> set[str]:
        """Return the role and every role that it has: as a member or as an owner, directly or not."""
        held: set[str] = set()
        found = {role}
        while found:
            held |= found
            owned = {record.id for record in self.records.values() if record.owner in found and record.kind in ROLES}
            found = (owned | {granted for granted, member in self.memberships if member in found}) - held
        return held

    def is_allowed(self, role: str, privilege: str, record: Record) -> bool:
        """Tell whether the role owns the record or was permitted this."""
        held = self.roles_of(role)
        return record.owner in held or any((record.id, privilege, one) in self.permissions for one in held)

    def visible_to(self, role: str) -> set[str]:
        """Return the ids of what the role owns or was permitted anything on."""
        held = self.roles_of(role)
        owned = {record.id for record in self.records.values() if record.owner in held}
        return owned | {resource for resource, _, one in self.permissions if one in held}

    def is_visible(self, role: str, record: Record) -> bool:
        """Tell whether the role may see the record."""
        return record.id in self.visible_to(role)

    def delete(self, ids: Iterable[str]) -> None:
        """Delete records, with all that they own, that they loaded, and that refers to them."""
        while gone := {one for one in ids if self.records.pop(one, None)}:
            self.permissions = {key: by for key, by in self.permissions.items() if not {key[0], key[2], by} & gone}
            self.memberships = {key: by for key, by in self.memberships.items() if not {*key, by} & gone}
            ids = [record.id for record in self.records.values() if {record.owner, record.policy} & gone]

    def described(self, record: Record) -> dict[str, Any]:
        """Return what `/resources` tells about a record; variables and hosts are in the recordings."""
        granted = sorted(
            (how, role, by) for (resource, how, role), by in self.permissions.items() if resource == record.id
        )
        described: dict[str, Any] = {"created_at": timestamp(record.created_at), "id": record.id, "owner": record.owner}
        if record.policy:
            described["policy"] = record.policy
        described["permissions"] = [{"privilege": how, "role": role, "policy": by} for how, role, by in granted]
        described["annotations"] = [
            {"name": name, "value": value, "policy": policy} for name, (value, policy) in record.annotations.items()
        ]
        if record.kind == "variable":
            described["secrets"] = [{"version": version, "expires_at": None} for version in record.versions]
        if record.kind in ACTORS:
            described["restricted_to"] = record.restricted_to
        return described


def timestamp(seconds: float) -> str:
    """Return the time as Conjur writes it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")
