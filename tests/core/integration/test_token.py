"""The token's life against a real server: renewed, replaced, revoked, and never in anybody's way."""

import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core.errors import (
    BackendError,
    LoginRefused,
    PermissionDenied,
    VaultRateLimited,
    VaultTLSFailed,
    VaultUnreachable,
    WrappingTokenRefused,
)
from app.core.settings.vault import VaultSettings
from app.core.store.source import Connection, TokenLife
from app.core.transport.single_flight import LOGIN_PAUSE
from app.core.vault.session import VaultSession
from app.core.vault.source import vault_source
from app.core.vault.token_life import TokenKeeper
from app.vault import close_sessions, get_session, read_paths
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.pki import Authority
from tests.support import READ_POLICY, SECRETS, Service, Vault, environment, unique, until


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a secret of this test's own."""
    vault.write(path := unique("app"), SECRETS)
    return path


def read(settings: VaultSettings) -> Any:
    """Read the one configured secret."""
    (secret,) = read_paths(settings, settings.secret_path)
    return secret.data


@contextmanager
def kept_alive(session: VaultSession) -> Iterator[None]:
    """Tend the token in a thread, as the service does."""
    keeper, end = TokenKeeper(lambda: session), threading.Event()

    def tend() -> None:
        while not end.wait(min(keeper.tick(), 0.2)):
            pass

    thread = threading.Thread(target=tend)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("role", [{}, {"token_type": "batch"}], ids=["service tokens", "batch tokens"])
def test_reads_never_fail_through_many_max_ttls(vault: Vault, path: str, role: dict[str, Any]) -> None:
    """A max TTL of five seconds, lived through several times by threads that read without pause."""
    ttl = {"token_ttl": "5s"} if role else {"token_ttl": "4s", "token_max_ttl": "5s"}
    settings = VaultSettings.model_validate(vault.app_role(path, **ttl, **role))
    session = get_session(settings)
    seen: set[int] = set()
    end = time.monotonic() + 16

    def read_on(_: int) -> int:
        count = 0
        while time.monotonic() < end:
            assert read(settings) == SECRETS
            seen.add(id(session.current()))
            count += 1
        return count

    with kept_alive(session), vault.audited() as calls, ThreadPoolExecutor(4) as pool:
        reads = sum(pool.map(read_on, range(4)))
    made = [where for _, where in calls]
    assert made.count("auth/token/lookup-self") == 0, "no read ever met a dead token"
    assert made.count(f"secret/data/{path}") == reads
    assert 4 <= made.count("auth/approle/login") <= 7
    assert bool(role) != ("auth/token/renew-self" in made)


def test_sixteen_threads_see_no_error_through_a_hundred_logins(vault: Vault, path: str) -> None:
    """New token first; the old one is revoked after its last reader is done."""
    settings = VaultSettings.model_validate(vault.app_role(path))
    session = get_session(settings)
    done = threading.Event()

    def read_on(_: int) -> int:
        count = 0
        while not done.is_set():
            assert read(settings) == SECRETS
            count += 1
        return count

    with vault.audited() as calls, ThreadPoolExecutor(16) as pool:
        readers = pool.map(read_on, range(16))
        until(session.current, "the first login")
        for _ in range(100):
            login = session.current()
            assert login is not None
            session.replace(login)
        done.set()
        reads = sum(readers)
        close_sessions()
    made = [where for _, where in calls]
    assert made.count("auth/approle/login") == 101
    assert made.count("auth/token/revoke-self") == 101
    assert made.count(f"secret/data/{path}") == reads
    assert made.count("auth/token/lookup-self") == 0


def test_a_token_with_few_uses_is_replaced_before_they_run_out(vault: Vault, path: str) -> None:
    """Four uses: three reads and the revocation."""
    settings = VaultSettings.model_validate(vault.app_role(path, token_num_uses=4))
    with vault.audited() as calls:
        for _ in range(9):
            assert read(settings) == SECRETS
        close_sessions()
    made = [where for _, where in calls]
    assert made.count(f"secret/data/{path}") == 9
    assert made.count("auth/approle/login") == 3
    assert made.count("auth/token/revoke-self") == 3


def test_a_token_that_may_not_even_look_itself_up_causes_no_login_storm(vault: Vault, path: str) -> None:
    """It cannot be told from a dead one: one new login a pause finds out, for all."""
    policy = f'path "secret/data/{path}" {{ capabilities = ["read"] }}'
    settings = VaultSettings.model_validate(vault.app_role(path, policy=policy.replace("{", "{{").replace("}", "}}")))
    proxy = FaultyProxy(vault.url)  # counts what comes from here, and from nobody else
    with proxy.running() as url:
        settings = settings.model_copy(update={"url": url})
        assert read(settings) == SECRETS
        forbidden = settings.model_copy(update={"secret_path": ("other",)})
        session = get_session(forbidden)
        assert session is not get_session(settings)
        now = time.monotonic()
        session.clock = lambda: now
        for _ in range(2):
            for _ in range(50):
                with pytest.raises(PermissionDenied):
                    read(forbidden)
            now += LOGIN_PAUSE
        close_sessions()
    assert [where for _, where in proxy.requests].count(
        "/v1/auth/approle/login"
    ) == 1 + 1 + 2  # each one's first, and one a pause


def test_a_single_use_secret_id_is_enough_for_the_first_login(vault: Vault, path: str) -> None:
    """And a later login says that it is used up."""
    settings = VaultSettings.model_validate(vault.app_role(path, secret_id_num_uses=1))
    session = get_session(settings)
    assert read(settings) == SECRETS
    login = session.current()
    assert login is not None
    with pytest.raises(LoginRefused, match="used up"):
        session.replace(login)
    assert read(settings) == SECRETS, "the token is still good"


def wrapped(vault: Vault, path: str, tmp_path: Path, ttl: str = "60s") -> tuple[dict[str, Any], str]:
    """Return settings with a wrapped secret id in a file, and the role's path."""
    settings = vault.app_role(path)
    secret_id = settings.pop("secret_id")
    role = vault.client.auth.approle.list_roles()["data"]["keys"]
    (name,) = [
        each for each in role if vault.client.auth.approle.read_role_id(each)["data"]["role_id"] == settings["role_id"]
    ]
    assert secret_id
    where = f"auth/approle/role/{name}/secret-id"
    file = tmp_path / "wrapped"
    file.write_text(wrap(vault, where, ttl))
    return {**settings, "secret_id_file": file, "secret_id_wrapped": True}, where


def wrap(vault: Vault, where: str, ttl: str = "60s") -> str:
    """Make a wrapping token with the answer to a write."""
    answer = vault.client.adapter.post(f"/v1/{where}", json={}, wrap_ttl=ttl)
    token: str = answer["wrap_info"]["token"]
    return token


def test_a_wrapped_secret_id_is_unwrapped_once_and_serves_many_logins(vault: Vault, path: str, tmp_path: Path) -> None:
    """Also after whoever delivered it has removed the file; a new wrapping token is unwrapped in its turn."""
    raw, where = wrapped(vault, path, tmp_path)
    settings = VaultSettings.model_validate(raw)
    session = get_session(settings)

    def log_in_again() -> None:
        login = session.current()
        assert login is not None
        session.replace(login)
        assert read(settings) == SECRETS

    with vault.audited() as calls:
        assert read(settings) == SECRETS
        log_in_again()
        raw["secret_id_file"].unlink()
        log_in_again()
    made = [called for _, called in calls]
    assert made.count("sys/wrapping/lookup") == made.count("sys/wrapping/unwrap") == 1
    assert made.count("auth/approle/login") == 3
    raw["secret_id_file"].write_text(wrap(vault, where))
    with vault.audited() as calls:
        log_in_again()
    assert [called for _, called in calls].count("sys/wrapping/unwrap") == 1


def test_a_wrapping_token_that_was_used_raises_the_alarm_and_is_not_tried_again(
    vault: Vault, path: str, tmp_path: Path
) -> None:
    """Somebody else may have read the secret id."""
    raw, _ = wrapped(vault, path, tmp_path)
    vault.client.sys.unwrap(raw["secret_id_file"].read_text())
    session = get_session(VaultSettings.model_validate(raw))
    with vault.audited() as calls:
        for pause in (0, 10, 20):
            session.clock = lambda pause=pause: time.monotonic() + pause  # type: ignore[misc]
            with pytest.raises(WrappingTokenRefused, match="Somebody else may have read"):
                session.client()
    assert len(calls) == 1


def test_a_wrapping_token_of_another_origin_is_refused_before_it_is_used(
    vault: Vault, path: str, tmp_path: Path
) -> None:
    """It may have been put there by somebody who took the real one."""
    raw, _ = wrapped(vault, path, tmp_path)
    vault.write("elsewhere", {"secret_id": "canary"})
    answer = vault.client.adapter.get("/v1/secret/data/elsewhere", wrap_ttl="60s")
    raw["secret_id_file"].write_text(answer["wrap_info"]["token"])
    with vault.audited() as calls, pytest.raises(WrappingTokenRefused, match="not made by auth/approle/role") as caught:
        get_session(VaultSettings.model_validate(raw)).client()
    assert [where for _, where in calls] == ["sys/wrapping/lookup"]
    assert "canary" not in str(caught.value)


def test_an_outage_does_not_use_a_wrapping_token_up(vault: Vault, path: str, tmp_path: Path) -> None:
    """The next try succeeds."""
    raw, _ = wrapped(vault, path, tmp_path)
    proxy = FaultyProxy(vault.url, lambda *_: Fault(reset=True))
    with proxy.running() as url:
        settings = VaultSettings.model_validate({**raw, "url": url})
        with pytest.raises(VaultUnreachable):
            read(settings)
        proxy.fault = lambda *_: None
        assert read(settings) == SECRETS


class Sequence:
    """Faults for the first requests to a path; then none."""

    def __init__(self, *faults: Fault, where: str = "/v1/secret/") -> None:
        self.left, self.where = list(faults), where

    def __call__(self, _method: str, path: str) -> Fault | None:
        """Return the next fault."""
        return self.left.pop(0) if path.startswith(self.where) and self.left else None


@pytest.mark.parametrize("status", [412, 429, 472, 473, 500, 502, 503])
def test_a_passing_fault_is_repeated_by_itself(vault: Vault, path: str, status: int) -> None:
    """A replica that lags, a standby, a quota, a leader election: a read is repeated a few times."""
    proxy = FaultyProxy(vault.url, Sequence(Fault(status=status), Fault(status, (("Retry-After", "1"),))))
    with proxy.running() as url:
        assert read(VaultSettings.model_validate({**vault.app_role(path), "url": url})) == SECRETS
    assert len([where for _, where in proxy.requests if where.startswith("/v1/secret/")]) == 3


def test_a_connection_that_breaks_is_replaced(vault: Vault, path: str) -> None:
    """One reset is repeated."""
    proxy = FaultyProxy(vault.url, Sequence(Fault(reset=True)))
    with proxy.running() as url:
        assert read(VaultSettings.model_validate({**vault.app_role(path), "url": url})) == SECRETS


def test_a_fault_that_stays_ends_in_an_error_after_a_few_tries(vault: Vault, path: str) -> None:
    """Bounded."""
    proxy = FaultyProxy(vault.url, lambda _method, where: Fault(429) if where.startswith("/v1/secret/") else None)
    with proxy.running() as url, pytest.raises(VaultRateLimited):
        read(VaultSettings.model_validate({**vault.app_role(path), "url": url}))
    assert len([where for _, where in proxy.requests if where.startswith("/v1/secret/")]) == 4


@pytest.mark.parametrize("fault", [Fault(503), Fault(500), Fault(429)], ids=str)
def test_a_login_is_not_repeated_by_itself(vault: Vault, path: str, fault: Fault) -> None:
    """It may use a secret id up."""
    proxy = FaultyProxy(vault.url, lambda *_: fault)
    with proxy.running() as url, pytest.raises(BackendError):
        read(VaultSettings.model_validate({**vault.app_role(path), "url": url}))
    assert proxy.requests == [("POST", "/v1/auth/approle/login")]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_logins_that_fail_do_not_become_a_storm(vault: Vault, path: str, status: int) -> None:
    """Sixteen threads that want to read, again and again, while Vault is overloaded: a few logins, not thousands."""
    proxy = FaultyProxy(vault.url, lambda *_: Fault(status))
    end = time.monotonic() + 2
    with proxy.running() as url, ThreadPoolExecutor(16) as pool:
        settings = VaultSettings.model_validate({**vault.app_role(path), "url": url})

        def fail(_: int) -> None:
            while time.monotonic() < end:
                with pytest.raises(BackendError):
                    read(settings)

        list(pool.map(fail, range(16)))
    assert 1 <= len(proxy.requests) <= 3


def test_a_token_is_never_sent_in_the_clear_after_a_redirect(vault: Vault, path: str, tmp_path: Path) -> None:
    """A redirect from https to http is refused, and so is the login."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("vault")
    plain, secure = FaultyProxy(vault.url), FaultyProxy(vault.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    with plain.running(), secure.running():
        secure.fault = lambda _method, where: Fault(307, (("Location", plain.url + where),))
        url = secure.url.replace("http:", "https:")
        settings = VaultSettings.model_validate({**vault.app_role(path), "url": url, "cacert": authority.file})
        with pytest.raises(VaultTLSFailed, match="redirected from https to http"):
            read(settings)
    assert plain.requests == []
    assert secure.requests


def test_a_reader_under_way_at_shutdown_leaves_no_token_behind(vault: Vault, path: str) -> None:
    """Its token, replaced meanwhile, is revoked when it is done."""
    proxy = FaultyProxy(vault.url)
    with proxy.running() as url, ThreadPoolExecutor(1) as pool:
        settings = VaultSettings.model_validate({**vault.app_role(path), "url": url})
        session = get_session(settings)
        assert read(settings) == SECRETS
        first = session.current()
        assert first is not None
        proxy.fault = lambda _method, where: Fault(delay=0.5) if where.startswith("/v1/secret/") else None
        reading = pool.submit(read, settings)
        until(lambda: first.users, "the read to start")
        session.replace(first)
        close_sessions()
        assert reading.result() == SECRETS
        assert proxy.requests.count(("POST", "/v1/auth/token/revoke-self")) == 2


def test_a_body_that_is_cut_is_an_outage_not_a_value(vault: Vault, path: str) -> None:
    """Half an answer is no answer."""
    proxy = FaultyProxy(vault.url, lambda _method, where: Fault(cut=True) if where.startswith("/v1/secret/") else None)
    with proxy.running() as url, pytest.raises(VaultUnreachable):
        read(VaultSettings.model_validate({**vault.app_role(path), "url": url}))


def test_a_standby_that_redirects_is_followed(vault: Vault, path: str) -> None:
    """For reads and for logins, with the token."""
    proxy = FaultyProxy(vault.url)
    proxy.fault = lambda _method, where: Fault(307, (("Location", vault.url + where),))
    with proxy.running() as url:
        assert read(VaultSettings.model_validate({**vault.app_role(path), "url": url})) == SECRETS


def test_a_dead_vault_does_not_delay_the_shutdown(vault: Vault, path: str, tmp_path: Path) -> None:
    """The revocation waits for at most `VAULT_TIMEOUT`."""
    proxy = FaultyProxy(vault.url)
    with proxy.running() as url:
        settings = {**vault.app_role(path), "url": url, "timeout": "2"}
        with Service(tmp_path, environment(settings)) as service:
            assert service.get("/health/ready").status_code == 200
            proxy.fault = lambda *_: Fault(hang=True)
            start = time.monotonic()
            service.stop()
            assert time.monotonic() - start < 2 + 4, "the rest is the interpreter's own end on a busy machine"
        assert proxy.requests[-1] == ("POST", "/v1/auth/token/revoke-self")


def test_a_thread_never_waits_longer_than_the_time_out_for_somebody_elses_login(vault: Vault, path: str) -> None:
    """All wait for the same login, and all are told at the same time that it failed."""
    proxy = FaultyProxy(vault.url, lambda *_: Fault(hang=True))
    with proxy.running() as url, ThreadPoolExecutor(32) as pool:
        settings = VaultSettings.model_validate({**vault.app_role(path), "url": url, "timeout": 0.5})

        def fail(_: int) -> float:
            start = time.monotonic()
            with pytest.raises(VaultUnreachable, match="VAULT_TIMEOUT"):
                read(settings)
            return time.monotonic() - start

        assert max(pool.map(fail, range(32))) < 2 * 0.5 + 1
    assert len(proxy.requests) <= 2, "one login for all, and at most one more for a straggler"


@pytest.mark.slow
def test_a_token_in_use_elsewhere_outlives_us(vault: Vault, path: str) -> None:
    """The upkeep of a token that was handed in renews it; shutting down does not revoke it."""
    policy = unique("policy")
    vault.client.sys.create_or_update_policy(policy, READ_POLICY.format(path=path))
    created = vault.client.auth.token.create(policies=[policy], no_default_policy=True, ttl="4s", period="4s")
    token = created["auth"]["client_token"]
    settings = VaultSettings.model_validate({"enabled": True, "url": vault.url, "token": token, "secret_path": path})
    session = get_session(settings)
    assert read(settings) == SECRETS
    with kept_alive(session):
        deadline = time.monotonic() + 9
        while time.monotonic() < deadline:
            assert read(settings) == SECRETS
    close_sessions()
    assert vault.client.auth.token.lookup(token)["data"]["ttl"] > 0


def test_people_can_see_how_the_token_lives(vault: Vault, path: str) -> None:
    """Before the login, with an end, without one, and after Vault has rejected it."""
    settings = Settings.model_validate({"vault": vault.app_role(path)})
    assert vault_source(settings).connection() == Connection(vault.url, "approle")
    read(settings.vault)
    life = vault_source(settings).connection().token
    assert life is not None
    assert (life.ttl, life.renewable) == (1200.0, True)
    assert 1190 < (life.left or 0) <= 1200

    root = Settings.model_validate({"vault": {"enabled": True, "url": vault.url, "token": vault.root_token}})
    session = get_session(root.vault)
    session.client()
    assert vault_source(root).connection().token == TokenLife(None, None)
    login = session.current()
    assert login is not None
    session.learn(login)
    assert vault_source(root).connection().token == TokenLife(0.0, None)
    login.dead = True
    assert vault_source(root).connection().token == TokenLife(0.0, 0.0)
