"""A write that fails says what has become of it: nothing was done, or nobody knows."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.core.errors import BackendError, LostRace, ServerFault, VaultUnreachable
from app.core.settings.vault import VaultSettings
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.session import VaultSession
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.support import Vault, free_port, unique


@contextmanager
def writing(vault: Vault, url: str) -> Iterator[VaultKVWriter]:
    """Write with the root token."""
    raw = {"enabled": True, "url": url, "token": vault.root_token, "access_mode": "read_and_write", "timeout": 2}
    session = VaultSession(VaultSettings.model_validate(raw))
    try:
        yield VaultKVWriter(session)
    finally:
        session.close()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(unanswered=True), VaultUnreachable),
        (Fault(reset=True), VaultUnreachable),
        (Fault(hang=True), VaultUnreachable),
        (Fault(500), BackendError),
        (Fault(502, body=b"<html>"), ServerFault),
    ],
)
def test_what_was_sent_and_not_answered_is_not_known(vault: Vault, fault: Fault, kind: type[Exception]) -> None:
    """And is sent once only; repeated with check-and-set, it is written once."""
    path = unique("written")
    proxy = FaultyProxy(vault.url, lambda method, _path: fault if method == "POST" else None)
    with proxy.running() as url, writing(vault, url) as kv:
        with pytest.raises(kind, match=f"whether it was written is not known .*{path}.* with the same cas") as caught:
            kv.write(path, {"n": 1}, cas=0)
        assert isinstance(caught.value, BackendError)
        assert caught.value.may_be_done
        assert [method for method, _ in proxy.requests].count("POST") == 1
        proxy.fault = lambda _method, _path: None
        if fault.unanswered:
            with pytest.raises(LostRace, match="1 is"):
                kv.write(path, {"n": 1}, cas=0)
        else:
            assert kv.write(path, {"n": 1}, cas=0) == 1
        held = kv.read(path)
        assert (held.data, held.version) == ({"n": 1}, 1)


def test_without_a_connection_nothing_was_sent(vault: Vault) -> None:
    """Which the error says."""
    with writing(vault, f"http://127.0.0.1:{free_port()}") as kv:
        with pytest.raises(VaultUnreachable, match="nothing was sent") as caught:
            kv.write(unique("written"), {"n": 1})
        assert not caught.value.may_be_done


@pytest.mark.parametrize("status", [412, 429, 472, 473])
def test_a_refusal_means_that_nothing_was_done(vault: Vault, status: int) -> None:
    """Whoever refuses has not done it."""
    proxy = FaultyProxy(vault.url, lambda method, _path: Fault(status) if method == "POST" else None)
    with proxy.running() as url, writing(vault, url) as kv, pytest.raises(BackendError) as caught:
        kv.write(unique("written"), {"n": 1})
    assert not caught.value.may_be_done
