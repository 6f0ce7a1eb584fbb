"""Which proxy of the environment is between us and a server, and which variable names it?"""

import os
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import requests.utils

from app.core.settings.types import is_loopback


class Proxy(NamedTuple):
    """A proxy that stands between us and a server; its address may hold a password, and is for no eyes."""

    url: str
    variable: str  # that names it, such as HTTPS_PROXY

    @property
    def target(self) -> tuple[str, int]:
        """Its host and port."""
        try:
            parts = urlsplit(self.url)
            port = parts.port or {"https": 443}.get(parts.scheme, 1080 if self.is_socks else 80)
        except ValueError:
            return "", 0
        return parts.hostname or "", port

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.url.lower().startswith("socks")

    @property
    def is_usable(self) -> bool:
        """Whether anything can be sent through it, if it is there; what is special in a password must be encoded."""
        host, _ = self.target
        try:
            path = urlsplit(self.url)._replace(scheme="", netloc="").geturl()
            user = unquote(urlsplit(self.url).netloc.rpartition("@")[0])
        except ValueError:
            return False
        is_known = urlsplit(self.url).scheme in {"http", "https"} or (self.is_socks and find_spec("socks") is not None)
        return is_known and host != "" and path in {"", "/"} and _is_latin_1(user)

    def __str__(self) -> str:
        host, port = self.target
        return f"the proxy {host}:{port} of {self.variable}"


def proxies_for(url: str) -> dict[str, str]:
    """Return what HTTPS_PROXY, NO_PROXY and their like say of this address, as requests wants it.

    As with Vault's own tools, there is no proxy for this machine: it would see the token of a plain connection.
    """
    return {} if is_loopback(url) else dict(requests.utils.get_environ_proxies(url))


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy that they put between us and `url`."""
    given = requests.utils.select_proxy(url, proxies_for(url))
    if not given:
        return None
    names = (f"{urlsplit(url).scheme}_proxy", "all_proxy")
    # small letters count first, as urllib has it
    variables = sorted((name for name, value in os.environ.items() if value == given), reverse=True)
    variable = next((name for wanted in names for name in variables if name.lower() == wanted), "the system's settings")
    try:
        urlsplit(given)  # requests takes it as it is, and the next line would correct it
        url = requests.utils.prepend_scheme_if_needed(given, "http")  # type: ignore[no-untyped-call]
    except ValueError:  # it cannot be understood
        url = given
    return Proxy(url, variable)


def _is_latin_1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def without_proxy(url: str, proxy: Proxy) -> str:
    """Tell people how to do without it."""
    return f"Check {proxy.variable}, or set NO_PROXY={urlsplit(url).hostname} if no proxy is meant."


def unusable_proxy(proxy: Proxy, address: str) -> tuple[str, str]:
    """Tell people why nothing can be sent through it, and what helps."""
    host = urlsplit(address).hostname
    if proxy.is_socks:
        cause = f"{proxy} speaks SOCKS, for which the package PySocks would be needed"
        return cause, f"Set {proxy.variable} to a proxy with http://, set NO_PROXY={host}, or add PySocks."
    encode = " Percent-encode what is special in a password." if "@" in proxy.url else ""
    remedy = f"Write http://HOST:PORT, or set NO_PROXY={host}.{encode}"
    return f"{proxy.variable} is not the address of a proxy", remedy
