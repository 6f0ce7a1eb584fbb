"""What do requests travel over? Pools of keep-alive connections, with one deadline for a call."""

import socket
import ssl
from collections.abc import Callable, Iterator
from queue import LifoQueue
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from app.core import forks
from app.core.transport.calls import watched
from app.core.transport.deadline import BoundedTLSSocket, bounded, call_within, connected
from app.core.transport.repetitions import RETRIES

POOL_SIZE = 24  # connections kept; as many threads read at once, whom a Vault that takes 10 ms to answer keeps busy


class _Idle(LifoQueue[Any]):
    """The connections of one pool that wait for their next use; a child closes its copies, and has none."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        forks.watch(self)

    def start_afresh(self) -> None:
        """Close what the parent goes on using: that closes this process's descriptors, and says nothing to Vault."""
        copies = [each for each in self.queue if each is not None]
        super().__init__(self.maxsize)  # a lock of its own, too
        for each in copies:
            each.close()


class _Connection(HTTPConnection):
    def connect(self) -> None:
        with forks.whole:
            super().connect()

    def _new_conn(self) -> socket.socket:
        """Do what urllib3 would do, with the deadline of the call; in its words, which decide on repetitions."""
        try:
            with call_within(self.timeout):
                return connected(self.host, self.port, self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error


class _TLSConnection(_Connection, HTTPSConnection):
    """The same, over TLS."""


class Pool(HTTPConnectionPool):
    """Connections over TCP."""

    QueueCls = _Idle
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    QueueCls = _Idle
    ConnectionCls = _TLSConnection


def _with_own_connections(manager: PoolManager, plain: type[HTTPConnectionPool] = Pool) -> PoolManager:
    if manager.pool_classes_by_scheme["http"] is HTTPConnectionPool:  # and not one for SOCKS, which must stay
        manager.pool_classes_by_scheme = {"http": plain, "https": _TLSPool}
    return manager


class _Response(requests.Response):
    """An answer that is not too large, and whose JSON is not nested too deeply."""

    def iter_content(self, *args: Any, **more: Any) -> Iterator[Any]:
        return bounded(super().iter_content(*args, **more))

    def json(self, **more: Any) -> Any:
        """Return what its JSON says; raise a `ValueError` where it is none that can be read."""
        try:
            return super().json(**more)
        except RecursionError:
            raise requests.exceptions.JSONDecodeError("nested too deeply", "", 0) from None

    def read(self) -> None:
        """Take it in whole, or close the connection: what is left of the answer is on it."""
        try:
            _ = self.content
        except BaseException:
            self.close()
            raise
        self.raw.release_conn()  # where there was nothing to be read, urllib3 would not


def server_of(url: str) -> str:
    """Return what is in front of the path: scheme, host and port."""
    return "/".join(url.split("/", 3)[:3])


class Transport(HTTPAdapter):
    """Gives every connection the same TLS context: building one costs 15 to 30 ms, and connections come and go.

    Every request passes here, so here each is watched; `operation_of` names what one asks, by its method and path.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None,
        source: str,
        operation_of: Callable[[str, str], str],
        plain: type[HTTPConnectionPool] = Pool,  # for http://
        server_name: str | None = None,  # that TLS asks for, where it is not the address's host
    ) -> None:
        self._context = context
        self._server_name = server_name
        self._plain = plain
        self._source = source
        self._operation_of = operation_of
        self._former: list[object] = []
        super().__init__(pool_maxsize=POOL_SIZE, max_retries=RETRIES)
        forks.watch(self)

    def start_afresh(self) -> None:
        """Take new pools, for a caller that kept a client over the fork: the lock of the parent's may be held."""
        self._former.append((self.poolmanager, self.proxy_manager))  # what would end them now might want such a lock
        self.proxy_manager = {}
        self.init_poolmanager(POOL_SIZE, POOL_SIZE)

    def send(self, request: requests.PreparedRequest, stream: bool = False, **more: Any) -> requests.Response:  # type: ignore[override]  # noqa: FBT001, FBT002 - requests calls it
        """Send a request, with its repetitions; an answer that breaks off in the middle has not come."""
        forks.notice_fork()
        operation = self._operation_of(request.method or "", request.path_url)
        address = getattr(self._plain, "address", str(request.url))
        with call_within(more.get("timeout")), watched(self._source, operation, address) as call:
            response = super().send(request, stream, **more)
            if not stream:
                cast("_Response", response).read()
            call.answered(response.status_code, None if stream else response.content)
        return response

    def build_response(self, request: requests.PreparedRequest, answer: Any) -> requests.Response:
        """Return an answer whose size is bounded, and whose encoding need not be guessed, which may take long."""
        response = _Response()
        response.request, response.connection, response.raw = request, self, answer
        response.url, response.status_code, response.reason = str(request.url), answer.status, answer.reason
        response.headers = CaseInsensitiveDict(answer.headers)
        response.encoding = "utf-8"  # neither Vault nor Conjur says anything else
        return response

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give all connections the one context."""
        self._pools: dict[str, Any] = {}  # by server, as far as there is no proxy
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context, server_hostname=self._server_name)
        _with_own_connections(self.poolmanager, self._plain)

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool for a request: urllib3 would look for it by thirty properties each time."""
        if proxies:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        server = server_of(str(request.url))
        pool = self._pools.get(server)
        if pool is None or pool.pool is None:  # it was closed
            pool = self._pools[server] = super().get_connection_with_tls_context(request, verify, proxies, cert)
        return pool

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Give a proxy's tunnels the same context."""
        if proxy.lower().startswith("https:") and proxy not in self.proxy_manager:
            with forks.whole:
                own = ssl.create_default_context()  # TLS to the proxy itself: ours is for the server
            own.sslsocket_class = BoundedTLSSocket
            kwargs["proxy_ssl_context"] = own
        tls: Any = {"ssl_context": self._context, "server_hostname": self._server_name}
        return _with_own_connections(super().proxy_manager_for(proxy, **{**kwargs, **tls}))

    def close(self) -> None:
        """Close every connection now: urllib3 would wait until nothing, a traceback say, knows its pool any more."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - it cannot be iterated over
                if (pool := manager.pools.get(key)) is not None:
                    pool.close()
        super().close()

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the context has the CA already, and requests would load its own again for each connection."""

    def build_connection_pool_key_attributes(self, request: Any, *_: Any) -> Any:
        """Leave out what hvac picked up from `VAULT_CACERT` and the like at import: the context is what counts."""
        return super().build_connection_pool_key_attributes(request, verify=True, cert=None)
