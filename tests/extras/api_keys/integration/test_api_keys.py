"""API keys on a real server: issued, rotated, revoked, known to every replica, and never half done."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.config import Settings
from app.core.errors import BackendError, LostRace, PermissionDenied
from app.core.settings.vault import VaultSettings
from app.core.vault.kv_writer import VaultKVWriter
from app.extras.api_keys.errors import ApiKeyExists, ApiKeyMissing
from app.extras.api_keys.key_records import PREFIX, KeyRecord, digest_of, marker_of
from app.extras.api_keys.keys import ApiKeys
from app.extras.api_keys.vault_store import INDEX, VaultApiKeyStore
from app.vault import close_sessions, get_session
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.declared import create_app
from tests.support import READ_POLICY, SECRETS, Vault, unique, until

ADMIN = {"X-API-Key": SECRETS["api_key"]}
Call = Callable[..., Any]


def settings_for(vault: Vault, path: str, **more: Any) -> dict[str, Any]:
    """Return settings that allow API keys below `path`, with the root token."""
    raw = {"enabled": True, "url": vault.url, "token": vault.root_token, "secret_path": path}
    return {**raw, "access_mode": "read_and_write", "write_prefix": f"{path}/keys", "refresh_interval": 0, **more}


def service(settings: dict[str, Any]) -> FastAPI:
    """Return one replica."""
    return create_app(Settings.model_validate({"vault": settings, "log_format": "json"}))


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a complete secret of this test's own."""
    vault.write(path := unique("keys"), SECRETS)
    return path


@pytest.fixture
def client(vault: Vault, path: str) -> Iterator[TestClient]:
    """Call a service that may issue keys."""
    with TestClient(service(settings_for(vault, path)), headers=ADMIN) as client:
        yield client


def issue(client: TestClient, name: str, **more: Any) -> str:
    """Issue a key."""
    answer = client.post("/api-keys", json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    return key


def accepted(client: TestClient, key: str) -> bool:
    """Tell whether a key lets its holder in."""
    return client.post("/caller", headers={"X-API-Key": key}).status_code == 200


def test_an_issued_key_lets_its_holder_in_by_name(client: TestClient) -> None:
    """At once; and it is nothing but a key: it administers nothing."""
    answer = client.post("/api-keys", json={"name": "alice", "expires_in": 3600})
    assert answer.status_code == 201
    assert (answer.headers["location"], answer.headers["cache-control"]) == ("/api-keys/alice", "no-store")
    key = answer.json()["key"]
    assert client.post("/caller", headers={"X-API-Key": key}).json() == "api-key/alice"
    for method, url in (("GET", "/api-keys"), ("DELETE", "/api-keys/alice"), ("POST", "/api-keys/alice/rotate")):
        assert client.request(method, url, headers={"X-API-Key": key}).status_code == 401
    assert client.post("/api-keys", json={"name": "x"}, headers={"X-API-Key": key}).status_code == 401


def test_the_key_is_stored_where_others_can_fetch_it(client: TestClient, vault: Vault, path: str) -> None:
    """In the one form that they read; what we know of it is metadata."""
    key = issue(client, "alice", expires_in=3600)
    stored = vault.client.secrets.kv.v2.read_secret_version(f"{path}/keys/alice", raise_on_deleted_version=True)
    assert stored["data"]["data"] == {"key": key}
    custom = stored["data"]["metadata"]["custom_metadata"]
    assert custom["sha256"] == digest_of(key).hex()
    assert set(custom) == {"created_at", "expires_at", "sha256"}


def test_the_list_shows_what_may_be_known(client: TestClient) -> None:
    """By name, in pages, and never a key."""
    keys = {name: issue(client, name) for name in ("bob", "alice", "carol")}
    listed = client.get("/api-keys").json()
    assert [each["name"] for each in listed["keys"]] == ["alice", "bob", "carol"]
    assert listed["next"] is None
    for each in listed["keys"]:
        assert each["hash_ends_with"] == digest_of(keys[each["name"]]).hex()[-4:]
        assert set(each) == {"name", "created_at", "expires_at", "hash_ends_with"}
    page = client.get("/api-keys", params={"limit": 2}).json()
    assert ([each["name"] for each in page["keys"]], page["next"]) == (["alice", "bob"], "bob")
    rest = client.get("/api-keys", params={"limit": 2, "after": page["next"]}).json()
    assert ([each["name"] for each in rest["keys"]], rest["next"]) == (["carol"], None)


def test_a_name_is_taken_until_its_key_is_revoked(client: TestClient, vault: Vault, path: str) -> None:
    """A revoked key is refused here at once, and nothing of it is left in Vault."""
    key = issue(client, "alice")
    refused = client.post("/api-keys", json={"name": "alice"})
    assert refused.status_code == 409
    assert "DELETE /api-keys/alice" in refused.json()["detail"]
    assert client.delete("/api-keys/alice").status_code == 204
    assert not accepted(client, key)
    assert remains(vault, path) == []
    assert client.delete("/api-keys/alice").status_code == 404
    assert client.post("/api-keys/alice/rotate", json={"grace_period": 0}).status_code == 404
    assert accepted(client, issue(client, "alice"))


def remains(vault: Vault, path: str) -> list[str]:
    """Return what is stored below the write prefix."""
    writer = VaultKVWriter(get_session(VaultSettings.model_validate(settings_for(vault, path))))
    return [
        *(name for name in writer.list(f"{path}/keys") if name != f"{INDEX}/"),
        *writer.list(f"{path}/keys/{INDEX}"),
    ]


def test_a_rotation_leaves_the_old_key_its_grace(vault: Vault, path: str) -> None:
    """After a second one no old key has more than the second grace; the new key lives as long as the old one had to."""
    now = time.time()
    keys = api_keys(settings_for(vault, path), lambda: now)
    first, first_key = keys.issue("alice", expires_in=1000)
    now += 100
    second, second_key = keys.rotate("alice", grace_period=60)
    now += 10
    _, third_key = keys.rotate("alice", grace_period=20, expires_in=500)
    assert second.until == second.created + 1_000_000
    for key, last in ((first_key, 20), (second_key, 20), (third_key, 500)):
        assert keys.index.find(key, now + last - 0.01) is not None, last
        assert keys.index.find(key, now + last + 0.01) is None, last
    fresh = api_keys(settings_for(vault, path), lambda: now)  # another replica learns the same from Vault
    fresh.refresh()
    assert fresh.index.of("alice") == keys.index.of("alice")
    now += 10_000
    _, fourth_key = keys.rotate("alice", grace_period=60)  # what has ended does not come back
    assert [keys.find(key) for key in (first_key, second_key, third_key)] == [None] * 3
    assert keys.find(fourth_key) is not None
    assert first.name == "alice"
    assert len([name for name in remains(vault, path) if name.startswith("alice~")]) == 1


def test_without_grace_the_old_key_ends_at_once(client: TestClient) -> None:
    """The caller chooses; there is no default to be surprised by."""
    old = issue(client, "alice")
    assert client.post("/api-keys/alice/rotate", json={}).status_code == 422
    new = client.post("/api-keys/alice/rotate", json={"grace_period": 0}).json()["key"]
    assert (accepted(client, old), accepted(client, new)) == (False, True)


def test_an_expired_key_is_refused(vault: Vault, path: str) -> None:
    """It stays in the list until it is revoked."""
    now = time.time()
    keys = api_keys(settings_for(vault, path), lambda: now)
    _, key = keys.issue("alice", expires_in=10)
    assert keys.find(key) is not None
    now += 10.1
    assert keys.find(key) is None
    assert [each.name for each in keys.index.present()] == ["alice"]


def api_keys(settings: dict[str, Any], clock: Callable[[], float] = time.time) -> ApiKeys:
    """Return the keys of one replica, with a clock of its own."""
    own = VaultSettings.model_validate(settings)
    return ApiKeys(VaultApiKeyStore(lambda: VaultKVWriter(get_session(own)), own.write_prefix), clock)


@pytest.mark.parametrize("operation", ["issue", "rotate"])
def test_the_same_request_again_makes_no_second_key(client: TestClient, vault: Vault, operation: str) -> None:
    """It brings the same answer; the same Idempotency-Key with another request is refused."""
    url, body, other = "/api-keys", {"name": "alice", "expires_in": 60}, {"name": "bob", "expires_in": 60}
    if operation == "rotate":
        issue(client, "alice")
        url, body = "/api-keys/alice/rotate", {"grace_period": 0, "expires_in": 60}
        other = {"grace_period": 1, "expires_in": 60}
    once = {"Idempotency-Key": unique("once")}
    first, again = (client.post(url, json=body, headers=once) for _ in range(2))
    assert first.is_success
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert client.post(url, json=other, headers=once).status_code == 422
    replica = TestClient(service(settings_for(vault, path_of(client))), headers={**ADMIN, **once})
    with replica:
        assert replica.post(url, json=body).json() == first.json()
    both = {**once, "X-API-Key": SECRETS["api_key"]}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post(url, json=body, headers=both).json(), range(8)))
    assert answers == [first.json()] * 8
    client.post("/api-keys/alice/rotate", json={"grace_period": 60})
    assert client.post(url, json=body, headers=once).status_code == 409  # it cannot be shown any more
    assert len(client.get("/api-keys").json()["keys"]) == 1


def path_of(client: TestClient) -> str:
    """Return the secret path of a client's service."""
    app = client.app
    assert isinstance(app, FastAPI)
    path: str = app.state.settings.vault.secret_path[0]
    return path


def test_of_many_that_want_one_name_one_gets_it(vault: Vault, path: str) -> None:
    """Over several replicas; the key that was answered is the one that is stored and counts."""
    replicas = [api_keys(settings_for(vault, path)) for _ in range(8)]

    def attempt(keys: ApiKeys) -> str | None:
        try:
            return keys.issue("alice")[1]
        except ApiKeyExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [key for key in pool.map(attempt, replicas) if key]
    assert len(made) == 1
    fresh = api_keys(settings_for(vault, path))
    fresh.refresh()
    assert fresh.find(made[0]) is not None
    assert len(remains(vault, path)) == 2  # the key and its record


def test_every_replica_learns_within_one_interval(vault: Vault, path: str) -> None:
    """Of a new key and of a revocation, without being asked; with one request for all keys."""
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(TestClient(service(settings_for(vault, path, refresh_interval=1)), headers=ADMIN))
            for _ in range(2)
        )
        key = issue(one, "alice")
        started = time.monotonic()
        until(lambda: accepted(two, key), "the other replica to honour the key")
        assert one.delete("/api-keys/alice").status_code == 204
        assert not accepted(one, key)
        until(lambda: not accepted(two, key), "the other replica to refuse the key")
        assert time.monotonic() - started < 2 * 1 + 2  # two intervals, and the noise of a busy machine


POLICY = (
    READ_POLICY
    + """
path "secret/data/{path}/keys/*" {{ capabilities = ["create", "read", "update"] }}
path "secret/metadata/{path}/keys/*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
"""
)


@contextmanager
def behind(vault: Vault, path: str, fault: Callable[[str, str], Fault | None]) -> Iterator[ApiKeys]:
    """Yield keys that reach Vault through a proxy with a fault."""
    proxy = FaultyProxy(vault.url, fault)
    with proxy.running() as url:
        yield api_keys({**settings_for(vault, path), "url": url, "timeout": 3})
        close_sessions()


STEPS = {
    "writing the key": ("POST", "/data/"),
    "describing it": ("POST", "keys/alice"),
    "verifying it": ("GET", "/data/"),
    "letting it count": ("POST", INDEX),
}


@pytest.mark.parametrize("how", ["refused", "broken off", "done but not answered"])
@pytest.mark.parametrize("step", STEPS)
def test_an_issue_that_fails_leaves_nothing(vault: Vault, path: str, step: str, how: str) -> None:
    """Whichever step it is, and however it fails; afterwards the same name can be issued."""
    method, part = STEPS[step]
    broken: list[str] = []
    fixed: list[bool] = []

    def fault(sent: str, url: str) -> Fault | None:
        hit = sent == method and part in url and ("/data/" in url) == ("/data/" in part)
        if not hit or fixed or (broken and method != "GET"):
            return None  # a read is repeated by itself; what undoes a write is let through
        broken.append(url)
        return {"refused": Fault(status=500), "broken off": Fault(reset=True)}.get(how, Fault(unanswered=True))

    with behind(vault, path, fault) as keys:
        with pytest.raises(BackendError):
            keys.issue("alice")
        assert broken
        fixed.append(True)
        assert remains(vault, path) == []
        assert keys.issue("alice")[0].name == "alice"


def test_what_cannot_be_undone_is_said(vault: Vault, path: str) -> None:
    """With the request that fixes it; which then does."""
    no_index = POLICY + 'path "secret/metadata/{path}/keys/.index/*" {{ capabilities = ["list"] }}\n'
    no_undoing = no_index + 'path "secret/metadata/{path}/keys/+" {{ capabilities = ["create", "update"] }}\n'
    raw = {**settings_for(vault, path), **vault.app_role(path, policy=no_undoing)}
    with pytest.raises(PermissionDenied, match=r"Then DELETE /api-keys/alice"):
        api_keys(raw).issue("alice")
    assert remains(vault, path) == ["alice"]
    repaired = api_keys(settings_for(vault, path))
    with pytest.raises(ApiKeyExists):
        repaired.issue("alice")
    repaired.revoke("alice")
    assert repaired.issue("alice")[0].name == "alice"


@pytest.mark.parametrize("expires_in", [None, 60], ids=["no end", "an end before the grace period's"])
@pytest.mark.parametrize("step", ["letting the new key count", "writing the new key", "verifying it"])
def test_a_rotation_that_fails_changes_nothing(vault: Vault, path: str, step: str, expires_in: int | None) -> None:
    """The old key stays as good as it was, for every replica; unless the new one is stored, which is said."""
    _, old_key = api_keys(settings_for(vault, path)).issue("alice", expires_in)
    before = remains(vault, path)
    method, part = {"letting the new key count": ("POST", INDEX), "verifying it": ("GET", "/data/")}.get(
        step, ("POST", "/data/")
    )
    broken: list[str] = []
    written: list[str] = []

    def fault(sent: str, url: str) -> Fault | None:
        if sent == "POST" and "/data/" in url:
            written.append(url)
        is_meant = sent == method and part in url and (written or step != "verifying it")
        if is_meant and len(broken) < (4 if method == "GET" else 1):
            broken.append(url)
            return Fault(status=500)
        return None

    with behind(vault, path, fault) as keys:
        with pytest.raises(BackendError) as caught:
            keys.rotate("alice", 3600)
        assert broken
        keys.refresh()
        assert keys.find(old_key) is not None
        if step == "verifying it":
            assert "rotate it again" in caught.value.remedy
        else:
            assert remains(vault, path) == before
        assert keys.rotate("alice", 0)[0].name == "alice"
        assert keys.find(old_key) is None
        assert len([name for name in remains(vault, path) if name.startswith("alice~")]) <= 3


def test_a_rotation_that_cannot_end_the_old_key_says_so(vault: Vault, path: str) -> None:
    """The new key is stored; the same request again brings it, and ends the old one."""
    _, old_key = api_keys(settings_for(vault, path)).issue("alice")
    notes: list[str] = []

    def fault(sent: str, url: str) -> Fault | None:
        if sent == "POST" and INDEX in url:
            notes.append(url)
        return Fault(status=500) if len(notes) == 2 and sent == "POST" else None

    with behind(vault, path, fault) as keys:
        with pytest.raises(BackendError, match="rotate it again"):
            keys.rotate("alice", 0, idempotency_key="once")
        notes.append("fixed")
        _, key = keys.rotate("alice", 0, idempotency_key="once")
        fresh = api_keys(settings_for(vault, path))
        fresh.refresh()
        assert fresh.find(key) is not None
        assert fresh.find(old_key) is None
        assert stored_key(vault, path) == key


def stored_key(vault: Vault, path: str) -> str:
    """Return what other services fetch."""
    stored = vault.client.secrets.kv.v2.read_secret_version(f"{path}/keys/alice", raise_on_deleted_version=True)
    key: str = stored["data"]["data"]["key"]
    return key


def test_a_rotation_whose_cleaning_fails_is_a_rotation(vault: Vault, path: str) -> None:
    """The new key is answered, and the old one ends when it was to end."""
    _, old_key = api_keys(settings_for(vault, path)).issue("alice")
    with behind(vault, path, lambda method, _: Fault(status=500) if method == "DELETE" else None) as keys:
        _, key = keys.rotate("alice", 60)
        keys.refresh()
        assert keys.find(key) is not None
        assert keys.index.find(old_key, time.time() + 59) is not None
        assert keys.index.find(old_key, time.time() + 61) is None


class _KilledError(BaseException):
    """The process is gone: nothing is undone."""


@pytest.mark.parametrize("killed_after", range(1, 8))
@pytest.mark.parametrize("operation", ["issue", "rotate"])
def test_a_process_that_is_killed_leaves_nothing_that_the_same_request_does_not_mend(
    vault: Vault, path: str, operation: str, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After whichever change; a key that somebody has is never lost, and a name never stuck."""
    keys = api_keys(settings_for(vault, path))
    _, old_key = keys.issue("alice") if operation == "rotate" else (None, "")
    changes: list[str] = []
    send = VaultKVWriter._send  # noqa: SLF001

    def send_or_die(self: VaultKVWriter, subject: str, capability: str, *rest: Any, **more: Any) -> Any:
        answer = send(self, subject, capability, *rest, **more)
        if capability not in {"read", "list"}:
            changes.append(capability)
            if len(changes) == killed_after:
                raise _KilledError
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(VaultKVWriter, "_send", send_or_die)
        try:
            attempt(keys, operation)
        except _KilledError:
            pass
        else:
            assert len(changes) < killed_after
    other = api_keys(settings_for(vault, path))
    other.refresh()
    if operation == "rotate":
        assert other.find(old_key) is not None or stored_key(vault, path) != old_key
    try:
        key = attempt(other, operation)
    except ApiKeyExists:  # what was written last did not count yet: the error says to revoke it
        other.revoke("alice")
        key = attempt(other, operation)
    third = api_keys(settings_for(vault, path))
    third.refresh()
    assert third.find(key) is not None
    assert stored_key(vault, path) == key
    assert third.find(old_key) is None


def attempt(keys: ApiKeys, operation: str) -> str:
    """Send the request, the same each time."""
    if operation == "issue":
        return keys.issue("alice", idempotency_key="once")[1]
    return keys.rotate("alice", 0, idempotency_key="once")[1]


@pytest.mark.parametrize("expires_in", [None, 600])
def test_of_rotations_at_the_same_time_every_answered_key_counts(
    vault: Vault, path: str, expires_in: int | None
) -> None:
    """And the last one is stored; whoever was overtaken is told so, and changes nothing."""
    for _ in range(5):
        keys = api_keys(settings_for(vault, path))
        _, old_key = keys.issue("alice", expires_in)

        def rotate(_n: int) -> str | None:
            try:
                return api_keys(settings_for(vault, path)).rotate("alice", 3600)[1]
            except LostRace:
                return None

        with ThreadPoolExecutor(3) as pool:
            made = [key for key in pool.map(rotate, range(3)) if key]
        keys.refresh()
        assert all(keys.find(key) is not None for key in (old_key, *made))
        assert stored_key(vault, path) in made
        assert keys.index.of("alice")[0].digest == digest_of(stored_key(vault, path))
        keys.revoke("alice")


def test_a_revocation_counts_whatever_else_is_under_way(vault: Vault, path: str) -> None:
    """Rotations and issues at the same time leave nothing that counts once the name is revoked."""
    for _ in range(5):
        keys = api_keys(settings_for(vault, path))
        _, old_key = keys.issue("alice")
        with ThreadPoolExecutor(2) as pool:
            rotating = pool.submit(lambda: api_keys(settings_for(vault, path)).rotate("alice", 3600)[1])
            revoking = pool.submit(lambda: api_keys(settings_for(vault, path)).revoke("alice"))
            revoking.result()
            error = rotating.exception()
        assert error is None or isinstance(error, BackendError | ApiKeyMissing)
        keys.refresh()
        assert keys.find(old_key) is None
        assert remains(vault, path) == []


def test_a_hash_is_in_no_error(vault: Vault, path: str) -> None:
    """It is part of a path; what the policy lacks is said all the same."""
    no_index = POLICY + 'path "secret/metadata/{path}/keys/.index/*" {{ capabilities = ["list"] }}\n'
    raw = {**settings_for(vault, path), **vault.app_role(path, policy=no_index)}
    with pytest.raises(PermissionDenied) as caught:
        api_keys(raw).issue("alice")
    assert "~" not in str(caught.value)
    assert f"{path}/keys/{INDEX}/*" in caught.value.remedy


def test_keys_that_were_never_loaded_are_not_refused_as_wrong(vault: Vault, path: str) -> None:
    """While the index cannot be read, nobody knows; the administrator's key is known."""
    raw = {**settings_for(vault, path), **vault.app_role(path)}  # which may not list
    with TestClient(service(raw)) as client:
        unknown = client.post("/caller", headers={"X-API-Key": f"{PREFIX}unknown"})
        assert (unknown.status_code, "not read yet" in unknown.json()["detail"]) == (503, True)
        assert client.post("/caller", headers=ADMIN).status_code == 200
        assert "lacks the capability list" in str(client.get("/health/ready").json()["warnings"])


DAY = 86_400_000  # milliseconds
RECORDS = {
    "a time of 15 digits": ("name", 999_999_999_999_999, "", True),
    "an end of 15 digits": ("name", 1, 999_999_999_999_999, True),
    "made in the future": ("name", int(time.time() * 1000) + 2 * DAY, "", False),
    "made by a clock that is ahead": ("name", int(time.time() * 1000) + 60_000, "", None),
    "an end that no key has": ("name", 1, int(time.time() * 1000) + 30 * 366 * DAY, False),
    "a negative time": ("name", -1, "", True),
    "a fraction": ("name", 1.5, "", True),
    "no number": ("name", "canary", "", True),
    "no name": ("", 1, "", True),
    "a name that is none": ("-name", 1, "", False),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_that_nobody_can_have_written_is_left_out(
    vault: Vault, path: str, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """With one warning, which shows no hash; the others count, and DELETE takes also what does not count yet."""
    name, created, until, remains = RECORDS[kind]
    writer = VaultKVWriter(get_session(VaultSettings.model_validate(settings_for(vault, path))))
    marker = marker_of(KeyRecord("name", digest_of(f"{PREFIX}odd"), 1)).split("~")[1]
    writer.write_custom_metadata(f"{path}/keys/{INDEX}/{name}~{marker}~{created}~{until}~", {})
    with TestClient(service(settings_for(vault, path))) as client:
        client.post("/api-keys", headers=ADMIN, json={"name": "other"}).raise_for_status()
        listed = [client.get("/api-keys", headers=ADMIN).json()["keys"] for _ in range(2)]
        odd = client.post("/caller", headers={"X-API-Key": f"{PREFIX}odd"})
        assert [each["name"] for each in listed[0]] == (["name", "other"] if remains is None else ["other"])
        assert odd.status_code == (200 if remains is None else 401)
        if remains is not None:
            said = capsys.readouterr().err
            assert said.count("api_key_record_ignored") == 1
            assert marker not in said
        client.delete("/api-keys/name", headers=ADMIN)
        left = writer.list(f"{path}/keys/{INDEX}")
    assert any(marker in each for each in left) == bool(remains or name != "name")


@pytest.mark.slow
def test_ten_thousand_keys_are_fine(vault: Vault, path: str) -> None:
    """One request tells of all; each is found, and one more is issued."""
    writer = VaultKVWriter(get_session(VaultSettings.model_validate(settings_for(vault, path))))
    records = [KeyRecord(f"name-{n}", digest_of(f"{PREFIX}{n}"), 1, None) for n in range(10_000)]

    def store(record: KeyRecord) -> None:
        writer.write_custom_metadata(f"{path}/keys/{INDEX}/{marker_of(record)}", {})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, records))
    keys = api_keys(settings_for(vault, path))
    with vault.audited() as calls:
        keys.refresh()
    assert [operation for operation, _ in calls] == ["list"]
    assert all(keys.find(f"{PREFIX}{n}") == records[n] for n in range(10_000))
    _, key = keys.issue("one-more")
    keys.refresh()
    assert keys.find(key) is not None
    assert len(keys.index.present()) == 10_001


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a%2Fb", ".index", "-x", "a b", "a~b", "a\x00b", "a\nb", "ü", "\u202eevil", "x" * 65,
     "x" * 1_000_000],
    ids=lambda name: f"{name[:12]!r} {len(name)}",
)  # fmt: skip
def test_a_name_that_is_none_is_refused(client: TestClient, vault: Vault, name: str) -> None:
    """Before Vault hears of it, and without an echo."""
    with vault.audited() as calls:
        answer = client.post("/api-keys", json={"name": name})
    assert answer.status_code in {413, 422}
    assert [call for call in calls if call[1].startswith("secret/")] == []
    assert len(answer.text) < 500


@pytest.mark.parametrize("name", ["constructor", "__proto__", "key", "description", "toString", "null", "0", "A.b_c-d"])
def test_an_unusual_name_is_a_name(client: TestClient, name: str) -> None:
    """Issued, listed, used and revoked like any other."""
    key = issue(client, name)
    assert accepted(client, key)
    assert [each["name"] for each in client.get("/api-keys").json()["keys"]] == [name]
    assert client.delete(f"/api-keys/{name}").status_code == 204
    assert not accepted(client, key)


@pytest.mark.parametrize("name", ["..%2f..%2fsys", "%2e%2e", "a%00b", "%E2%80%AEx", "a%0Ab", ".index", "x" * 70])
def test_a_path_that_is_no_name_is_refused(client: TestClient, vault: Vault, name: str) -> None:
    """Neither revoked nor rotated; Vault does not hear of it."""
    with vault.audited() as calls:
        assert client.delete(f"/api-keys/{name}").status_code in {404, 405, 422}
        assert client.post(f"/api-keys/{name}/rotate", json={"grace_period": 0}).status_code in {404, 422}
    assert [call for call in calls if call[1].startswith("secret/")] == []


@pytest.mark.parametrize("mode", ["read_only", "write_only"])
def test_where_the_mode_forbids_it_there_are_no_keys(vault: Vault, path: str, mode: str) -> None:
    """The answer says which variable to set; a wrong key is a wrong key."""
    local = {"secrets": SECRETS, "vault": settings_for(vault, path, access_mode=mode), "log_format": "json"}
    with TestClient(create_app(Settings.model_validate(local)), headers=ADMIN) as client:
        answer = client.post("/api-keys", json={"name": "alice"})
        assert answer.status_code == 403
        assert "VAULT_ACCESS_MODE=read_and_write" in answer.json()["detail"]
        assert not accepted(client, f"{PREFIX}wrong")


def test_without_vault_keys_cannot_be_issued_but_count(vault: Vault, path: str) -> None:
    """An outage of Vault is a 503 for the administrator, and nothing for those who have a key."""
    down: list[bool] = []
    proxy = FaultyProxy(vault.url, lambda _method, _path: Fault(reset=True) if down else None)
    with proxy.running() as url:
        settings = {**settings_for(vault, path), "url": url}
        with TestClient(service(settings), headers=ADMIN) as client:
            key = issue(client, "alice")
            down.append(True)
            assert client.post("/api-keys", json={"name": "bob"}).status_code == 503
            assert client.get("/api-keys").status_code == 503
            assert accepted(client, key)
            down.clear()
