"""How do requests get to Vault? Within one deadline, with one TLS context, and no way round TLS."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote

import hvac
import requests

from app.core.settings.types import socket_path
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.transport.answers import PlainAdapter
from app.core.transport.calls import vault_operation
from app.core.transport.connections import Pool, Transport, server_of
from app.core.transport.deadline import call_within
from app.core.transport.proxies import proxies_for, proxy_for
from app.core.transport.redirects import RedirectFailed, redirected_to
from app.core.transport.tls import TLSFiles, tls_context, vault_files
from app.core.transport.unix_sockets import base_url, over_socket


class _Request(requests.PreparedRequest):
    """A request without cookies, to an address that need not be looked at in each round again."""

    def prepare_url(self, url: Any, params: Any) -> None:
        """Check the address, and encode what is not allowed in it."""
        if params:
            super().prepare_url(url, params)
        else:
            self.url = _prepared(url)

    def prepare_cookies(self, _cookies: Any) -> None:
        """Send none."""


@lru_cache(4096)
def _prepared(url: str) -> str | None:
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    return request.url


class _Session(requests.Session):
    """Gives a call one deadline, redirect included, and follows at most one, to where the settings would let it go.

    Of the environment it takes the proxies only: no credentials of `~/.netrc`, no CA. As Vault's own tools, it keeps no
    cookies. What requests would do beside that is a third of the CPU time of a read.
    """

    def __init__(self, transport: Callable[[str], Transport], *, follows: bool) -> None:
        super().__init__()
        self._follows = follows
        self.trust_env = False
        self._transport = transport
        self._proxies: dict[str, dict[str, str]] = {}  # by the server's address
        self.adapters.clear()

    def get_adapter(self, url: str) -> Any:
        """Return the transport for the address's scheme, made when it is first needed."""
        prefix = "https://" if url.lower().startswith("https:") else "http://"
        if prefix not in self.adapters:
            self.mount(prefix, self._transport(prefix))
        return self.adapters[prefix]

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Put the session's headers, hooks and credentials into a request, and nothing else."""
        prepared = _Request()
        prepared.prepare(
            method=request.method,
            url=request.url,
            headers={**self.headers, **request.headers},
            data=request.data,
            params=request.params or None,
            auth=request.auth or self.auth,
            hooks=self.hooks,
            json=request.json,
        )
        return prepared

    def merge_environment_settings(self, url: Any, _proxies: Any, stream: Any, *_: Any) -> Any:
        """Take the proxies of the environment, as they are when a server is first asked: to find them takes long."""
        server = server_of(url)
        if server not in self._proxies:
            self._proxies[server] = _usable_proxies(server)
        return {"proxies": self._proxies[server], "stream": bool(stream)}

    def send(
        self, request: requests.PreparedRequest, *, allow_redirects: bool = True, **more: Any
    ) -> requests.Response:
        """Send a request, and once more where a redirect leads, with the same method, body and headers."""
        with call_within(more.get("timeout")):
            answer = self._send_once(request, **more)
            target = redirected_to(answer, may_follow=self._follows) if allow_redirects else None
            return answer if target is None else self._follow(answer, request, target, more)

    def _send_once(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        answer: requests.Response = self.get_adapter(str(request.url)).send(request, **more)
        for hook in request.hooks["response"]:
            hook(answer, **more)
        return answer

    def _follow(
        self, answer: requests.Response, request: requests.PreparedRequest, target: str, more: Mapping[str, Any]
    ) -> requests.Response:
        again = request.copy()
        again.url = target
        try:
            following = self._send_once(again, **{**more, "proxies": _usable_proxies(target)})
        except requests.RequestException as error:
            raise RedirectFailed(answer, target) from error
        following.history = [answer]
        redirected_to(following)
        return following


def _usable_proxies(url: str) -> dict[str, str]:
    found = proxies_for(url)
    if found and (proxy := proxy_for(url)) and not proxy.is_usable:
        raise requests.exceptions.InvalidProxyURL  # what requests would raise might show a part of a password
    return found


def open_http(settings: VaultSettings, source: str = MAIN_VAULT) -> requests.Session:
    """Return connections to Vault; `source` is what the metrics and spans call it."""
    issuing = {quoted(each.path) for each in settings.dynamic}
    operation_of = partial(vault_operation, quoted(settings.mount_point), issuing)
    return open_connections(settings.url, vault_files(settings), source, operation_of)


def open_connections(
    url: str, files: TLSFiles, source: str, operation_of: Callable[[str, str], str]
) -> requests.Session:
    """Return a session of keep-alive connections, with a TLS context of its own, built from what the files say now.

    `source` and `operation_of(method, path)` are what the metrics and spans call this server, and what is asked of it.
    """
    path = socket_path(url)
    plain = over_socket(Pool, path) if path else Pool
    contexts = {"https://": tls_context(files)} if url.startswith("https://") else {}

    def transport(prefix: str) -> Transport:
        if prefix == "https://" and prefix not in contexts:  # a redirect from http
            contexts[prefix] = tls_context(files)
        return Transport(contexts.get(prefix), source, operation_of, plain, files.server_name)

    return _Session(transport, follows=path is None)  # a redirect names a host, and there is none behind a socket


def vault_client(
    settings: VaultSettings, http: requests.Session, token: str = "", namespace: str | None = None
) -> hvac.Client:
    """Return an hvac client over `http`. The token is always explicit: hvac would take one from the environment."""
    more = {"timeout": settings.timeout, "session": http, "verify": True, "adapter": PlainAdapter}
    return hvac.Client(url=base_url(settings.url), token=token, namespace=namespace, **more)


def quoted(path: str) -> str:
    """Percent-encode a path for a URL; its slashes stay."""
    return quote(path, safe="/")
