"""Below the write prefix others may keep secrets of their own: `/api-keys` neither replaces nor deletes them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.core.errors import BackendError
from app.core.settings.vault import VaultSettings
from app.core.vault.kv_writer import VaultKVWriter
from app.extras.api_keys.key_records import PREFIX, KeyRecord, digest_of, for_people, marker_of
from app.extras.api_keys.keys import ApiKeys
from app.extras.api_keys.vault_store import INDEX, VaultApiKeyStore
from app.vault import get_session
from tests.declared import create_app
from tests.support import SECRETS, Vault, unique

RECORD = KeyRecord("tls", digest_of(f"{PREFIX}former"), 1, None)
OWNER = {"owner": "network team", "sha256": "ab" * 32, "created_at": "2026-01-01", "expires_at": "never"}


class Prefix:
    """The write prefix of one service, and what others do below it."""

    def __init__(self, vault: Vault) -> None:
        vault.write(path := unique("others"), SECRETS)
        self.prefix = f"{path}/keys"
        self.path = f"{self.prefix}/tls"
        self._kv = vault.client.secrets.kv.v2
        raw = {"enabled": True, "url": vault.url, "token": vault.root_token, "secret_path": path}
        self.settings = raw | {"access_mode": "read_and_write", "write_prefix": self.prefix, "refresh_interval": 0}

    def put(self, values: Mapping[str, Any]) -> None:
        """Write a new version of the secret."""
        self._kv.create_or_update_secret(self.path, dict(values))

    def describe(self, custom: Mapping[str, str], name: str = "tls") -> None:
        """Put custom metadata on a secret."""
        self._kv.update_metadata(f"{self.prefix}/{name}", custom_metadata=dict(custom))

    def delete(self) -> None:
        """Delete the latest version."""
        self._kv.delete_latest_version_of_secret(self.path)

    def destroy(self, *versions: int) -> None:
        """Destroy versions."""
        self._kv.destroy_secret_versions(self.path, list(versions))

    def leave_record(self) -> None:
        """Put a record into the index, as something that broke off may have left it."""
        self.describe({}, f"{INDEX}/{marker_of(RECORD)}")

    def all(self) -> tuple[dict[str, Any], list[Any]]:
        """Return all that there is of the secret: its metadata, and the values of the versions that can be read."""
        metadata: dict[str, Any] = self._kv.read_secret_metadata(self.path)["data"]
        live = [n for n, each in metadata["versions"].items() if not (each["deletion_time"] or each["destroyed"])]
        read = self._kv.read_secret_version
        return metadata, [read(self.path, version=n, raise_on_deleted_version=True)["data"]["data"] for n in live]

    def names(self) -> list[str]:
        """Return what is left, records too."""
        writer = VaultKVWriter(get_session(VaultSettings.model_validate(self.settings)))
        below = writer.list(self.prefix)
        return [name for name in below if name != f"{INDEX}/"] + writer.list(f"{self.prefix}/{INDEX}")


@pytest.fixture
def prefix(vault: Vault) -> Prefix:
    """Return a prefix of this test's own."""
    return Prefix(vault)


@pytest.fixture
def client(prefix: Prefix) -> Iterator[TestClient]:
    """Call a service that may issue keys there."""
    app = create_app(Settings.model_validate({"vault": prefix.settings, "log_format": "json"}))
    with TestClient(app, headers={"X-API-Key": SECRETS["api_key"]}) as client:
        yield client


Doing = Callable[[Prefix], None]


def steps(*doings: Doing) -> Doing:
    """Return what does one thing after the other."""

    def act(prefix: Prefix) -> None:
        for do in doings:
            do(prefix)

    return act


def put(values: Mapping[str, Any]) -> Doing:
    """Return what writes a new version."""
    return lambda prefix: prefix.put(values)


def described(custom: Mapping[str, str]) -> Doing:
    """Return what puts custom metadata on it."""
    return lambda prefix: prefix.describe(custom)


CERTIFICATE = {"certificate": "canary-certificate", "private_key": "canary-private-key"}
FOREIGN: dict[str, Doing] = {
    "some values": steps(put({"certificate": "old"}), put(CERTIFICATE)),
    "a key named key": steps(put({"key": "canary-key"})),
    "one of our keys beside something else": steps(put({"key": f"{PREFIX}canary", "url": "https://shop.example.com"})),
    "a key that is no text": steps(put({"key": {PREFIX: 1}})),
    "no values": steps(put({})),
    "the latest version deleted": steps(put(CERTIFICATE), put(CERTIFICATE), Prefix.delete),
    "the only version destroyed": steps(put(CERTIFICATE), lambda it: it.destroy(1)),
    "all versions deleted or destroyed": steps(
        put(CERTIFICATE), put(CERTIFICATE), Prefix.delete, lambda it: it.destroy(1)
    ),
    "its own custom metadata": steps(put(CERTIFICATE), described(OWNER)),
    "deleted, with its own custom metadata": steps(put(CERTIFICATE), described(OWNER), Prefix.delete),
    "no version, only custom metadata": steps(described(OWNER)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_secret_of_somebody_else_stays_as_it_is(client: TestClient, prefix: Prefix, kind: str) -> None:
    """With all its versions and its metadata; nobody is told to delete it by a request that does not."""
    FOREIGN[kind](prefix)
    before = prefix.all()
    taken = client.post("/api-keys", json={"name": "tls"})
    assert taken.status_code == 409
    assert "Choose another name" in taken.json()["detail"]
    assert "DELETE" not in taken.json()["detail"]
    assert client.post("/api-keys/tls/rotate", json={"grace_period": 0}).status_code == 404
    assert client.delete("/api-keys/tls").status_code == 404
    assert prefix.all() == before
    assert client.get("/api-keys").json()["keys"] == []


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_record_that_was_left_does_not_make_it_ours(client: TestClient, prefix: Prefix, kind: str) -> None:
    """The record goes, the secret stays."""
    FOREIGN[kind](prefix)
    prefix.leave_record()
    before = prefix.all()
    assert client.post("/api-keys/tls/rotate", json={"grace_period": 0}).status_code == 404
    assert client.delete("/api-keys/tls").status_code == 204
    assert client.get("/api-keys").json()["keys"] == []
    assert client.delete("/api-keys/tls").status_code == 404
    assert prefix.all() == before
    assert prefix.names() == ["tls"]


def test_a_key_that_somebody_has_overwritten_is_revoked_only(client: TestClient, prefix: Prefix) -> None:
    """It does not count any more, and what was put in its place is still there, not rotated either."""
    key = client.post("/api-keys", json={"name": "tls"}).json()["key"]
    prefix.put(CERTIFICATE)
    before = prefix.all()
    assert client.post("/api-keys/tls/rotate", json={"grace_period": 0}).status_code == 404
    assert prefix.all() == before
    assert client.delete("/api-keys/tls").status_code == 204
    assert client.post("/caller", headers={"X-API-Key": key}).status_code == 401
    assert prefix.all() == before
    assert before[1][-1] == CERTIFICATE


OURS: dict[str, Doing] = {
    "the key alone": steps(put({"key": f"{PREFIX}canary"})),
    "the key, described": steps(put({"key": f"{PREFIX}canary"}), described(for_people(RECORD))),
    "the description alone": steps(described(for_people(RECORD))),
    "the key deleted": steps(put({"key": f"{PREFIX}canary"}), described(for_people(RECORD)), Prefix.delete),
    "the key destroyed": steps(
        put({"key": f"{PREFIX}canary"}), described(for_people(RECORD)), lambda it: it.destroy(1)
    ),
    "with a note of an operator": steps(
        put({"key": f"{PREFIX}canary", "note": "for the shop"}), described({**for_people(RECORD), "owner": "shop"})
    ),
    "described by an operator": steps(put({"key": f"{PREFIX}canary"}), described({"owner": "shop"})),
}


@pytest.mark.parametrize("with_record", [False, True])
@pytest.mark.parametrize("kind", OURS)
def test_what_an_issue_left_can_be_deleted(client: TestClient, prefix: Prefix, kind: str, *, with_record: bool) -> None:
    """As the next issue says that one should; then the name is free."""
    OURS[kind](prefix)
    if with_record:
        prefix.leave_record()
    taken = client.post("/api-keys", json={"name": "tls"})
    assert (taken.status_code, "DELETE /api-keys/tls" in taken.json()["detail"]) == (409, True)
    assert client.delete("/api-keys/tls").status_code == 204
    assert prefix.names() == []
    assert client.post("/api-keys", json={"name": "tls"}).status_code == 201


class _Overtaken(VaultKVWriter):
    """A writer that lets others act right after it has written a key."""

    act: Callable[[], None]

    def write(self, path: str, data: Mapping[str, Any], cas: int | None = None) -> int | None:
        written = super().write(path, data, cas)
        self.act()
        return written


def test_an_issue_that_is_overtaken_leaves_what_others_put_there(client: TestClient, prefix: Prefix) -> None:
    """Somebody revokes the name in the middle, and somebody else stores a secret under it."""

    def act() -> None:
        assert client.delete("/api-keys/tls").status_code == 204
        prefix.put(CERTIFICATE)

    writer = _Overtaken(get_session(VaultSettings.model_validate(prefix.settings)))
    writer.act = act
    with pytest.raises(BackendError, match="not what was written"):
        ApiKeys(VaultApiKeyStore(lambda: writer, prefix.prefix)).issue("tls")
    assert prefix.all()[1] == [CERTIFICATE]
    assert prefix.names() == ["tls"]
