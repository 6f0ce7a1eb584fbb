"""API keys in Conjur: the same as in Vault for whoever calls, stored in another way."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from app.config import Settings
from app.core.errors import BackendError, BadRequest, BlueprintError, LostRace
from app.extras.api_keys.errors import ApiKeyExists, ApiKeyMissing
from app.extras.api_keys.key_records import PREFIX, KeyRecord, digest_of, for_people, marker_of
from app.extras.api_keys.keys import ApiKeys
from app.extras.conjur import for_api_keys as conjur_key_shelf
from app.extras.conjur.for_api_keys import ConjurApiKeyStore
from app.extras.conjur.index import conjur_source
from app.extras.conjur.session import ConjurSession
from app.extras.conjur.writer import CLASH_PAUSES, ConjurWriter
from tests.declared import create_app
from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur
from tests.extras.conjur.turns import Replica, Turns
from tests.support import DEADLINE, SECRETS, unique, until

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
    find = lambda: ConjurWriter(conjur_source(settings).session)  # noqa: E731
    return ApiKeys(ConjurApiKeyStore(find, settings.vault.write_prefix), clock)


def stored(conjur: Conjur, settings: Settings) -> list[str]:
    """Return the names below the write prefix."""
    writer = ConjurWriter(conjur_source(conjur.settings()).session)
    prefix = settings.vault.write_prefix
    return [path.removeprefix(f"{prefix}/") for path, _ in writer.list(prefix)]


def test_the_service_issues_rotates_and_revokes(conjur: Conjur, settings: Settings) -> None:
    """Over HTTP, as on Vault; the variable holds the bare key, as other services read it."""
    with TestClient(create_app(settings), headers=ADMIN) as client:

        def accepted(key: str) -> bool:
            return client.post("/caller", headers={"X-API-Key": key}).status_code == 200

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
    "setting the key": ("POST", "/secrets/", 1 + len(CLASH_PAUSES)),
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
    with pytest.raises(BackendError):
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
    server.fail_next(500, times=1 + len(CLASH_PAUSES), method="POST", path="/secrets/")
    with pytest.raises(ApiKeyExists, match="Choose another name") as caught:
        keys.issue("db")
    assert "DELETE" not in str(caught.value), "that would be refused"
    for act in (lambda: keys.rotate("db", 0), lambda: keys.revoke("db")):
        with pytest.raises(ApiKeyMissing):
            act()
    entry = standin.request("GET", "resources", standin.account, "variable", f"{standin.branch}/db").json()
    assert entry["annotations"] == []
    if value:
        assert standin.get(f"{standin.branch}/db").decode() == value


@pytest.mark.parametrize("value", ["canary-precious", f"{PREFIX}canary", None])
@pytest.mark.parametrize("annotations", [{"sha256": "ab" * 32}, {"api-key-records": "many"}, {"created_at": "2026"}])
def test_annotations_of_others_do_not_make_it_ours(
    standin: Conjur, annotations: dict[str, str], value: str | None
) -> None:
    """A certificate may well be annotated with its fingerprint."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys, path = api_keys(settings), f"{standin.branch}/tls"
    writer = ConjurWriter(conjur_source(settings).session)
    writer.declare(path, annotations)
    if value:
        writer.write(path, value)
    with pytest.raises(ApiKeyExists) as caught:
        keys.issue("tls")
    assert "DELETE" not in str(caught.value)
    for act in (lambda: keys.rotate("tls", 0), lambda: keys.revoke("tls")):
        with pytest.raises(ApiKeyMissing):
            act()
    assert writer.annotations(path) == annotations
    if value:
        assert standin.get(path).decode() == value


@pytest.mark.parametrize("value", [b"canary-precious", b"\xff\x00canary"], ids=["text", "binary"])
def test_a_key_that_somebody_has_overwritten_is_revoked_only(standin: Conjur, value: bytes) -> None:
    """It does not count any more, and what was put in its place is still there."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys, path = api_keys(settings), f"{standin.branch}/tls"
    _, key = keys.issue("tls")
    standin.set(path, value)
    with pytest.raises(ApiKeyExists) as caught:
        keys.issue("tls")
    assert "DELETE" not in str(caught.value)
    keys.revoke("tls")
    with pytest.raises(ApiKeyMissing):
        keys.revoke("tls")
    fresh = api_keys(settings)
    fresh.refresh()
    assert fresh.find(key) is None
    assert standin.get(path) == value


def test_what_an_issue_left_can_be_deleted(standin: Conjur) -> None:
    """A claim without a value, or with one that does not count; as the next issue says that one should."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys, path = api_keys(settings), f"{standin.branch}/tls"
    writer = ConjurWriter(conjur_source(settings).session)
    for value in (None, f"{PREFIX}canary"):
        writer.declare(path, for_people(KeyRecord("tls", digest_of(f"{PREFIX}canary"), 1)))
        if value:
            writer.write(path, value)
        with pytest.raises(ApiKeyExists, match="DELETE /api-keys/tls"):
            keys.issue("tls")
        keys.revoke("tls")
        assert stored(standin, settings) == []


def test_a_rotation_that_fails_changes_nothing(standin: Conjur) -> None:
    """The old key stays as good as it was, for every replica."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    keys, server = api_keys(settings), standin.standin
    assert server is not None
    _, key = keys.issue("alice")
    server.fail_next(500, times=1 + len(CLASH_PAUSES), method="POST", path="/secrets/")
    with pytest.raises(BackendError):
        keys.rotate("alice", 0)
    fresh = api_keys(settings)
    fresh.refresh()
    assert fresh.find(key) is not None
    assert [each.digest for each in fresh.index.of("alice")] == [digest_of(key)]


class Meeting(ConjurWriter):
    """A writer that lets somebody else act first, once: before it sends the value, the claim, or the end of both."""

    def __init__(self, settings: Settings, moment: str, act: Callable[[], object]) -> None:
        super().__init__(ConjurSession(settings.conjur, settings.vault))  # another process's than that of who acts
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

    def annotate(self, path: str, annotations: Mapping[str, str], still: Callable[[], None] = lambda: None) -> None:
        """Change what is known of it."""
        if "sha256" not in annotations:
            self._meet("end")

        def last_look() -> None:
            still()
            self._meet("load" if "sha256" in annotations else "very end")

        super().annotate(path, annotations, last_look)


def meeting(settings: Settings, moment: str, act: Callable[[], object]) -> ApiKeys:
    """Return the keys of a replica that is overtaken at this moment."""
    writer = Meeting(settings, moment, act)
    return ApiKeys(ConjurApiKeyStore(lambda: writer, settings.vault.write_prefix, wait=lambda _: None))


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


@pytest.mark.parametrize("moment", ["end", "very end"])
def test_who_is_overtaken_at_the_end_is_told_and_leaves_the_winners_key(standin: Conjur, moment: str) -> None:
    """Before the last look, nothing is sent; between that and the last word, the winner's record is made again."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    made: list[str] = []
    keys = meeting(settings, moment, lambda: made.append(api_keys(settings).rotate("alice", 60)[1]))
    api_keys(settings).issue("alice")
    with pytest.raises(LostRace, match="Take the key that they got") as caught:
        keys.rotate("alice", 60)
    assert "The new key is stored" not in str(caught.value), "it is the other's"
    fresh = api_keys(settings)
    fresh.refresh()
    assert standin.get(f"{standin.branch}/alice").decode() == made[0]
    assert fresh.find(made[0]) is not None


def test_who_overtakes_keeps_the_claim(standin: Conjur) -> None:
    """Though the other's last word comes in the middle."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    store = ConjurApiKeyStore(lambda: ConjurWriter(conjur_source(settings).session), standin.branch)
    record = KeyRecord("alice", digest_of(f"{PREFIX}other"), int(time.time() * 1000) + 5000)
    keys = meeting(settings, "end", lambda: store.replace(record, f"{PREFIX}other", store.describe("alice")[1]))
    api_keys(settings).issue("alice")
    with pytest.raises(LostRace):
        keys.rotate("alice", 60)
    store.expire_old(record, [], [])
    keys.refresh()
    assert keys.find(f"{PREFIX}other") == record


@pytest.mark.parametrize(
    ("moment", "error"),
    [("load", ApiKeyMissing), ("value", LostRace), ("end", ApiKeyMissing), ("very end", ApiKeyMissing)],
)
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

    with pytest.raises(BackendError if fails else ApiKeyExists):
        meeting(settings, "claim", act).issue("alice")
    assert standin.get(f"{standin.branch}/alice").decode() == others[0]


def test_thousands_of_keys_are_listed_in_pages(standin: Conjur) -> None:
    """A request for every thousand."""
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    records = [KeyRecord(f"name-{n}", digest_of(f"{PREFIX}{n}"), 1, None) for n in range(2500)]
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
    assert all(keys.find(f"{PREFIX}{n}") == records[n] for n in range(2500))


def test_a_prefix_outside_the_branch_is_refused(standin: Conjur) -> None:
    """With the variable that fixes it, and nothing is stored."""
    settings = standin.settings(access_mode="read_and_write", write_prefix="elsewhere")
    with pytest.raises(BadRequest, match="CONJUR_POLICY_BRANCH"):
        api_keys(settings).issue("alice")


def test_a_request_does_not_wait_long_for_other_policy_loads(standin: Conjur, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to come back instead: while requests are under way, the service cannot end."""
    assert conjur_key_shelf.REQUEST_WAITS == 10
    monkeypatch.setattr(conjur_key_shelf, "REQUEST_WAITS", 0.5)
    settings, server = standin.settings(None, SECRETS, access_mode="read_and_write"), standin.standin
    assert server is not None
    server.set_retry_after(11)
    with TestClient(create_app(settings), headers=ADMIN) as client, server.policy_lock:
        answer = client.post("/api-keys", json={"name": "alice"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert re.search(r"other policy loads have been in progress for 0\.[5-9]\d* s", answer.json()["detail"])


def test_without_a_prefix_of_their_own_keys_are_in_the_branch(standin: Conjur) -> None:
    """Where the service may create variables."""
    settings = standin.settings(None, SECRETS, access_mode="read_and_write")
    with TestClient(create_app(settings), headers=ADMIN) as client:
        assert client.post("/api-keys", json={"name": "alice"}).status_code == 201
    assert standin.get(f"{standin.branch}/alice").startswith(PREFIX.encode())


@pytest.mark.parametrize("prefix", ["elsewhere", "keys-alike", "key"])
def test_the_service_does_not_start_where_it_could_store_no_key(standin: Conjur, prefix: str) -> None:
    """With the variable to fix; where it stores none in Conjur, the prefix is Vault's matter."""
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
        until(lambda: two.post("/caller", headers={"X-API-Key": key}).status_code == 200, "the new key")
        one.delete("/api-keys/alice", headers=ADMIN)
        until(lambda: two.post("/caller", headers={"X-API-Key": key}).status_code == 401, "the revocation")


# --- two replicas, in every order: the argument is in the docstring of for_api_keys.py ---

Act = Callable[[ApiKeys, str], object]
Outcome = object | BlueprintError

ACTS: dict[str, Act] = {
    "issue": lambda keys, name: keys.issue(name)[1],
    "rotate": lambda keys, name: keys.rotate(name, grace_period=60)[1],
    "rotate at once": lambda keys, name: keys.rotate(name, grace_period=0)[1],
    "revoke": lambda keys, name: keys.revoke(name),
}
PAIRS = [
    ("issue", "issue"),
    ("issue", "revoke"),
    ("issue", "rotate"),
    ("rotate", "issue"),
    ("rotate", "rotate at once"),
    ("rotate at once", "rotate"),
    ("rotate", "revoke"),
    ("revoke", "rotate"),
    ("revoke", "revoke"),
]


@pytest.fixture(scope="module")
def swift() -> Iterator[Conjur]:
    """Return a stand-in that takes no time."""
    with StandIn() as server:
        server.set_load_seconds(0)
        server.set_write_seconds(0)
        yield Conjur(server.url, server.account, "admin", server.admin_api_key, server)


def keys_of(session: ConjurSession, prefix: str) -> ApiKeys:
    """Return the keys of a replica that waits for nothing."""
    writer = ConjurWriter(session, wait=lambda _: None)
    return ApiKeys(ConjurApiKeyStore(lambda: writer, prefix, wait=lambda _: None))


def race(conjur: Conjur, acts: tuple[str, str], order: list[int]) -> list[int]:
    """Let two replicas act on one name in this order of requests; make sure that what both were told is so.

    Returns how many requests each has sent.
    """
    settings = conjur.settings(access_mode="read_and_write", write_prefix=conjur.branch)
    name, turns = unique("name"), Turns(order)
    plain = ConjurSession(settings.conjur, settings.vault)
    before = None if "issue" in acts else keys_of(plain, conjur.branch).issue(name)[1]
    sessions = [Replica(settings, who, turns) for who in (0, 1)]

    def act(who: int) -> Outcome:
        try:
            return ACTS[acts[who]](keys_of(sessions[who], conjur.branch), name)
        except BlueprintError as error:
            return error
        finally:
            turns.end(who)

    with ThreadPoolExecutor(2) as pool:
        running: list[Future[Outcome]] = [pool.submit(act, who) for who in (0, 1)]
        told = [each.result(DEADLINE) for each in running]
    fresh = keys_of(plain, conjur.branch)
    fresh.refresh()
    stored = conjur.send("GET", "secrets", conjur.account, "variable", f"{conjur.branch}/{name}")
    key = stored.text if stored.ok else None
    left = conjur.send("GET", "resources", conjur.account, "variable", f"{conjur.branch}/{name}").ok
    check(acts, told, key, fresh, left=left)
    if before and fresh.index.of(name):
        assert key is not None
    for session in (plain, *sessions):
        session.close()
    return turns.taken


def check(acts: tuple[str, str], told: list[Outcome], key: str | None, fresh: ApiKeys, *, left: bool) -> None:
    """Compare what was told with what is so."""
    succeeded = [act for act, outcome in zip(acts, told, strict=True) if not isinstance(outcome, BlueprintError)]
    made = [outcome for outcome in told if isinstance(outcome, str)]
    story = f"{acts}: {told}, then {'a key' if key else 'no key'}"
    assert succeeded, f"somebody gets through: {story}"
    if "revoke" in succeeded and not (acts[0] == "issue" and isinstance(told[1], ApiKeyMissing)):
        assert not left, f"what is revoked is gone: {story}"
        assert key is None
    else:
        assert key in made, f"what is stored is what somebody was told: {story}"
        assert key is not None
        assert fresh.find(key) is not None, f"what is stored counts: {story}"
    if acts == ("issue", "issue"):
        assert len(made) == 1
        assert any(isinstance(outcome, ApiKeyExists) for outcome in told)
    if len(made) == 1 and "revoke" not in succeeded:
        assert key == made[0], f"who was told of a key has it: {story}"
    assert all(fresh.find(each) is None or digest_of(each) for each in made)


@pytest.mark.parametrize("acts", PAIRS, ids="-".join)
def test_one_replica_acts_between_two_requests_of_another(swift: Conjur, acts: tuple[str, str]) -> None:
    """Before each of them in turn; all is as if one had come after the other, or who lost is told."""
    first = 0
    while race(swift, acts, [0] * first + [1] * 1000)[0] > first:
        first += 1
    assert first > 0, "there was something to come between"


@pytest.mark.slow
@given(acts=st.sampled_from(PAIRS), order=st.lists(st.integers(0, 1), max_size=60))
@trying(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_replicas_take_turns_in_any_order(swift: Conjur, acts: tuple[str, str], order: list[int]) -> None:
    """Request by request."""
    race(swift, acts, order)


def test_replicas_that_issue_side_by_side_all_succeed(standin: Conjur) -> None:
    """Ten requests at once at each of two: those of a process take turns, and wait for another process as told."""
    assert standin.standin is not None
    standin.standin.set_load_seconds(0.06)
    standin.standin.set_retry_after(8)  # the longest that a real one says
    settings = standin.settings(access_mode="read_and_write", write_prefix=standin.branch)
    sessions = [ConjurSession(settings.conjur, settings.vault) for _ in range(2)]
    writers = [ConjurWriter(session, patience=conjur_key_shelf.REQUEST_WAITS) for session in sessions]
    replicas = [ApiKeys(ConjurApiKeyStore(lambda w=writer: w, standin.branch)) for writer in writers]  # type: ignore[misc]
    names = [unique("name") for _ in range(10 * len(replicas))]
    with ThreadPoolExecutor(len(names)) as pool:
        made = list(pool.map(lambda name, keys: keys.issue(name)[1], names, replicas * 10))
    assert 409 in {call.status for call in standin.standin.requests}, "they did meet"
    fresh = api_keys(settings)
    fresh.refresh()
    assert all(fresh.find(key) for key in made)
    for session in sessions:
        session.close()
