"""Who may ask, and from which page? A name that is not ours, or a page of somebody else's, gets no answer.

Two things that a browser on this machine or in this network would do for a stranger: ask us under the stranger's name,
whose address has become ours meanwhile (DNS rebinding), and send what changes something from the stranger's page.
"""

from collections.abc import Container, Sequence
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.logs.logging_config import get_logger
from app.core.settings.app import AppSettings
from app.core.settings.web import (
    EVERY,
    LONGEST_NAME,
    SET_ENVIRONMENT,
    host_name,
    is_address,
    is_this_machine,
    matches,
    origin,
    without_own_port,
)
from app.core.web.problems import problem

READS = {"GET", "HEAD", "OPTIONS"}
# Those who look after the service ask by its address, or without any name: they must not need a setting. A browser
# cannot be led here by an address, and what they get holds no secret.
PROBED = {"/health/live", "/health/ready", "/metrics"}

WRONG_HOST = "The service is not called so; ALLOWED_HOSTS says how it is called."
WRONG_ORIGIN = "A page of another origin may change nothing here; CORS_ORIGINS says which may."

log = get_logger(__name__)


class RefuseForeign:
    """Middleware: refuse a request with a foreign `Host`, and a changing one from a page of a foreign origin.

    What is no browser sends neither `Origin` nor `Sec-Fetch-Site`, and is let through.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self._app = app
        self._hosts: Sequence[str] = settings.allowed_hosts
        self._checks_host = EVERY not in self._hosts and (settings.environment == "development" or bool(self._hosts))
        self._origins: Container[str] = settings.cors_origins
        self._is_warned = "environment" in settings.model_fields_set
        self._knows = lru_cache(256)(self._is_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; pass on anything that is not one."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if not self._is_warned:
            self._warn_if_exposed(scope)
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await problem(*refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return why a request is refused; None if it is not."""
        changes = scope.get("method") not in READS  # so does a WebSocket, which has none
        if not changes and not self._checks_host:
            return None
        sent: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"sec-fetch-site": []}
        for name, value in scope["headers"]:
            if name in sent:
                sent[name].append(value.decode("latin-1"))
        hosts = sent[b"host"]
        if self._checks_host and not (len(hosts) <= 1 and self._lets_in("".join(hosts), scope)):
            return 400, WRONG_HOST
        if changes and self._is_foreign(sent[b"origin"], sent[b"sec-fetch-site"], "".join(hosts)):
            return 403, WRONG_ORIGIN
        return None

    def _lets_in(self, host: str, scope: Scope) -> bool:
        return len(host) <= LONGEST_NAME and self._knows(host, is_probe=_path_of(scope) in PROBED)

    def _is_ours(self, host: str, *, is_probe: bool) -> bool:
        name = host_name(host)
        if is_probe and (not host or (name is not None and (is_address(name) or is_this_machine(name)))):
            return True
        if name is None:
            return False
        return any(matches(name, pattern) for pattern in self._hosts) if self._hosts else is_this_machine(name)

    def _is_foreign(self, origins: Sequence[str], sites: Sequence[str], host: str) -> bool:
        """Tell whether a browser sent this from a page of another origin, which nobody has allowed."""
        if origins and (EVERY in self._origins or all(each in self._origins for each in map(_known_form, origins))):
            return False
        if sites:  # the browser has compared: what a proxy makes of `Host` does not matter
            return any(each not in {"same-origin", "none"} for each in sites)
        return any(not _is_same(each, host) for each in origins)

    def _warn_if_exposed(self, scope: Scope) -> None:
        """Say once that others reach the service, while it thinks that it is on a developer's machine."""
        address = str((scope.get("server") or ("", None))[0])
        if _is_elsewhere(address):
            self._is_warned = True
            log.warning("development_exposed", address=address, remedy=SET_ENVIRONMENT)


@lru_cache(64)
def _is_elsewhere(address: str) -> bool:
    return is_address(address) and not is_this_machine(address)


def _path_of(scope: Scope) -> str:
    path, root = str(scope["path"]), scope.get("root_path", "")
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def _known_form(sent: str) -> str:
    """Return an origin as the settings have it; one that is none (`null`) as it is."""
    try:
        return origin(sent)
    except ValueError:
        return sent


def _is_same(sent: str, host: str) -> bool:
    """Tell whether an origin is this host: the scheme is not compared, since a proxy may have ended TLS."""
    scheme, separator, rest = sent.lower().partition("://")
    return bool(separator) and without_own_port(scheme, rest) == without_own_port(scheme, host.lower())
