"""API keys in Conjur: the same as in Vault for whoever calls, stored in another way."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.__main__ import main
from app.api_keys import ApiKeys
from app.backends.conjur_key_shelf import ConjurKeyShelf
from app.backends.conjur_writer import ConjurWriter
from app.config import Settings
from app.errors import ApiKeyExists, ApiKeyMissing, BadRequest, BlueprintError, LostRace, VaultError
from app.key_records import KeyRecord, digest_of, marker_of
from app.main import create_app
from app.vault_sessions import get_conjur_session
from tests.conjur.standin import StandIn
from tests.conjur.support import Conjur
from tests.support import SECRETS, unique, until

ADMIN = {"X-API-Key": SECRETS["api_key"]}
Clock = Callable[[], float]


@pytest.fixture
def settings(conjur: Conjur) -> Settings:
    """Return settings of a host that owns a branch of its own, with the write prefix there."""
    branch = unique("keys")
    login = conjur.host(owns=branch)
    below = f"{conjur.branch}/{branch}"
    return conjur.settings(login, SECRETS, policy_branch=below, write_prefix=below, access_mode="read_and_write")


def api_keys(settings: Settings, clock: Clock = time.time) -> ApiKeys:
    """Return the keys of one replica, with a clock of its own."""
    find = lambda: ConjurWriter(get_conjur_session(settings))  # noqa: E731
    return ApiKeys(ConjurKeyShelf(find, settings.vault.write_prefix), clock)


def stored(conjur: Conjur, settings: Settings) -> list[str]:
    """Return the names below the write prefix."""
    writer = ConjurWriter(get_conjur_session(conjur.settings()))
    prefix = settings.vault.write_prefix
    return [path.removeprefix(f"{prefix}/") for path, _ in writer.list(prefix)]


def test_the_service_issues_rotates_and_revokes(conjur: Conjur, settings: Settings) -> None:
    """Over HTTP, as on Vault; the variable holds the bare key, as other services read it."""
    with TestClient(create_app(settings), headers=ADMIN) as client:

        def accepted(key: str) -> bool:
            return client.post("/token", headers={"X-API-Key": key}).status_code == 200

        once = {"Idempotency-Key": "once"}
        first = client.post("/api-keys", json={"name": "alice", "expires_in": 60}, headers=once)
        assert first.status_code == 201, first.text
        assert client.post("/api-keys", json={"name": "alice", "expires_in": 60}, headers=once).json() == first.json()
        key = first.json()["key"]
        assert conjur.get(f"{settings.vault.write_prefix}/alice").decode() == key
        assert client.post("/api-keys", json={"name": "alice"}).status_code == 409
        rotated = client.post("/api-keys/alice/rotate", json={"grace_period": 60})
        assert rotated.status_code == 200, rotated.text
        assert (accepted(key), accepted(rotated.json()["key"])) == (True, True)
        (listed,) = client.get("/api-keys").json()["keys"]
        assert (listed["name"], listed["hash_ends_with"]) == ("alice", rotated.json()["hash_ends_with"])
        assert client.delete("/api-keys/alice").status_code == 204
        assert client.delete("/api-keys/alice").status_code == 404
        assert (accepted(key), accepted(rotated.json()["key"])) == (False, False)
    assert stored(conjur, settings) == []


def test_another_replica_learns_of_all_from_conjur(settings: Settings) -> None:
    """Ends, grace periods and revocations; a clock of its own decides when they have come."""
    now = time.time()
    keys, other = api_keys(settings, lambda: now), api_keys(settings, lambda: now)
    _, first = keys.issue("alice", expires_in=1000)
    _, second = keys.rotate("alice", grace_period=60)
    other.refresh()
    assert other.index.of("alice") == keys.index.of("alice")
    assert (other.find(first) is not None, other.find(second) is not None) == (True, True)
    assert other.index.find(first, now + 61) is None
    assert other.index.find(second, now + 1001) is None
    keys.revoke("alice")
    other.refresh()
    assert (other.find(first), other.find(second)) == (None, None)


def test_of_many_that_want_one_name_one_gets_it(conjur: Conjur, settings: Settings) -> None:
    """The key that was answered is the one that is stored and counts."""
    replicas = [api_keys(settings) for _ in range(4)]

    def attempt(keys: ApiKeys) -> str | None:
        try:
            return keys.issue("alice")[1]
        except ApiKeyExists:
            return None

    with ThreadPoolExecutor(4) as pool:
        made = [key for key in pool.map(attempt, replicas) if key]
    assert len(made) == 1
    fresh = api_keys(settings)
    fresh.refresh()
    assert fresh.find(made[0]) is not None
    assert conjur.get(f"{settings.vault.write_prefix}/alice").decode() == made[0]


@pytest.fixture
def standin() -> Iterator[Conjur]:
    """Return a stand-in of this test's own, on which things go wrong."""
    with StandIn() as server:
        yield Conjur(server.url, server.account, "admin", server.admin_api_key, server)


STEPS = {  # with how often it is tried
    "claiming the name": ("POST", "/policies/", 1),
    "setting the key": ("POST", "/secrets/", 2),
    "verifying it": ("GET", "/secrets/", 4),
    "letting it count": ("PATCH", "/policies/", 1),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_issue_that_fails_leaves_nothing(standin: Conjur, step: str) -> None:
    """Whichever step it is; afterwards the same name can be issued."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys, server = api_keys(settings), standin.standin
    assert server is not None
    method, path, times = STEPS[step]
    server.fail_next(500, times=times, method=method, path=path)
    with pytest.raises(VaultError):
        keys.issue("alice")
    assert stored(standin, settings) == []
    assert keys.issue("alice")[0].name == "alice"


@pytest.mark.parametrize("value", ["canary-precious", None], ids=["set", "unset"])
def test_a_variable_that_is_no_key_stays_what_it_is(standin: Conjur, value: str | None) -> None:
    """Its name is taken: it is not made a key, not rotated, and not deleted, whatever fails."""
    keys, server = (
        api_keys(standin.settings(access_mode="read_and_write", write_prefix=standin.branch)),
        standin.standin,
    )
    assert server is not None
    standin.variable(value, "db")
    server.fail_next(500, times=2, method="POST", path="/secrets/")
    with pytest.raises(ApiKeyExists):
        keys.issue("db")
    for act in (lambda: keys.rotate("db", 0), lambda: keys.revoke("db")):
        with pytest.raises(ApiKeyMissing):
            act()
    entry = standin.request("GET", "resources", standin.account, "variable", f"{standin.branch}/db").json()
    assert entry["annotations"] == []
    if value:
        assert standin.get(f"{standin.branch}/db").decode() == value


def test_a_rotation_that_fails_changes_nothing(standin: Conjur) -> None:
    """The old key stays as good as it was, for every replica."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys, server = api_keys(settings), standin.standin
    assert server is not None
    _, key = keys.issue("alice")
    server.fail_next(500, times=2, method="POST", path="/secrets/")
    with pytest.raises(VaultError):
        keys.rotate("alice", 0)
    fresh = api_keys(settings)
    fresh.refresh()
    assert fresh.find(key) is not None
    assert [each.digest for each in fresh.index.of("alice")] == [digest_of(key)]


class Meeting(ConjurWriter):
    """A writer that lets somebody else act first, once: before it sends the value, the claim, or the end of both."""

    def __init__(self, settings: Settings, moment: str, act: Callable[[], object]) -> None:
        super().__init__(get_conjur_session(settings))
        self._moment = moment
        self._act: Callable[[], object] | None = act

    def _meet(self, moment: str) -> None:
        if moment == self._moment and (act := self._act):
            self._act = None
            act()

    def declare(self, path: str, annotations: Mapping[str, str]) -> None:
        """Claim a name."""
        self._meet("claim")
        super().declare(path, annotations)

    def write(self, path: str, value: str) -> None:
        """Set a key."""
        self._meet("value")
        super().write(path, value)
        self._meet("look")

    def annotate(self, path: str, annotations: Mapping[str, str]) -> None:
        """Change what is known of it."""
        if "sha256" not in annotations:
            self._meet("end")
        super().annotate(path, annotations)


def meeting(settings: Settings, moment: str, act: Callable[[], object]) -> ApiKeys:
    """Return the keys of a replica that is overtaken at this moment."""
    writer = Meeting(settings, moment, act)
    return ApiKeys(ConjurKeyShelf(lambda: writer, settings.vault.write_prefix, wait=lambda _: None))


@pytest.mark.parametrize("moment", ["value", "look"])
def test_of_two_rotations_at_once_the_stored_key_counts(standin: Conjur, moment: str) -> None:
    """Whichever of them it is; who sees that both the key and the claim are another's has lost."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    made: list[str] = []
    keys = meeting(settings, moment, lambda: made.append(api_keys(settings).rotate("alice", 60)[1]))
    api_keys(settings).issue("alice")
    if moment == "value":
        made.append(keys.rotate("alice", 60)[1])
    else:
        with pytest.raises(LostRace):
            keys.rotate("alice", 60)
    fresh = api_keys(settings)
    fresh.refresh()
    assert standin.get(f"{standin.branch}/alice").decode() == made[-1]
    assert fresh.find(made[-1]) is not None


def test_who_is_overtaken_at_the_very_end_is_told(standin: Conjur) -> None:
    """His last word has cost the other's key its record; to rotate once more mends it, as he is told."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys = meeting(settings, "end", lambda: api_keys(settings).rotate("alice", 60))
    api_keys(settings).issue("alice")
    with pytest.raises(LostRace, match="rotate it again") as caught:
        keys.rotate("alice", 60)
    assert "The new key is stored" not in str(caught.value), "it is the other's"
    _, key = keys.rotate("alice", 60)
    assert standin.get(f"{standin.branch}/alice").decode() == key
    assert keys.find(key) is not None


def test_who_overtakes_keeps_the_claim(standin: Conjur) -> None:
    """Though the other's last word comes in the middle."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    shelf = ConjurKeyShelf(lambda: ConjurWriter(get_conjur_session(settings)), standin.branch)
    record = KeyRecord("alice", digest_of("fvb_other"), int(time.time() * 1000) + 5000)
    keys = meeting(settings, "end", lambda: shelf.replace(record, "fvb_other", shelf.look("alice")[1]))
    api_keys(settings).issue("alice")
    with pytest.raises(LostRace):
        keys.rotate("alice", 60)
    shelf.settle(record, [], [])
    keys.refresh()
    assert keys.find("fvb_other") == record


@pytest.mark.parametrize(("moment", "error"), [("value", LostRace), ("end", ApiKeyMissing)])
def test_a_rotation_does_not_bring_back_what_is_revoked(
    standin: Conjur, moment: str, error: type[BlueprintError]
) -> None:
    """Nor does it leave a variable that is nobody's."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys = meeting(settings, moment, lambda: api_keys(settings).revoke("alice"))
    api_keys(settings).issue("alice")
    with pytest.raises(error):
        keys.rotate("alice", 60)
    assert stored(standin, settings) == []


@pytest.mark.parametrize("fails", [False, True])
def test_who_finds_a_name_claimed_leaves_the_winners_key(standin: Conjur, *, fails: bool) -> None:
    """Also where his own claim fails."""
    settings, server = standin.settings(access_mode="read_and_write", write_prefix=standin.branch), standin.standin
    assert server is not None
    others: list[str] = []

    def act() -> None:
        others.append(api_keys(settings).issue("alice")[1])
        if fails:
            server.fail_next(500, method="POST", path="/policies/")

    with pytest.raises(VaultError if fails else ApiKeyExists):
        meeting(settings, "claim", act).issue("alice")
    assert standin.get(f"{standin.branch}/alice").decode() == others[0]


def test_thousands_of_keys_are_listed_in_pages(standin: Conjur) -> None:
    """A request for every thousand."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    records = [KeyRecord(f"name-{n}", digest_of(f"fvb_{n}"), 1, None) for n in range(2500)]
    policy = "".join(
        f"- !variable\n  id: {each.name}\n  annotations:\n    api-key-records: {marker_of(each)}\n" for each in records
    )
    standin.load(policy)
    keys, server = api_keys(settings), standin.standin
    assert server is not None
    before = len(server.requests)
    keys.refresh()
    assert [call.path.partition("?")[0] for call in server.requests[before:]][-3:] == [
        "/resources/default/variable"
    ] * 3
    assert all(keys.find(f"fvb_{n}") == records[n] for n in range(2500))


def test_the_command_line_knows_conjur(
    standin: Conjur, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A path is a folder, each key a variable in it."""
    for name, value in standin.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VAULT_ACCESS_MODE", "read_and_write")
    monkeypatch.setenv("CONJUR_POLICY_BRANCH", standin.branch)
    folder = f"{standin.branch}/db"

    def run(*arguments: str) -> tuple[int, str, str]:
        Settings.settings_clear_cache()
        monkeypatch.setattr(sys, "argv", ["app", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return (code or 0, *capfd.readouterr())

    conjur = ("--vault", "conjur")
    assert run("put", folder, "user=app", "password=x y", *conjur) == (0, f"{folder}: written\n", "")
    assert run("get", f"{{vault://conjur/{folder}/password}}") == (0, "x y\n", "")
    assert run("patch", folder, "password=z", "--remove", "user", *conjur)[0] == 0
    assert run("get", f"{{vault://conjur/{folder}/password}}", "--version", "1")[1] == "x y\n"
    assert run("list", folder, *conjur)[1] == f"{folder}/password\n"
    assert list(json.loads(run("versions", f"{folder}/password", "--json", *conjur)[1])) == ["1", "2"]
    assert run("get", f"{{vault://conjur/{folder}/user}}")[0] == 4
    assert run("delete", f"{folder}/password", *conjur)[0] == 0
    assert run("delete", f"{folder}/password", *conjur)[0] == 4
    for impossible in (("put", folder, "a=b", "--cas", "0"), ("undelete", folder, "--version", "1")):
        code, out, err = run(*impossible, *conjur)
        assert (code, out, "not possible in Conjur" in err) == (1, "", True)
    assert "- !policy" in run("policy", *conjur)[1]
    assert run("policy")[1] == run("policy", *conjur)[1]  # Vault is not enabled


def test_a_prefix_outside_the_branch_is_refused(standin: Conjur) -> None:
    """With the variable that mends it, and nothing is stored."""
    settings = standin.settings(access_mode="read_and_write", write_prefix="elsewhere")
    with pytest.raises(BadRequest, match="CONJUR_POLICY_BRANCH"):
        api_keys(settings).issue("alice")


def test_a_request_does_not_wait_long_for_other_policy_loads(standin: Conjur) -> None:
    """It is told to come back instead: while requests are under way, the service cannot end."""
    settings, server = standin.settings(None, SECRETS, access_mode="read_and_write"), standin.standin
    assert server is not None
    server.set_retry_after(11)
    with TestClient(create_app(settings), headers=ADMIN) as client, server.policy_lock:
        answer = client.post("/api-keys", json={"name": "alice"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "other policy loads have been in progress for 10 s" in answer.json()["detail"]


def test_without_a_prefix_of_their_own_keys_are_in_the_branch(standin: Conjur) -> None:
    """Where the service may create variables."""
    settings = standin.settings(None, SECRETS, access_mode="read_and_write")
    with TestClient(create_app(settings), headers=ADMIN) as client:
        assert client.post("/api-keys", json={"name": "alice"}).status_code == 201
    assert standin.get(f"{standin.branch}/alice").startswith(b"fvb_")


@pytest.mark.parametrize("prefix", ["elsewhere", "keys-alike", "key"])
def test_the_service_does_not_start_where_it_could_store_no_key(standin: Conjur, prefix: str) -> None:
    """With the variable to mend; where it stores none in Conjur, the prefix is Vault's matter."""
    more: dict[str, Any] = {"access_mode": "read_and_write", "policy_branch": "keys", "write_prefix": prefix}
    with pytest.raises(SystemExit, match=r"VAULT_WRITE_PREFIX: .* does not lie in the policy branch keys"):
        create_app(standin.settings(**more))
    for bearable in ({"access_mode": "read_only"}, {"write_prefix": "keys/of/ours"}, {"policy_branch": "root"}):
        create_app(standin.settings(**{**more, **bearable}))


def test_a_replica_polls_for_changes(standin: Conjur) -> None:
    """Within one interval, without being asked."""
    more = {"access_mode": "read_and_write", "write_prefix": standin.branch}
    settings = standin.settings(None, SECRETS, **more)
    quick = settings.model_copy(update={"vault": settings.vault.model_copy(update={"refresh_interval": 0.5})})
    with TestClient(create_app(quick)) as one, TestClient(create_app(quick)) as two:
        key = one.post("/api-keys", json={"name": "alice"}, headers=ADMIN).json()["key"]
        until(lambda: two.post("/token", headers={"X-API-Key": key}).status_code == 200, "the new key")
        one.delete("/api-keys/alice", headers=ADMIN)
        until(lambda: two.post("/token", headers={"X-API-Key": key}).status_code == 401, "the revocation")
