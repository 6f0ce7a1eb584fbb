"""How do requests get to Vault? Within one deadline, with one TLS context, and no way round TLS."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import hvac
import requests

from app.core.settings.types import socket_path
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.transport.answers import PlainAdapter
from app.core.transport.calls import vault_operation
from app.core.transport.connections import Pool, Transport
from app.core.transport.deadline import call_within
from app.core.transport.proxies import proxies_for, proxy_for
from app.core.transport.redirects import RedirectFailed, redirected_to
from app.core.transport.tls import TLSFiles, tls_context, vault_files
from app.core.transport.unix_sockets import base_url, over_socket


class _Session(requests.Session):
    """Gives a call one deadline, redirect included, and follows at most one, to where the settings would let it go.

    Of the environment it takes the proxies only: no credentials of `~/.netrc`, no CA.
    """

    def __init__(self, transport: Callable[[str], Transport], *, follows: bool) -> None:
        super().__init__()
        self._follows = follows
        self.trust_env = False
        self._transport = transport
        self.adapters.clear()

    def get_adapter(self, url: str) -> Any:
        """Return the transport for the address's scheme, made when it is first needed."""
        prefix = "https://" if url.lower().startswith("https:") else "http://"
        if prefix not in self.adapters:
            self.mount(prefix, self._transport(prefix))
        return super().get_adapter(url)

    def merge_environment_settings(self, url: Any, proxies: Any, *more: Any) -> Any:
        """Take the proxies of the environment."""
        found = proxies_for(str(url))
        if found and (proxy := proxy_for(str(url))) and not proxy.is_usable:
            raise requests.exceptions.InvalidProxyURL  # what requests would raise might show a part of a password
        return super().merge_environment_settings(url, {**found, **(proxies or {})}, *more)

    def get_redirect_target(self, _resp: requests.Response) -> str | None:
        """Say that there is none: `send` follows by itself."""
        return None

    def send(
        self, request: requests.PreparedRequest, *, allow_redirects: bool = True, **more: Any
    ) -> requests.Response:
        """Send a request, and once more where a redirect leads, with the same method, body and headers."""
        with call_within(more.get("timeout")):
            answer = super().send(request, allow_redirects=False, **more)
            target = redirected_to(answer, may_follow=self._follows) if allow_redirects else None
            return answer if target is None else self._follow(answer, request, target, more)

    def _follow(
        self, answer: requests.Response, request: requests.PreparedRequest, target: str, more: Mapping[str, Any]
    ) -> requests.Response:
        again = request.copy()
        again.url = target
        again.headers.pop("Cookie", None)
        try:
            following = super().send(again, allow_redirects=False, **{**more, "proxies": proxies_for(target)})
        except requests.RequestException as error:
            raise RedirectFailed(answer, target) from error
        following.history = [answer]
        redirected_to(following)
        return following


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
