"""What goes wrong with Conjur now and then: on demand, with the stand-in; and what all of it costs in requests."""

import base64
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core.errors import (
    BackendError,
    BadRequest,
    LoginRefused,
    PathMissing,
    PolicyConflict,
    ServerFault,
    SeveralFailed,
    UnexpectedAnswer,
    VaultRateLimited,
    VaultTLSFailed,
    VaultUnreachable,
)
from app.core.transport.single_flight import LOGIN_PAUSE
from app.extras.conjur.index import conjur_source
from app.extras.conjur.login import MARGIN
from app.extras.conjur.session import ConjurSession
from app.extras.conjur.variables import LONGEST_QUERY, ConjurVariables
from app.extras.conjur.writer import CLASH_PAUSES, SCRIPT_WAITS, ConjurWriter
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.extras.conjur import wire
from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur
from tests.extras.conjur.wire import Answer
from tests.pki import Authority
from tests.support import DEADLINE, unique, until

TRIES = 1 + len(CLASH_PAUSES)
PAGE = b"<html>canary</html>"
PAGES = (200, 400, 403, 404, 418)  # statuses that a proxy may send with it
INVALID_TOKEN = wire.unauthorized("Unauthorized: Invalid token")


class Clock:
    """A clock that a test moves, for the session and the stand-in together."""

    def __init__(self, standin: StandIn) -> None:
        self.time = 1000.0
        self._standin = standin

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self.time += seconds
        self._standin.advance(seconds)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """Return a stand-in of this test's own."""
    with StandIn() as standin:
        yield standin


@pytest.fixture
def own(standin: StandIn) -> Conjur:
    """Return the handle on it."""
    return Conjur(standin.url, standin.account, "admin", standin.admin_api_key, standin)


@pytest.fixture
def clock(standin: StandIn) -> Clock:
    """Return its clock."""
    return Clock(standin)


def open_session(settings: Settings, clock: Callable[[], float] = time.monotonic) -> ConjurSession:
    """Return a session."""
    return ConjurSession(settings.conjur, settings.vault, clock)


def asked(standin: StandIn, *, since: int = 0) -> list[str]:
    """Return method and first segment of what was asked, with `authenticate` for a login."""
    calls = standin.requests[since:]
    return [
        "login" if call.path.endswith("/authenticate") else f"{call.method} {call.path.split('/')[1].split('?')[0]}"
        for call in calls
    ]


def html(status: int) -> Answer:
    """Return what a proxy says."""
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(PAGE))}
    return Answer(status, headers, PAGE)


# --- the token's life ---


@pytest.mark.parametrize("life", [480, 8])
def test_a_token_is_replaced_before_it_expires(standin: StandIn, own: Conjur, clock: Clock, life: int) -> None:
    """However short its life; by the time that it says itself, and never by a 401."""
    standin.set_token_lifetime(life)
    variable = own.variable("x")
    variables = ConjurVariables(session := open_session(own.settings(), clock))
    before = len(standin.requests)
    for _ in range(3):
        assert list(variables.read(variable).data.values()) == ["x"]
        clock.advance(life * (1 - MARGIN) - 0.01)
        assert session.time_left() == pytest.approx(life * MARGIN + 0.01)
        variables.read(variable)
        clock.advance(0.02)
    assert asked(standin, since=before) == ["login", "GET secrets", "GET secrets"] * 3
    assert {call.status for call in standin.requests[before:]} == {200}
    session.close()


def test_the_clocks_need_not_agree(standin: StandIn, own: Conjur) -> None:
    """What counts is how long the token lives, not when it ends by the server's clock."""
    variable = own.variable("x")
    standin.advance(100_000)
    session = open_session(own.settings())
    before = len(standin.requests)
    for _ in range(2):
        ConjurVariables(session).read(variable)
    assert asked(standin, since=before) == ["login", "GET secrets", "GET secrets"]
    session.close()


def test_an_expired_token_costs_one_login_for_all_threads(standin: StandIn, own: Conjur) -> None:
    """Each read that meets it is repeated once, and succeeds."""
    variable = own.variable("x")
    session = open_session(own.settings())
    ConjurVariables(session).read(variable)
    standin.expire_tokens()
    before = len(standin.requests)
    barrier = threading.Barrier(16)

    def read(_: int) -> str:
        barrier.wait()
        return str(ConjurVariables(session).read(variable).data.popitem()[1])  # type: ignore[attr-defined]

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(read, range(16))) == {"x"}
    assert asked(standin, since=before).count("login") == 1
    session.close()


def test_a_login_that_does_not_help_surfaces_and_is_not_repeated_for_a_while(
    standin: StandIn, own: Conjur, clock: Clock
) -> None:
    """A cluster whose nodes disagree refuses what it has just issued."""
    variables = ConjurVariables(session := open_session(own.settings(), clock))
    standin.fail_next(401, times=100, path="/secrets", answer=INVALID_TOKEN)
    for _ in range(5):
        with pytest.raises(LoginRefused, match="does not accept the token that it has just issued"):
            variables.read("x")
    assert asked(standin)[-8:].count("login") == 2
    clock.advance(LOGIN_PAUSE + 1)
    with pytest.raises(LoginRefused):
        variables.read("x")
    assert asked(standin).count("login") == 1 + 3, "one of them is the test's own"
    session.close()


def test_a_refused_login_is_not_repeated_for_a_while(standin: StandIn, own: Conjur, clock: Clock) -> None:
    """However many want to read."""
    session = open_session(own.settings(("admin", "canary")), clock)
    before = len(standin.requests)
    for _ in range(10):
        with pytest.raises(LoginRefused):
            ConjurVariables(session).read("x")
    assert asked(standin, since=before) == ["login"]
    clock.advance(LOGIN_PAUSE)
    with pytest.raises(LoginRefused):
        ConjurVariables(session).read("x")
    assert asked(standin, since=before) == ["login", "login"]


def test_a_token_serves_to_its_end_while_logins_fail(standin: StandIn, own: Conjur, clock: Clock) -> None:
    """A key that was rotated shows some time before the token expires; until then nothing breaks."""
    variable = own.variable("x")
    variables = ConjurVariables(session := open_session(own.settings(), clock))
    variables.read(variable)
    clock.advance(480 * (1 - MARGIN) + 1)
    standin.fail_next(401, times=100, path="/authenticate", answer=wire.bare(401))
    assert variables.read(variable).data
    clock.advance(480 * MARGIN)
    with pytest.raises(LoginRefused):
        variables.read(variable)
    session.close()


def with_token_file(own: Conjur, file: Path) -> Settings:
    """Put a token into a file, as a sidecar does; return settings that use it."""
    own.request("GET", "whoami")  # the handle logs in, if it must
    file.write_bytes(base64.b64decode(own._token))  # noqa: SLF001
    return own.settings(("admin", ""), authn_api_key=None, authn_token_file=file)


def test_a_token_file_is_read_again_when_its_token_nears_its_end(own: Conjur, tmp_path: Path, clock: Clock) -> None:
    """Once: one that nobody renews serves to its end."""
    variable, settings = own.variable("x"), with_token_file(own, tmp_path / "token")
    start = time.time()
    session = ConjurSession(settings.conjur, settings.vault, clock, lambda: start + clock.time - 1000)
    held = []
    for pause in (480 * (1 - MARGIN) + 1, 0, 480 * MARGIN - 5, 0):
        ConjurVariables(session).read(variable)
        held.append(session.current())
        clock.advance(pause)
    first, again, *later = held
    assert first is not again
    assert later == [again, again]
    clock.advance(10)
    with pytest.raises(LoginRefused, match="the token in it has expired"):
        ConjurVariables(session).read(variable)
    session.close()


def test_a_token_file_whose_token_is_refused_must_be_renewed(
    standin: StandIn, own: Conjur, tmp_path: Path, clock: Clock
) -> None:
    """The file is named; what it holds then counts."""
    file, variable = tmp_path / "token", own.variable("x")
    variables = ConjurVariables(session := open_session(with_token_file(own, file), clock))
    variables.read(variable)
    standin.expire_tokens()
    with pytest.raises(LoginRefused, match=f"CONJUR_AUTHN_TOKEN_FILE={file}: Conjur does not accept the token in it"):
        variables.read(variable)
    with_token_file(own, file)
    clock.advance(LOGIN_PAUSE)
    assert variables.read(variable).data
    session.close()


@pytest.mark.parametrize("wrong", [-3600, -300, 300, 3600])
def test_a_token_file_is_used_whatever_our_clock_says(own: Conjur, tmp_path: Path, clock: Clock, wrong: int) -> None:
    """For as long as Conjur takes the token; then the file's next one counts."""
    file, variable = tmp_path / "token", own.variable("x")
    settings, start = with_token_file(own, file), time.time()
    session = ConjurSession(settings.conjur, settings.vault, clock, lambda: start + clock.time - 1000 + wrong)
    variables = ConjurVariables(session)
    for _ in range(2):
        for _ in range(47):
            variables.read(variable)
            clock.advance(10)
        clock.advance(20)
        with pytest.raises(LoginRefused, match="CONJUR_AUTHN_TOKEN_FILE"):
            variables.read(variable)
        with_token_file(own, file)
        clock.advance(LOGIN_PAUSE)
    session.close()


def test_an_expired_token_file_is_told_as_such(standin: StandIn, own: Conjur, tmp_path: Path) -> None:
    """Once Conjur has refused it: the token says itself when it ends, and our clock may be wrong."""
    settings = with_token_file(own, tmp_path / "token")
    standin.expire_tokens()
    in_an_hour = ConjurSession(settings.conjur, settings.vault, wall_clock=lambda: time.time() + 3600)
    before = len(standin.requests)
    with pytest.raises(LoginRefused, match="the token in it has expired"):
        ConjurVariables(in_an_hour).read("x")
    assert asked(standin, since=before) == ["GET secrets"]
    in_an_hour.close()


@pytest.mark.parametrize("life", [0, -100])
def test_a_token_without_a_life_does_not_cost_a_login_per_call(
    standin: StandIn, own: Conjur, clock: Clock, life: int
) -> None:
    """What it says of itself is one thing, whether Conjur takes it another."""
    standin.set_token_lifetime(life)
    variables = ConjurVariables(session := open_session(own.settings(), clock))
    before = len(standin.requests)
    for _ in range(5):
        with pytest.raises(LoginRefused):
            variables.read("x")
    assert asked(standin, since=before).count("login") <= 2
    session.close()


# --- what it costs ---


def test_several_variables_cost_one_request(standin: StandIn, own: Conjur) -> None:
    """Each is asked for once, however often it is wanted; an id with a comma has to be asked for alone."""
    a, b, comma = own.variable("a"), own.variable("b"), own.variable("c", f"{unique('x')},y")
    secrets = {"d": f"{{vault://conjur/{a}}}", "e": f"{{vault://conjur/{comma}}}", "f": f"{{vault://conjur/{b}#1}}"}
    settings = own.settings(secrets=secrets, variables=f"{a},{b},b={a}")
    before = len(standin.requests)
    assert len(conjur_source(settings).load()) == 6
    assert sorted(asked(standin, since=before)) == ["GET secrets"] * 3 + ["login"]
    batches = [call.path for call in standin.requests[before:] if "variable_ids=" in call.path]
    assert [path.count("variable:") for path in batches] == [2]


def test_awkward_ids_need_no_second_request(standin: StandIn, own: Conjur) -> None:
    """In a query a plus would be a blank, and a percent sign half of something else."""
    folder = unique("awkward")
    names = ["two words", "a+b", "grüße", "100%2F", 'a"b', "a&b=c", "a?b#c", "a;b", "a:b@c"]
    ids = {name: own.variable(name, f"{folder}/{name}") for name in names}
    settings = own.settings(variables=",".join(f"{number}={ids[name]}" for number, name in enumerate(names)))
    before = len(standin.requests)
    assert [value for secret in conjur_source(settings).load() for value in secret.data.values()] == names
    assert asked(standin, since=before) == ["login", "GET secrets"]


def test_a_request_stays_as_short_as_servers_and_proxies_want_it(standin: StandIn, own: Conjur) -> None:
    """Many variables come in several, each full."""
    names = [f"{unique('a-name-of-some-length')}/ü ü" for _ in range(200)]
    own.load("".join(f"- !variable {name}\n" for name in names))
    for name in names:
        own.set(f"{own.branch}/{name}", "x")
    settings = own.settings(variables=",".join(f"{n}={own.branch}/{name}" for n, name in enumerate(names)))
    before = len(standin.requests)
    assert len(conjur_source(settings).load()) == 200
    lengths = [len(call.path) for call in standin.requests[before:] if "variable_ids" in call.path]
    assert all(length < LONGEST_QUERY + 50 for length in lengths)
    assert len(lengths) == len(standin.requests[before:]) - 1 < 10


def test_a_failed_batch_is_read_one_by_one_once(standin: StandIn, own: Conjur) -> None:
    """And what cannot depend on a variable is not."""
    names = ",".join([own.variable("a"), own.variable("b"), own.variable()])
    settings = own.settings(variables=names)
    before = len(standin.requests)
    with pytest.raises(BackendError):
        conjur_source(settings).load()
    assert sorted(asked(standin, since=before)) == ["GET resources"] + ["GET secrets"] * 4 + ["login"]
    before = len(standin.requests)
    standin.fail_next(429, times=100, path="/secrets")
    with pytest.raises(VaultRateLimited):
        conjur_source(settings).load()
    assert len(standin.requests[before:]) == 4, "a request, and the transport's three repetitions"


@pytest.mark.parametrize("answer", [wire.bare(403), wire.unrouted(500), wire.as_json([]), html(200), html(404)])
def test_what_a_404_means_is_left_open_where_nothing_more_is_told(
    standin: StandIn, own: Conjur, answer: Answer
) -> None:
    """The failure of the second request hides not the first one's answer."""
    variables = ConjurVariables(session := open_session(own.settings()))
    standin.fail_next(answer.status, times=4, path="/resources", answer=answer)
    with pytest.raises(PathMissing, match="it is missing, has no value, or cannot be seen by admin; Conjur"):
        variables.read(own.variable())
    session.close()


def test_a_value_that_comes_in_the_meantime_is_no_riddle(standin: StandIn, own: Conjur) -> None:
    """Between the two requests somebody has set it."""
    variables = ConjurVariables(session := open_session(own.settings()))
    variable, answer = own.variable("x"), wire.error(404, "not_found", "CONJ00076E")
    standin.fail_next(404, path="/secrets", answer=answer)
    with pytest.raises(PathMissing, match=r"it had no value until a moment ago\. Try again"):
        variables.read(variable)
    session.close()


@pytest.mark.parametrize("answer", [wire.unrouted(500), wire.unrouted(502), html(414)], ids=["500", "502", "414"])
def test_a_batch_that_meets_a_fault_is_read_one_by_one(standin: StandIn, own: Conjur, answer: Answer) -> None:
    """Another fault then is told with its variable, and is the last: a server that is down is not asked for each."""
    names = [own.variable(value) for value in "abc"]
    settings = own.settings(variables=",".join(names))
    standin.fail_next(answer.status, times=1 if answer.status == 414 else 4, path="variable_ids", answer=answer)
    assert [value for secret in conjur_source(settings).load() for value in secret.data.values()] == [*"abc"]
    before = len(standin.requests)
    standin.fail_next(500, times=100, path="/secrets")
    with pytest.raises(ServerFault, match=f"HTTP 500.* about default:variable:{names[0]}"):
        conjur_source(settings).load()
    assert len(standin.requests[before:]) <= 12, "the batch, a variable, perhaps the next, with three repetitions each"


def test_several_batches_that_meet_a_fault_are_the_servers(standin: StandIn, own: Conjur) -> None:
    """Nothing more is asked of it."""
    names = [f"{own.branch}/{number}-{'x' * 900}" for number in range(20)]
    standin.fail_next(500, times=100, path="/secrets")
    before = len(standin.requests)
    with pytest.raises(ServerFault, match=r"about \d variables"):
        conjur_source(own.settings(variables=",".join(names))).load()
    assert asked(standin, since=before) == ["login"] + ["GET secrets"] * 8, "two batches, with three repetitions each"


def test_a_policy_is_loaded_only_where_a_value_met_a_404(standin: StandIn, own: Conjur) -> None:
    """One for all new variables; none for those that are there."""
    old = own.variable("old")
    new = {f"{own.branch}/{unique('new')}": "x" for _ in range(5)}
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")))
    before = len(standin.requests)
    writer.write(old, "new")
    assert asked(standin, since=before) == ["login", "POST secrets"]
    before = len(standin.requests)
    writer.write_many({old: "newer", **new})
    assert asked(standin, since=before) == ["POST secrets"] * 6 + ["POST policies"] + ["POST secrets"] * 5
    session.close()


# --- writers who meet ---


def test_a_conflict_is_waited_for_as_long_as_conjur_says(standin: StandIn, own: Conjur) -> None:
    """And up to half as long again, so that those who wait do not come back together."""
    waits: list[float] = []
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")), wait=waits.append)
    for seconds in (1, 8):
        standin.set_retry_after(seconds)
        standin.fail_next(409, times=10, path="/policies")
        writer.write(f"{own.branch}/{unique('x')}", "x")
    assert len(waits) == 20
    assert all(1 <= pause <= 1.5 for pause in waits[:10])
    assert all(8 <= pause <= 12 for pause in waits[10:])
    assert len(set(waits)) > 10
    session.close()


@pytest.mark.parametrize("pause", ["", "soon", "-1", "0", "Fri, 31 Dec 2027 23:59:59 GMT"])
def test_a_conflict_without_a_pause_is_waited_for_a_second(standin: StandIn, own: Conjur, pause: str) -> None:
    """Whatever stands there instead."""
    waits: list[float] = []
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")), wait=waits.append)
    answer = wire.conflict(1)
    standin.fail_next(409, path="/policies", answer=answer._replace(headers={**answer.headers, "Retry-After": pause}))
    writer.write(f"{own.branch}/{unique('x')}", "x")
    assert [1 <= each <= 1.5 for each in waits] == [True]
    session.close()


@pytest.mark.parametrize("seconds", [1, 8, 3600])
def test_patience_has_an_end(standin: StandIn, own: Conjur, clock: Clock, seconds: int) -> None:
    """And where Conjur asks for more than what is left, that is waited, and the load tried once more."""
    session = open_session(own.settings(access_mode="read_and_write"), clock)
    standin.set_retry_after(seconds)
    standin.fail_next(409, times=1000, path="/policies")
    start = clock.time
    with pytest.raises(PolicyConflict, match="other policy loads have been in progress for 60 s"):
        ConjurWriter(session, wait=clock.advance).delete(f"{own.branch}/x")
    assert clock.time - start == pytest.approx(SCRIPT_WAITS)
    session.close()


def test_a_long_wait_that_conjur_asks_for_is_cut_short_and_may_help(
    standin: StandIn, own: Conjur, clock: Clock
) -> None:
    """Conjur names the pause at random: the other load may have been over for long, so several tries are left."""
    session = open_session(own.settings(access_mode="read_and_write"), clock)
    variable, start = own.variable("x"), clock.time
    standin.set_retry_after(3600)
    standin.fail_next(409, times=5, path="/policies")
    ConjurWriter(session, wait=clock.advance).delete(variable)
    assert clock.time - start < SCRIPT_WAITS
    session.close()


def test_a_process_loads_one_policy_at_a_time(standin: StandIn, own: Conjur) -> None:
    """So that its own threads never meet, however many there are."""
    standin.set_retry_after(60)
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")))
    paths = [f"{own.branch}/{unique('x')}" for _ in range(30)]
    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(writer.write, paths, paths))
    assert [own.get(path).decode() for path in paths] == paths
    assert not [call for call in standin.requests if call.status == 409]
    session.close()


def test_a_turn_is_waited_for_no_longer_than_the_patience_lasts(standin: StandIn, own: Conjur) -> None:
    """While a load of another thread takes long; nothing is sent then."""
    session = open_session(own.settings(access_mode="read_and_write"))
    with ThreadPoolExecutor(1) as pool:
        with standin.hold("/policies") as came:
            other = pool.submit(ConjurWriter(session).delete, f"{own.branch}/x")
            assert came.wait(DEADLINE)
            with pytest.raises(PolicyConflict, match=r"in progress for 0\.[3-9]\d* s"):
                ConjurWriter(session, patience=0.3).delete(f"{own.branch}/y")
        other.result(DEADLINE)
    assert asked(standin).count("PATCH policies") == 1
    session.close()


def test_who_waits_for_a_turn_is_let_go_when_the_session_closes(standin: StandIn, own: Conjur) -> None:
    """Though the load of the other thread goes on."""
    session = open_session(own.settings(access_mode="read_and_write"))
    with ThreadPoolExecutor(2) as pool, standin.hold("/policies") as came:
        other = pool.submit(ConjurWriter(session).delete, f"{own.branch}/x")
        assert came.wait(DEADLINE)
        attempt = pool.submit(ConjurWriter(session).delete, f"{own.branch}/y")
        session.close()
        assert "the session is closed" in str(attempt.exception(DEADLINE))
        assert not other.done()


def test_who_waits_for_another_replica_keeps_no_thread_of_its_own_waiting(standin: StandIn, own: Conjur) -> None:
    """Conjur names a long pause, but the other replica's load is over soon."""
    standin.set_retry_after(60)
    session = open_session(own.settings(access_mode="read_and_write"))
    with ThreadPoolExecutor(1) as pool:
        with standin.policy_lock:
            patient = pool.submit(ConjurWriter(session).delete, f"{own.branch}/x")
            until(lambda: 409 in {call.status for call in standin.requests}, "the conflict")
        ConjurWriter(session, patience=1).delete(f"{own.branch}/y")
        assert not patient.done()
        session.close()
        assert "the session is closed" in str(patient.exception(DEADLINE))


def test_who_waits_is_let_go_when_the_session_closes(standin: StandIn, own: Conjur) -> None:
    """Or the service could not end while others load policies."""
    standin.set_retry_after(60)
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")), patience=1000)
    with standin.policy_lock, ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(writer.delete, f"{own.branch}/x")
        until(lambda: "PATCH policies" in asked(standin), "the conflict")
        session.close()
        error = attempt.exception(timeout=5)
    assert "the session is closed" in str(error)


@pytest.mark.parametrize("value", ["\u2003", "\x85", "\x1c"])
def test_whether_a_value_is_blank_to_conjur_it_says_itself(standin: StandIn, own: Conjur, value: str) -> None:
    """Of what is more than ASCII's white space."""
    writer, variable = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write"))), own.variable()
    writer.write(variable, value)
    assert own.get(variable).decode() == value
    standin.fail_next(422, path="/secrets", answer=wire.error(422, "argument_error", "'value' may not be empty"))
    with pytest.raises(BadRequest, match="Conjur does not accept this"):
        writer.write(variable, value)
    session.close()


def test_two_writers_of_one_variable_who_clash_are_parted(standin: StandIn, own: Conjur) -> None:
    """Conjur says 500 to one of them, who tries again, after longer and longer; a fault that stays is told as one."""
    variable, waits = own.variable("x"), list[float]()
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")), wait=waits.append)
    standin.fail_next(500, times=len(CLASH_PAUSES), path="/secrets")
    writer.write(variable, "y")
    assert own.get(variable) == b"y"
    assert [low <= wait <= high for wait, (low, high) in zip(waits, CLASH_PAUSES, strict=True)] == [True] * 5
    before = len(standin.requests)
    standin.fail_next(500, times=TRIES, path="/secrets")
    with pytest.raises(ServerFault, match="HTTP 500"):
        writer.write(variable, "z")
    assert asked(standin, since=before) == ["POST secrets"] * TRIES
    session.close()


def test_a_server_that_is_down_is_not_asked_as_often_for_each_variable(standin: StandIn, own: Conjur) -> None:
    """A fault that stays for one is taken for the server's."""
    names, waits = [own.variable("x") for _ in range(10)], list[float]()
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")), wait=waits.append)
    standin.fail_next(500, times=100, path="/secrets")
    before = len(standin.requests)
    with pytest.raises(SeveralFailed):
        writer.write_many(dict.fromkeys(names, "y"))
    assert asked(standin, since=before) == ["login"] + ["POST secrets"] * (TRIES + 9)
    session.close()


def test_replicas_that_write_one_variable_all_succeed(standin: StandIn, own: Conjur) -> None:
    """Twelve threads in each: those of a process take turns, and who meets another process tries again."""
    standin.set_write_seconds(0.02)
    variable, settings = own.variable("x"), own.settings(access_mode="read_and_write")
    sessions = [open_session(settings) for _ in range(3)]
    writers = [ConjurWriter(session) for session in sessions for _ in range(12)]
    values = [f"value-{number}" for number in range(len(writers))]
    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(lambda writer, value: writer.write(variable, value), writers, values))
    assert own.get(variable).decode() in values
    assert 500 in {call.status for call in standin.requests}, "they did meet"
    for session in sessions:
        session.close()


def test_a_process_writes_a_variable_once_at_a_time(standin: StandIn, own: Conjur) -> None:
    """So its threads do not clash, 0 of 60; each value is stored, and one of them last."""
    standin.set_write_seconds(0.02)
    variable, session = own.variable("x"), open_session(own.settings(access_mode="read_and_write"))
    for attempt in range(5):
        values = [f"value-{attempt}-{number}" for number in range(12)]
        with ThreadPoolExecutor(len(values)) as pool:
            list(pool.map(lambda value: ConjurWriter(session).write(variable, value), values))
        assert own.get(variable).decode() in values
    assert 500 not in {call.status for call in standin.requests}
    session.close()


def test_what_fails_for_one_variable_does_not_keep_the_others(standin: StandIn, own: Conjur) -> None:
    """Those that could be written are."""
    first, second = own.variable("x"), own.variable("x")
    told: list[bool] = []
    session = open_session(own.settings(access_mode="read_and_write"))
    writer = ConjurWriter(session, lambda: told.append(True), lambda _: None)
    standin.fail_next(500, times=TRIES, path=first.rpartition("/")[2])
    with pytest.raises(ServerFault):
        writer.write_many({first: "y", second: "y"})
    assert (own.get(first), own.get(second), told) == (b"x", b"y", [True])
    standin.fail_next(500, times=TRIES, path=first.rpartition("/")[2])
    with pytest.raises(ServerFault):
        writer.write(first, "y")
    assert told == [True], "nothing was written"
    session.close()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Variable 'x' not found\n in account", "Variable 'x' not found in account."),
        ("long " * 100, "Conjur does not accept the policy: " + ("long " * 60)[:300] + "…."),
    ],
    ids=["short", "long"],
)
def test_what_conjur_says_of_a_policy_is_passed_on(standin: StandIn, own: Conjur, message: str, shown: str) -> None:
    """In one line of bearable length: a policy holds no values. What it says of anything else is not."""
    writer = ConjurWriter(session := open_session(own.settings(access_mode="read_and_write")))
    standin.fail_next(422, path="/policies", answer=wire.error(422, "policy_invalid", message))
    with pytest.raises(BadRequest) as caught:
        writer.write(path := f"{own.branch}/{unique('x')}", "y")
    assert caught.value.subject == f"default:variable:{path}"
    assert shown in f"{caught.value.cause}."
    standin.fail_next(422, path="/secrets", answer=wire.error(422, "argument_error", "canary"))
    with pytest.raises(BadRequest, match="Conjur does not accept this") as caught:
        writer.write(path, "y")
    assert "canary" not in str(caught.value)
    session.close()


# --- answers that are not Conjur's ---


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/authenticate", 401),
        *[(path, status) for path in ("/authenticate", "/secrets", "/policies", "/resources") for status in PAGES],
    ],
)
def test_a_page_is_never_taken_for_an_answer(standin: StandIn, own: Conjur, path: str, status: int) -> None:
    """Of a login, a read, a batch, a write, a policy load, a list: a proxy in Conjur's place is named as such."""
    variable = own.variable("x")
    session = open_session(own.settings(access_mode="read_and_write", variables=variable))
    writer = ConjurWriter(session)
    attempts: dict[str, list[Callable[[], object]]] = {
        "/authenticate": [lambda: writer.read(variable)],
        "/secrets": [
            lambda: writer.read(variable),
            lambda: writer.read_many([(variable, None), (f"{own.branch}/other", None)]),
            lambda: writer.write(variable, "y"),
        ],
        "/policies": [lambda: writer.delete(variable), lambda: writer.write(f"{own.branch}/{unique('x')}", "x")],
        "/resources": [writer.list, lambda: writer.annotations(variable)],
    }
    for attempt in attempts[path]:
        standin.fail_next(status, path=path, answer=html(status))
        with pytest.raises(UnexpectedAnswer, match="CONJUR_APPLIANCE_URL") as caught:
            attempt()
        assert "canary" not in str(caught.value)
    session.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(standin: StandIn, own: Conjur, status: int) -> None:
    """Neither with the API key, nor with a token or a value: Conjur's API has none."""
    variable = own.variable("x")
    with StandIn() as other:
        away = Answer(status, {"Location": f"{other.url}/x", "Content-Length": "0"}, b"")
        acts: list[tuple[str, Callable[[ConjurWriter], object]]] = [
            ("/authenticate", lambda writer: writer.read(variable)),
            ("/secrets", lambda writer: writer.read(variable)),
            ("/secrets", lambda writer: writer.write(variable, "y")),
            ("/policies", lambda writer: writer.delete(variable)),
        ]
        for path, act in acts:
            session = open_session(own.settings(access_mode="read_and_write"))
            standin.fail_next(status, path=path, answer=away)
            with pytest.raises(UnexpectedAnswer, match=f"HTTP {status}, a redirect"):
                act(ConjurWriter(session))
            session.close()
    assert other.requests == []
    assert own.get(variable) == b"x"


def test_a_route_that_conjur_does_not_have_is_told_from_a_variable(standin: StandIn, own: Conjur) -> None:
    """Its 404 has no body then."""
    standin.fail_next(404, path="/secrets")
    with pytest.raises(UnexpectedAnswer, match="there is no such route"):
        ConjurVariables(conjur_source(own.settings()).session).read("x")


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[]", b'{"payload": "canary"}', b'"canary"', b"\xff\xfe"])
def test_a_login_that_brings_no_token_is_no_login(standin: StandIn, own: Conjur, body: bytes) -> None:
    """Whatever it brings instead."""
    standin.fail_next(200, path="/authenticate", answer=wire.content(body, "application/json"))
    with pytest.raises(UnexpectedAnswer, match="no token in it"):
        ConjurVariables(conjur_source(own.settings()).session).read("x")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"default:variable:a": 1}', b"canary"])
def test_a_batch_that_lacks_something_is_no_answer(standin: StandIn, own: Conjur, body: bytes) -> None:
    """What is missing is not passed over."""
    standin.fail_next(200, path="variable_ids", answer=wire.content(body, "application/json"))
    with pytest.raises(UnexpectedAnswer, match="not the variables that were asked for"):
        conjur_source(own.settings(variables="a,b")).load()


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_passing_fault_of_the_servers_is_repeated(standin: StandIn, own: Conjur, status: int) -> None:
    """For reads; one that stays is told as such."""
    variable = own.variable("x")
    variables = ConjurVariables(session := open_session(own.settings()))
    standin.fail_next(status, times=2, path="/secrets")
    assert variables.read(variable).data
    standin.fail_next(status, times=4, path="/secrets")
    with pytest.raises(ServerFault, match=f"HTTP {status}"):
        variables.read(variable)
    session.close()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(hang=True), "no answer within VAULT_TIMEOUT"),
        (Fault(reset=True), "no connection"),
        (Fault(cut=True), "connection"),
    ],
    ids=["hangs", "resets", "cuts"],
)
def test_a_network_that_fails_is_told_as_that(own: Conjur, fault: Fault, said: str) -> None:
    """With the variable that names the address, and Conjur's name."""
    variable = own.variable("xxxxxx")
    proxy = FaultyProxy(own.url, lambda _method, path: fault if path.startswith("/secrets") else None)
    with proxy.running() as url:
        session = open_session(own.settings(appliance_url=url, timeout=2))
        with pytest.raises(VaultUnreachable, match=said) as caught:
            ConjurVariables(session).read(variable)
        session.close()
    assert "CONJUR_APPLIANCE_URL" in caught.value.remedy
    assert "Conjur" in caught.value.remedy


def test_a_server_that_restarts_is_found_again(standin: StandIn, own: Conjur) -> None:
    """Over new connections, with the same token."""
    variable = own.variable("x")
    variables = ConjurVariables(session := open_session(own.settings()))
    variables.read(variable)
    standin.stop()
    with pytest.raises(VaultUnreachable, match="CONJUR_APPLIANCE_URL"):
        variables.read(variable)
    standin.start()
    assert variables.read(variable).data
    session.close()


# --- TLS ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a CA."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secure(authority: Authority) -> Iterator[StandIn]:
    """Return a stand-in that wants a client certificate."""
    certificate, key = authority.issue("conjur")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    with StandIn(tls=context) as standin:
        yield standin


def secured(standin: StandIn, **tls: Any) -> Settings:
    """Return settings."""
    conjur = {"enabled": True, "appliance_url": standin.url, "account": standin.account}
    key = {"authn_login": "admin", "authn_api_key": standin.admin_api_key}
    return Settings.model_validate({"conjur": {**conjur, **key, **tls}, "vault": {"access_mode": "read_and_write"}})


@pytest.mark.parametrize("form", ["file", "text"])
def test_mutual_tls_is_spoken(secure: StandIn, authority: Authority, form: str) -> None:
    """The CA comes from a file or as text; the pair is presented to the appliance or its proxy."""
    pair = dict(zip(("client_cert", "client_key"), authority.issue("app"), strict=True))
    ca = {"cert_file": authority.file} if form == "file" else {"ssl_certificate": authority.file.read_text()}
    assert ConjurWriter(conjur_source(secured(secure, **ca, **pair)).session).list() == []


def test_a_rotated_pair_is_picked_up(secure: StandIn, authority: Authority, tmp_path: Path) -> None:
    """A handshake that fails leads to one login with what the files hold now."""
    stranger = Authority(tmp_path / "stranger")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(issuer: Authority) -> None:
        for file, made in zip(files, issuer.issue("app"), strict=True):
            file.write_bytes(Path(made).read_bytes())

    put(authority)
    pair = {"client_cert": files[0], "client_key": files[1]}
    session = conjur_source(secured(secure, cert_file=authority.file, **pair)).session
    writer = ConjurWriter(session)
    writer.list()
    put(stranger)
    held = session.current()
    assert held is not None
    held.replace_at = 0.0
    with pytest.raises(BackendError):
        writer.list()
    put(authority)
    assert writer.list() == []


def test_a_ca_that_changes_is_picked_up(authority: Authority, tmp_path: Path) -> None:
    """The call that meets the new certificate reads the CA again, and succeeds."""
    new, ca = Authority(tmp_path / "new"), tmp_path / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("conjur"))
    ca.write_bytes(authority.file.read_bytes())
    with StandIn(tls=context) as standin:
        writer = ConjurWriter(conjur_source(secured(standin, cert_file=ca)).session)
        assert writer.list() == []
        standin.stop()
        context.load_cert_chain(*new.issue("conjur"))
        standin.start()
        with pytest.raises(VaultTLSFailed, match="CONJUR_CERT_FILE"):
            writer.list()
        ca.write_bytes(new.file.read_bytes())
        assert writer.list() == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({}, "certificate"),
        ({"cert_file": "nowhere.pem"}, "CONJUR_CERT_FILE=nowhere.pem"),
        ({"ssl_certificate": "canary"}, "CONJUR_SSL_CERTIFICATE: cannot be loaded"),
        ({"client_cert": "nowhere.pem", "client_key": "nowhere.pem"}, "CONJUR_CLIENT_CERT=nowhere.pem"),
    ],
)
def test_tls_that_does_not_come_about_is_named(secure: StandIn, broken: dict[str, str], said: str) -> None:
    """With the variable, or OpenSSL's own reason."""
    with pytest.raises(VaultTLSFailed, match=said) as caught:
        ConjurWriter(conjur_source(secured(secure, **broken)).session).list()
    assert "canary" not in str(caught.value)
