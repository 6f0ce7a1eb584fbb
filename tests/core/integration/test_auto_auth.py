"""Behind a real Proxy with auto-auth, over its unix socket: no token of ours, and never an end of the Proxy's."""

import errno
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import BackendError, PermissionDenied, UnexpectedAnswer, VaultUnreachable
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http, vault_client
from app.core.transport.unix_sockets import open_socket, unreachable
from app.core.vault.source import VaultSource
from app.core.vault.token_life import TokenKeeper
from app.core.vault.writing import writer
from app.vault import close_sessions, get_session, read_paths
from tests.auto_auth import Proxy, auto_auth
from tests.core.integration.test_forks import fork
from tests.support import SECRETS, Service, Vault, environment, unique, until


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a secret of this test's own."""
    vault.write(path := unique("app"), SECRETS)
    return path


@pytest.fixture
def proxy(vault: Vault, path: str, tmp_path: Path) -> Iterator[Proxy]:
    """Run a Proxy that adds its token."""
    with auto_auth(vault, tmp_path, path) as running:
        yield running


def settings_of(url: str, path: str, **more: Any) -> VaultSettings:
    """Return settings without a token."""
    return VaultSettings.model_validate(
        {"enabled": True, "auth_method": "none", "url": url, "secret_path": path, **more}
    )


def read(settings: VaultSettings) -> Any:
    """Read the one configured secret."""
    (secret,) = read_paths(settings, settings.secret_path)
    return secret.data


@pytest.mark.parametrize("way", ["address", "url"])
def test_it_reads_without_a_token(proxy: Proxy, path: str, way: str) -> None:
    """Over the socket and over TCP: the Proxy adds one."""
    assert read(settings_of(getattr(proxy, way), path)) == SECRETS


def test_nothing_is_asked_of_the_proxys_token(proxy: Proxy, path: str) -> None:
    """It is neither looked up, nor renewed, nor revoked, and it is good after we have gone."""
    settings = settings_of(proxy.address, path)
    before = proxy.token()["issue_time"]
    with proxy.vault.audited() as calls:
        assert read(settings) == SECRETS
        assert get_session(settings).client()
        TokenKeeper(lambda: get_session(settings)).tick()
        close_sessions()
    assert [where for _, where in calls] == [f"secret/data/{path}"]
    assert proxy.token()["issue_time"] == before


@pytest.mark.parametrize("adds", ["true", '"force"'])
def test_a_login_of_ours_through_a_proxy_ends_no_token_but_our_own(
    vault: Vault, path: str, tmp_path: Path, adds: str
) -> None:
    """A Proxy that forces its token upon requests would have its own one revoked by our `revoke-self`."""
    with auto_auth(vault, tmp_path, path, adds=adds) as proxy:
        before = proxy.token()["issue_time"]
        settings = VaultSettings.model_validate({**vault.app_role(path), "url": proxy.address})
        assert read(settings) == SECRETS
        login = get_session(settings).current()
        assert login is not None
        close_sessions()
        assert proxy.token()["issue_time"] == before
    if adds == "true":
        with pytest.raises(Exception, match="bad token"):
            vault.client.auth.token.lookup(login.auth.client_token)


def test_the_service_works_behind_the_socket_and_leaves_the_token(proxy: Proxy, path: str, tmp_path: Path) -> None:
    """Ready, with secrets, and after its end the Proxy's token is the same."""
    before = proxy.token()["issue_time"]
    variables = environment({"enabled": "true", "auth_method": "none", "url": proxy.address, "secret_path": path})
    with Service(tmp_path, {**variables, "ENVIRONMENT": "production"}) as service:
        until(lambda: service.get("/health/ready").status_code == 200, "the service to be ready")
        assert service.get("/fingerprint").ok
    assert "token_revoked" not in service.output
    assert proxy.token()["issue_time"] == before


def test_a_renewal_through_a_proxy_that_forces_its_token_leaves_ours_as_it_is(
    vault: Vault, path: str, tmp_path: Path
) -> None:
    """What comes back is about the Proxy's token, which must not be taken for the one that is ours to revoke."""
    with auto_auth(vault, tmp_path, path, adds='"force"') as proxy:
        session = get_session(VaultSettings.model_validate({**vault.app_role(path), "url": proxy.address}))
        assert session.client()
        login = session.current()
        assert login is not None
        ours = login.auth.client_token
        with suppress(BackendError):
            session.renew(login)
        assert login.auth.client_token == ours
        close_sessions()
        assert proxy.token()


def test_without_a_proxy_the_method_none_is_refused_and_nothing_more_is_tried(vault: Vault, path: str) -> None:
    """Vault itself takes no request without a token; there is no login that would help."""
    settings = settings_of(vault.url, path, access_mode="read_and_write")
    with vault.audited() as calls:
        for operation in (
            lambda: read(settings),
            lambda: writer(settings).write(path, {}),
            lambda: writer(settings).list(path),
        ):
            with pytest.raises(PermissionDenied, match=r"no token comes with the requests.* an Agent or Proxy"):
                operation()
    assert "auth/token/lookup-self" not in [where for _, where in calls]


def test_many_threads_share_the_pool_and_a_restart_of_the_proxy_is_survived(
    vault: Vault, path: str, tmp_path: Path
) -> None:
    """Connections are kept; those that died with the Proxy are replaced."""
    settings = settings_of(f"unix://{tmp_path}/proxy.sock", path)
    for _ in range(2):
        with auto_auth(vault, tmp_path, path), ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: read(settings), range(32))) == [SECRETS] * 32
    with pytest.raises(VaultUnreachable, match="there is no such socket"):
        read(settings)


def test_a_child_opens_a_connection_of_its_own(proxy: Proxy, path: str, tmp_path: Path) -> None:
    """As over TCP: no child reads what was sent to its parent or to a sibling."""
    variables = {"VAULTS__SIDE__URL": proxy.address, "VAULTS__SIDE__AUTH_METHOD": "none"}
    references = [f"{{vault://side/{path}/{key}}}" for key in SECRETS]
    found = fork("threads", variables, references, tmp_path)
    assert [each["values"] for each in found] == [[value] for value in [*SECRETS.values(), SECRETS["database_url"]]]


def _nothing(directory: Path) -> Path:
    return directory / "nothing.sock"


def _file(directory: Path) -> Path:
    (directory / "file").write_text("")
    return directory / "file"


def _abandoned(directory: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(directory / "abandoned"))
    return directory / "abandoned"


def _below_a_file(directory: Path) -> Path:
    return _file(directory) / "proxy.sock"


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_nothing, "there is no such socket"),
        (_file, "this is no socket"),
        (_abandoned, "nobody listens on the socket"),
        (_below_a_file, "its path leads through a file"),
        (lambda directory: directory, "this is no socket"),
    ],
)
def test_a_socket_that_leads_nowhere_is_named(tmp_path: Path, make: Any, cause: str) -> None:
    """With what is wrong with it, and who should listen there."""
    where = make(tmp_path)
    with pytest.raises(VaultUnreachable) as caught:
        read(settings_of(f"unix://{where}", "app"))
    assert str(caught.value).startswith(f"unix://{where}: {cause}. Check VAULT_URL, and whether the Agent")


def test_a_socket_that_others_own_says_so() -> None:
    """These tests may run as root, to whom nothing is forbidden."""
    error = unreachable("unix:///run/proxy.sock", PermissionError(errno.EACCES, "Permission denied"), "VAULT_URL")
    assert str(error).startswith("unix:///run/proxy.sock: this process may not use the socket. Give this user")


def test_a_listener_that_never_answers_costs_one_timeout(tmp_path: Path) -> None:
    """It accepts, and is silent."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        with pytest.raises(VaultUnreachable, match="no answer within VAULT_TIMEOUT"):
            read(settings_of(f"unix://{tmp_path}/silent.sock", "app", timeout=0.2))


def test_a_full_queue_is_waited_for_and_then_named(tmp_path: Path) -> None:
    """The system would say at once that too many wait."""
    address, settings = str(tmp_path / "busy.sock"), settings_of(f"unix://{tmp_path}/busy.sock", "app", timeout=0.2)
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(address)
        busy.listen(0)
        with suppress(BlockingIOError):
            while True:
                another = waiting.enter_context(socket.socket(socket.AF_UNIX))
                another.settimeout(0)
                another.connect(address)
        with pytest.raises(VaultUnreachable, match="no answer within VAULT_TIMEOUT"):
            read(settings)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(open_socket, address, 30.0)
            busy.accept()[0].close()
            late.result().close()


def test_a_redirect_over_a_socket_is_not_followed(tmp_path: Path) -> None:
    """It names a host, to which nothing that came over the socket may be sent."""
    answered: list[bytes] = []

    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            answered.append(connection.recv(65536))
            connection.sendall(
                b"HTTP/1.1 307 See there\r\nLocation: http://elsewhere.invalid/v1/x\r\nContent-Length: 0\r\n\r\n"
            )

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "redirects.sock"))
        listening.listen()
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        with pytest.raises(UnexpectedAnswer):
            read(settings_of(f"unix://{tmp_path}/redirects.sock", "app"))
        thread.join()
    (request,) = answered
    assert b"\r\nHost: localhost\r\n" in request
    assert b"X-Vault-Token" not in request


def test_proxies_of_the_environment_do_not_count(proxy: Proxy, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is about hosts."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    assert read(settings_of(proxy.address, path)) == SECRETS


def test_the_life_of_the_proxys_token_is_unknown(proxy: Proxy, path: str) -> None:
    """To the status page and the metrics."""
    settings = settings_of(proxy.address, path)
    assert read(settings) == SECRETS
    connection = VaultSource(settings).connection()
    assert (connection.address, connection.method) == (proxy.address, "none")
    assert connection.token is not None
    assert (connection.token.ttl, connection.token.left, connection.token.renewable) == (None, None, False)


def test_a_login_over_the_socket_is_ours_to_revoke(proxy: Proxy, path: str) -> None:
    """A token that we obtained through a Proxy which does not force its own."""
    settings = VaultSettings.model_validate({**proxy.vault.app_role(path), "url": proxy.address})
    http = open_http(settings)
    assert vault_client(settings, http).sys.is_initialized()
    http.close()
    assert read(settings) == SECRETS
    with proxy.vault.audited() as calls:
        close_sessions()
    assert "auth/token/revoke-self" in [where for _, where in calls]
