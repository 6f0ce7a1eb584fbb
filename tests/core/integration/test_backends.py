"""What every backend must do, whatever holds the secrets: one suite for all."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core.errors import (
    AccessRefused,
    BackendError,
    LoginRefused,
    PathMissing,
    PermissionDenied,
    VaultUnreachable,
)
from tests.core.integration.backends import Backend, vault_backend
from tests.extras.conjur.backend import conjur_backend  # extra: conjur
from tests.support import free_port

AWKWARD = ["plain", "two words", "grüße ☃", "a+b", "100%2F", "comma,separated", 'a"quote', "semi;colon", "a:b@c"]


@pytest.fixture
def backend(request: pytest.FixtureRequest, backend_server: str) -> Backend:
    """Return each backend in turn, on the servers that its own tests run against."""
    name, _, runtime = backend_server.partition(", ")
    server = request.getfixturevalue(f"{name}_servers")(runtime)
    # extra: conjur
    if name == "conjur":
        return conjur_backend(server)
    # /extra
    return vault_backend(server)


def refused_before_it_is_sent(backend: Backend, path: str) -> None:
    """Make sure that neither reading nor writing lets a path through; nobody listens where it would be sent."""
    deaf = backend.with_settings(url=f"http://127.0.0.1:{free_port()}")
    for act in (lambda: deaf.read(path), lambda: deaf.write(path, "x"), lambda: deaf.writer.delete(path)):
        with pytest.raises(ValueError, match=r"must not|is empty"):
            act()


@pytest.mark.parametrize("value", ["x", "grüße ☃", " padded ", "line\nbreaks\n", '{"not": "decoded"}', "a\x00b", "1"])
def test_what_is_written_is_read_exactly(backend: Backend, value: str) -> None:
    """A string comes back as that string."""
    backend.write(path := backend.path(), value)
    assert backend.read(path) == value


@pytest.mark.parametrize("name", AWKWARD)
def test_names_may_be_awkward(backend: Backend, name: str) -> None:
    """What stands in a path is percent-encoded once, and quoted where it becomes policy."""
    path = f"{backend.path()}/{name}"
    backend.write(path, name)
    assert backend.read(path) == name


@pytest.mark.parametrize("path", ["", "..", "a/../b", "a/.", "a\nb", "a\x00b", "a\x7fb"])
def test_a_path_that_leads_elsewhere_is_never_sent(backend: Backend, path: str) -> None:
    """Whatever the server would make of it."""
    refused_before_it_is_sent(backend, path)


def test_a_large_value_is_no_problem(backend: Backend) -> None:
    """Nearly a megabyte: a server may refuse more than that."""
    value = "grün " * 150_000
    backend.write(path := backend.path(), value)
    assert backend.read(path) == value


def test_a_former_version_can_be_read(backend: Backend) -> None:
    """By its number; without, it is the latest."""
    path = backend.path()
    for value in ("one", "two", "three"):
        backend.write(path, value)
    assert [backend.read(path, version) for version in (1, 2, 3, None)] == ["one", "two", "three", "three"]
    with pytest.raises(PathMissing):
        backend.read(path, 4)


def test_a_missing_secret_is_named(backend: Backend) -> None:
    """With the path and a remedy."""
    with pytest.raises(PathMissing) as caught:
        backend.read(path := backend.path())
    assert path in caught.value.subject
    assert caught.value.remedy


def test_a_secret_that_may_not_be_read_is_told_from_a_missing_one(backend: Backend) -> None:
    """With what the policy lacks, and without the value."""
    with pytest.raises(PermissionDenied) as caught:
        backend.read(path := backend.denied())
    assert path in str(caught.value)
    assert "policy" in caught.value.remedy
    assert "canary" not in str(caught.value)


def test_what_is_deleted_is_gone_and_can_be_written_again(backend: Backend) -> None:
    """With all of its versions, or only the latest: that differs."""
    backend.write(path := backend.path(), "one")
    backend.writer.delete(path)
    with pytest.raises(PathMissing):
        backend.read(path)
    backend.write(path, "two")
    assert backend.read(path) == "two"


@pytest.mark.parametrize("mode", ["read_only", "write_only"])
def test_what_the_access_mode_forbids_is_not_sent(backend: Backend, mode: str) -> None:
    """Nobody listens where it would be sent."""
    deaf = backend.with_settings(url=f"http://127.0.0.1:{free_port()}", access_mode=mode)
    path = backend.path()
    writing: list[Callable[[], object]] = [lambda: deaf.write(path, "x"), lambda: deaf.writer.delete(path)]
    for forbidden in writing if mode == "read_only" else [lambda: deaf.read(path)]:
        with pytest.raises(AccessRefused, match="VAULT_ACCESS_MODE"):
            forbidden()


def test_a_server_that_is_not_there_is_named(backend: Backend) -> None:
    """With the variable that holds its address."""
    deaf = backend.with_settings(url=f"http://127.0.0.1:{free_port()}", timeout=1)
    with pytest.raises(VaultUnreachable, match=backend.address) as caught:
        deaf.read(backend.path())
    assert "127.0.0.1" in caught.value.subject


def test_wrong_credentials_are_refused_once_for_everybody(backend: Backend) -> None:
    """The second caller is told the same at once."""
    wrong = backend.with_settings(password="canary-wrong")
    messages = set()
    for _ in range(2):
        with pytest.raises(LoginRefused) as caught:
            wrong.read(backend.path())
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert "canary" not in messages.pop()


def test_sixteen_threads_share_one_login(backend: Backend) -> None:
    """Whoever comes first."""
    backend.write(path := backend.path(), "x")
    fresh = backend.with_settings(timeout=29)  # other settings: another session
    with ThreadPoolExecutor(16) as pool:
        logins = set(pool.map(lambda _: (fresh.read(path), id(fresh.session.current())), range(64)))
    assert len(logins) == 1


def test_a_token_that_the_server_does_not_accept_is_replaced_unseen(backend: Backend) -> None:
    """The read that meets it succeeds, and so does a write."""
    backend.write(path := backend.path(), "one")
    for act in (lambda: backend.read(path), lambda: backend.write(path, "two")):
        before = backend.session.current()
        backend.break_token()
        act()
        assert backend.session.current() is not before
    assert backend.read(path) == "two"


def test_a_closed_session_says_so(backend: Backend) -> None:
    """Instead of logging in again."""
    backend.write(path := backend.path(), "x")
    backend.session.close()
    with pytest.raises(BackendError, match="the session is closed"):
        backend.read(path)


def test_no_value_is_shown(backend: Backend) -> None:
    """Neither by what was read nor by the session that holds the token."""
    backend.write(path := backend.path(), "canary")
    secret = backend.writer.read(path)
    assert "canary" not in repr(secret)
    login = backend.session.current()
    assert login is not None
    token = login.token if hasattr(login, "token") else login.auth.client_token
    assert token not in repr(login) + repr(backend.session)
