"""May a request go where an answer redirects it to? Its token and its secret id would go there, too.

A standby of Vault's redirects with 307 to the address that the active node tells of itself (`api_addr`). Other
redirects come from what is in front of Vault; 301 to 303 would turn a login into a read.
"""

from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import requests
from requests.utils import requote_uri

from app.core.settings.types import is_loopback, server_address

KEEPING_THE_METHOD = {HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT}


class RedirectRefused(requests.RequestException):
    """A redirect that is not followed; `network_errors` says why."""

    def __init__(self, response: requests.Response, target: str) -> None:
        super().__init__(response=response)
        self.status = response.status_code
        self.was_followed = bool(response.history)  # so this is a second one
        self.origin = origin(str(response.url))
        self.target = origin(target)
        self.is_downgrade = str(response.url).startswith("https:") and target.lower().startswith("http:")
        self.has_moved = is_moved(str(response.url), target)


class RedirectFailed(requests.RequestException):
    """The request failed where an answer redirected it to, for the reason that is its `__cause__`."""

    def __init__(self, response: requests.Response, target: str) -> None:
        super().__init__()
        self.target = origin(target)
        # what is in front of Vault wants TLS; a standby says 307, and names the active node
        is_for_good = response.status_code == HTTPStatus.PERMANENT_REDIRECT
        self.has_moved = is_for_good and is_moved(str(response.url), target)


def redirected_to(response: requests.Response, *, may_follow: bool = True) -> str | None:
    """Return where to send the request again; None if the answer is no redirect. Raises `RedirectRefused`."""
    if not response.is_redirect:
        return None
    target = target_of(response)
    refused = RedirectRefused(response, target)
    if response.history or response.status_code not in KEEPING_THE_METHOD:
        raise refused
    if not may_follow or not _may_have_secrets(response, target):
        raise refused
    return target


def target_of(response: requests.Response) -> str:
    """Return the address that an answer names; empty if there is none that could be understood."""
    try:
        return urljoin(str(response.url), requote_uri(response.headers.get("Location", "")))
    except (ValueError, requests.RequestException):
        return ""


def is_moved(url: str, target: str) -> bool:
    """Tell whether a redirect says of a whole server that it speaks TLS, or is elsewhere: the path is the same."""
    before, after = urlsplit(url), urlsplit(target)
    return after.scheme == "https" and before.path == after.path and origin(url) != origin(target)


def origin(url: str) -> str:
    """Return scheme, host and port of an address, for people; whatever else is in it is not shown."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return server_address(f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else ""))
    except ValueError:
        return "an address that is none"


def _may_have_secrets(response: requests.Response, target: str) -> bool:
    """Accept the same host, and what the settings would: https, and http on this machine; and no step back from TLS."""
    try:
        before, after = urlsplit(str(response.url)), urlsplit(target)
        server_address(origin(target))
    except ValueError:
        return False
    if after.username is not None or after.password is not None or not after.hostname:
        return False
    if after.scheme == "https":
        return True
    return before.scheme == "http" and (after.hostname == before.hostname or is_loopback(target))
