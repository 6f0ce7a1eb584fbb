"""What does a browser have to know of every answer? Headers that a handler may replace by its own."""

from collections.abc import Iterable

from starlette.types import Scope

Pairs = Iterable[tuple[bytes, bytes]]

ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    # what is no page loads nothing; a page brings a policy of its own
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)
NO_STORE = (b"cache-control", b"no-store")
HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")  # for a year; what is below this name is not ours
VALIDATORS = {b"etag", b"last-modified"}  # who sends one wants to be kept
CREDENTIALS = {b"authorization", b"cookie", b"x-api-key"}


def completed(headers: Pairs, scope: Scope, request_id: str, *, https_only: bool) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with those that it lacks.

    Nothing is kept by caches in between unless the answer allows it; never what was asked for with a credential.
    """
    given = [(name, value) for name, value in headers if name.lower() != b"x-request-id"]
    names = {name.lower() for name, _ in given}
    given += [each for each in ALWAYS if each[0] not in names]
    if b"cache-control" not in names and (names.isdisjoint(VALIDATORS) or _carries_credential(scope)):
        given.append(NO_STORE)
    if https_only and scope.get("scheme") == "https" and HTTPS_ONLY[0] not in names:
        given.append(HTTPS_ONLY)
    given.append((b"x-request-id", request_id.encode("ascii")))
    return given


def _carries_credential(scope: Scope) -> bool:
    return any(name in CREDENTIALS for name, _ in scope["headers"])
