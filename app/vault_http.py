"""How do requests get to Vault? Keep-alive connections, one TLS context, a few repetitions, and no way round TLS."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import hvac
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, ReadTimeoutError
from urllib3.util import Retry

from app.config import MAIN_VAULT, VaultSettings
from app.config_types import is_loopback
from app.credential_files import warn_if_others_may_read
from app.errors import VaultTLSFailed
from app.vault_calls import vault_operation, watched

POOL_SIZE = 16  # connections kept; at least as many as threads that read at once


class _Retry(Retry):
    """Does not repeat what timed out: who has waited for VAULT_TIMEOUT waits no second time."""

    def increment(self, *args: Any, **context: Any) -> Any:
        match context.get("error"):
            case ReadTimeoutError() as timeout:
                raise timeout
            case ConnectTimeoutError() as timeout:
                raise MaxRetryError(context["_pool"], args[1], timeout)
            case _:
                return super().increment(*args, **context)


# Only what is safe to repeat (reads) is repeated after an answer; a connection that never came about always is.
# 412: a replica has not caught up; 472 and 473: a standby that cannot serve.
RETRIES = _Retry(
    total=3,
    connect=1,
    read=1,
    redirect=None,
    status_forcelist=(412, 429, 472, 473, 500, 502, 503),
    allowed_methods=("GET", "HEAD", "LIST"),
    backoff_factor=0.1,
    backoff_jitter=0.1,
    backoff_max=1.0,
    retry_after_max=1,
    raise_on_status=False,
)


class _Session(requests.Session):
    """Follows a standby's redirect, but never from https to http: that would send the token in the clear."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and str(resp.url).startswith("https:") and target.lower().startswith("http:"):
            resp.close()
            raise requests.exceptions.SSLError("redirected from https to http")
        return target


class _Transport(HTTPAdapter):
    """Gives every connection the same TLS context: building one costs 15 to 30 ms, and connections come and go.

    Every request passes here, so here each is watched; `operation_of` names what one asks, by its method and path.
    """

    def __init__(self, context: ssl.SSLContext | None, source: str, operation_of: Callable[[str, str], str]) -> None:
        self._context = context
        self._source = source
        self._operation_of = operation_of
        super().__init__(pool_maxsize=POOL_SIZE, max_retries=RETRIES)

    def send(self, request: requests.PreparedRequest, stream: bool = False, **more: Any) -> requests.Response:  # type: ignore[override]  # noqa: FBT001, FBT002 - requests calls it
        """Send a request, with its repetitions; an answer that breaks off in the middle has not come."""
        with watched(
            self._source, self._operation_of(request.method or "", request.path_url), str(request.url)
        ) as call:
            response = super().send(request, stream, **more)
            if not stream:
                _ = response.content  # reads it
            call.answered(response.status_code)
        return response

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Give a proxy's tunnels the same context."""
        return super().proxy_manager_for(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the context has the CA already, and requests would load its own again for each connection."""

    def build_connection_pool_key_attributes(self, request: Any, *_: Any) -> Any:
        """Leave out what hvac picked up from `VAULT_CACERT` and the like at import: the context is what counts."""
        return super().build_connection_pool_key_attributes(request, verify=True, cert=None)


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The CA to trust and the certificate to present, as PEM files; and the variables that name them, for errors."""

    cacert: Path | None
    client_cert: Path | None
    client_key: Path | None
    certificate: str | None = None  # a CA itself, as PEM text
    variables: tuple[str, str, str] = ("VAULT_CACERT", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY")


def open_http(settings: VaultSettings, source: str = MAIN_VAULT) -> requests.Session:
    """Return connections to Vault; `source` is what the metrics and spans call it."""
    files = TLSFiles(settings.cacert, settings.client_cert, settings.client_key)
    return open_connections(settings.url, files, source, partial(vault_operation, quoted(settings.mount_point)))


def open_connections(
    url: str, files: TLSFiles, source: str, operation_of: Callable[[str, str], str]
) -> requests.Session:
    """Return a session of keep-alive connections, with a TLS context of its own, built from what the files say now.

    `source` and `operation_of(method, path)` are what the metrics and spans call this server, and what is asked of it.
    """
    session = _Session()
    session.auth = lambda request: request  # or requests would look for the host in ~/.netrc
    session.trust_env = not is_loopback(url)  # or HTTP_PROXY would see the token of a plain connection
    context = tls_context(files) if url.startswith("https://") else None
    session.mount("https://", _Transport(context, source, operation_of))
    session.mount("http://", _Transport(None, source, operation_of))
    return session


def vault_client(
    settings: VaultSettings, http: requests.Session, token: str = "", namespace: str | None = None
) -> hvac.Client:
    """Return an hvac client over `http`. The token is always explicit: hvac would take one from the environment."""
    return hvac.Client(
        url=settings.url, token=token, namespace=namespace, timeout=settings.timeout, session=http, verify=True
    )


def quoted(path: str) -> str:
    """Percent-encode a path for a URL; its slashes stay."""
    return quote(path, safe="/")


def proxy_for(url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY, NO_PROXY and their like put between us and `url`; it may hold a password.

    As with Vault's own tools, there is none for this machine.
    """
    if is_loopback(url):
        return None
    proxy: str | None = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return proxy


def tls_context(files: TLSFiles) -> ssl.SSLContext:
    """Trust the configured CA, or else the public ones; present the client certificate, if there is one."""
    variable, certificate, key = files.variables
    file: Path | None = None if files.certificate else files.cacert or Path(certifi.where())
    try:
        context = ssl.create_default_context(cafile=file, cadata=files.certificate)
        if files.client_cert is not None:
            for variable, file in ((certificate, files.client_cert), (key, files.client_key)):  # noqa: B007 - named below
                if file is not None:
                    file.open("rb").close()  # load_cert_chain does not say which of the two it cannot read
            variable, file = certificate, files.client_cert
            context.load_cert_chain(files.client_cert, files.client_key, password=_no_password)
            warn_if_others_may_read(key, files.client_key or files.client_cert)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not usable"
        remedy = f"Set {variable} to PEM that this process may read."
        if reason == "KEY_VALUES_MISMATCH":
            reason, remedy = "the key belongs to another certificate", f"Set {key} to the key of this one."
        subject = variable if file is None else f"{variable}={file}"
        raise VaultTLSFailed(subject, f"cannot be loaded ({reason})", remedy) from None
    return context


def _no_password() -> str:
    """Refuse encrypted keys: OpenSSL would ask for the password on the terminal."""
    raise ValueError
