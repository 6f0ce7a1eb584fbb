"""How are values read and written, and resources listed? What `/secrets` and `/resources` answer."""

import base64
import re
from collections.abc import Mapping

from tests.extras.conjur import wire
from tests.extras.conjur.records import Record, Records
from tests.extras.conjur.wire import Answer, Refused, Request

MAX_LIMIT = 1000


def permitted(records: Records, role: str, privilege: str, kind: str, identifier: str) -> Record:
    """Return the record if the role may do this with it; raise Refused."""
    record = records.find(kind, identifier)
    if not record or not records.is_visible(role, record):
        raise Refused(wire.not_found(kind, identifier, records.account))
    if not records.is_allowed(role, privilege, record):
        raise Refused(wire.bare(403))
    return record


def read(records: Records, role: str, request: Request, full: str) -> Answer:
    """Answer with one value; missing, unset, purged and invisible are told apart in nothing."""
    record = records.records.get(full)
    if not record or not records.is_visible(role, record):
        return _no_value(full)
    if not records.is_allowed(role, "execute", record):
        return wire.bare(403)
    value = record.value
    if (version := request.query.get("version")) is not None:
        if not re.fullmatch(r"-?[0-9]+", version):
            return wire.error(422, "argument_error", "invalid type for parameter 'version'")
        value = record.versions.get(int(version))
    if value is None:
        return _no_value(full)
    mime_type, _ = record.annotations.get("conjur/mime_type", ("application/octet-stream", ""))
    return wire.secret(value, mime_type)


def write(records: Records, role: str, request: Request, account: str, identifier: str) -> Answer:
    """Set a value; with `?expirations`, which concerns rotators only, nothing."""
    if account != records.account:
        return wire.not_found("variable", identifier, account)
    record = permitted(records, role, "update", "variable", identifier)
    if "expirations" not in request.query:
        if not request.body.strip():
            return wire.error(422, "argument_error", "'value' may not be empty")
        record.set(request.body)
    return wire.bare(201)


def read_batch(records: Records, role: str, request: Request) -> Answer:
    """Answer with all the values that are asked for, or none."""
    ids = request.query.get("variable_ids", "").split(",")
    if not all(ids):
        return wire.error(422, "argument_error", "variable_ids")
    if len(set(ids)) < len(ids):
        return wire.unrouted(500)  # the real server stumbles over its own error
    in_base64 = request.header("Accept-Encoding").lower() == "base64"
    headers = wire.BASE64 if in_base64 else wire.NONE  # said of a failure, too, which is none: of 1.22.3
    if missing := [one for one in ids if one not in records.records]:
        return _no_value(missing[0], headers)
    variables = [records.records[one] for one in ids]
    if not all(records.is_allowed(role, "execute", variable) for variable in variables):
        return wire.bare(403)
    values = {variable.id: variable.value for variable in variables if variable.value is not None}
    if unset := [one for one in ids if one not in values]:
        return _no_value(unset[0], headers)
    if in_base64:
        encoded = {one: _ruby_base64(value) for one, value in values.items()}
        return wire.as_json(encoded, headers=headers)
    try:
        return wire.as_json({one: value.decode() for one, value in values.items()})
    except UnicodeDecodeError:
        advice = "try including 'Accept-Encoding: base64' header in request."
        return wire.error(406, "not_acceptable", f"CONJ00074E Issue encoding secret into JSON format, {advice}")


def listed(records: Records, role: str, request: Request, account: str, kind: str) -> Answer:
    """Answer with the resources of a kind that the role may see."""
    limit, offset = _whole(request, "limit", 1), _whole(request, "offset", 0)
    words = _words(request.query.get("search", ""))
    visible = records.visible_to(role)
    found = [
        record
        for full, record in sorted(records.records.items())
        if (record.account, record.kind) == (account, kind)
        and full in visible
        and words <= _words(" ".join([full, *(value for value, _ in record.annotations.values())]))
    ]
    if request.query.get("count") == "true":
        return wire.as_json({"count": len(found)})
    page = found[offset or 0 :][:limit]
    return wire.as_json([records.described(record) for record in page])


def resource(records: Records, role: str, request: Request, full: str) -> Answer:
    """Answer with one resource, or tell whether the role has a privilege on it."""
    record = records.records.get(full)
    if not record or not records.is_visible(role, record):
        account, kind, identifier = full.split(":", 2)
        return wire.not_found(kind, identifier, account)
    if "check" not in request.query:
        return wire.as_json(records.described(record))
    if records.is_allowed(role, request.query.get("privilege", ""), record):
        return Answer(204, {"Cache-Control": "no-cache"})
    return wire.bare(404)


def _no_value(full: str, headers: Mapping[str, str] = wire.NONE) -> Answer:
    return wire.error(404, "not_found", f"CONJ00076E Variable {full} is empty or not found.", headers)


def _ruby_base64(value: bytes) -> str:
    """Encode as Ruby does: a line feed after each sixty characters and at the end."""
    return re.sub("(.{1,60})", "\\1\n", base64.b64encode(value).decode())


def _whole(request: Request, name: str, smallest: int) -> int | None:
    """Return a whole number from the query, if it is there; raise Refused."""
    if (text := request.query.get(name)) is None:
        return None
    if not re.fullmatch("[0-9]+", text) or int(text) < smallest:
        message = f"'{name}' contains an invalid value. '{name}' must be a positive integer."
        raise Refused(wire.error(422, "unprocessable_entity", message))
    if name == "limit" and int(text) > MAX_LIMIT:
        raise Refused(wire.error(422, "unprocessable_entity", f"'Limit' parameter must not exceed {MAX_LIMIT}"))
    return int(text)


def _words(text: str) -> set[str]:
    """Split for the search, which compares whole words; PostgreSQL also takes off English endings."""
    return set(re.findall(r"[^\W_]+", text.lower()))
