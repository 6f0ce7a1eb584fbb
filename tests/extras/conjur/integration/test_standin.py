"""The stand-in answers as the real server did, and a difference would be noticed."""

import base64
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import requests

from tests.extras.conjur import wire
from tests.extras.conjur.jwt_logins import make_jwt
from tests.extras.conjur.recording import RECORDINGS, Message, Recording, differences, recordings
from tests.extras.conjur.replay import AS_APP1, BASIC, BEFORE, INSTEAD, NEW_SERVER, replay_all
from tests.extras.conjur.standin import Call, StandIn
from tests.pki import Authority
from tests.support import DEADLINE

ALL = recordings()


@pytest.fixture(scope="module")
def replayed() -> dict[str, list[str]]:
    """Return what differs, for each recording."""
    return replay_all()


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """Return a new server."""
    with StandIn() as standin:
        yield standin


class Client(requests.Session):
    """Somebody who is logged in."""

    def __init__(self, standin: StandIn, login: str = "admin", key: str = "") -> None:
        super().__init__()
        self.standin = standin
        target = f"/authn/default/{login.replace('/', '%2F')}/authenticate"
        answer = self.ask("POST", target, key or standin.admin_api_key, {"Accept-Encoding": "base64"})
        self.headers["Authorization"] = f'Token token="{answer.text}"'

    def ask(self, method: str, target: str, body: str = "", headers: dict[str, str] | None = None) -> requests.Response:
        """Send a request."""
        return self.request(method, self.standin.url + target, data=body.encode(), headers=headers, timeout=DEADLINE)

    def declare(self, *ids: str) -> requests.Response:
        """Declare variables in the root policy."""
        return self.ask("POST", "/policies/default/policy/root", "".join(f"- !variable {one}\n" for one in ids))


@pytest.fixture
def admin(standin: StandIn) -> Iterator[Client]:
    """Return the admin's client."""
    with Client(standin) as client:
        yield client


@pytest.mark.parametrize("recording", ALL, ids=lambda recording: recording.name)
def test_the_stand_in_answers_as_recorded(recording: Recording, replayed: dict[str, list[str]]) -> None:
    """Status, headers and body."""
    assert not replayed[recording.name]


def test_every_recording_is_replayed(replayed: dict[str, list[str]]) -> None:
    """Each heading in the files, whatever the parser makes of it; and every step belongs to one."""
    headings = Counter(
        f"{file.stem}: {title}"
        for file in RECORDINGS.glob("*.txt")
        for title in re.findall(r"^### *(.*?)\s*$", file.read_text(), re.MULTILINE)
    )
    assert headings == Counter(list(replayed))
    assert {*BEFORE, *AS_APP1, *BASIC, NEW_SERVER} <= replayed.keys()
    assert INSTEAD.keys() <= {name.partition(": statuses")[0] for name in replayed}


def test_requests_are_read_in_full() -> None:
    """The recorded lengths are those of the bodies."""
    complete = [one for one in ALL if not one.body.startswith((b"<ADMIN_API_KEY>", b"@"))]
    lengths = {one.name: int(dict(one.headers).get("Content-Length", "0")) for one in complete}
    assert lengths == {one.name: len(one.body) for one in complete}
    assert sum(length > 0 for length in lengths.values()) > 50


def without(answer: Message, header: str) -> Message:
    """Return the answer with one header less."""
    return replace(answer, headers={name: text for name, text in answer.headers.items() if name != header})


RECORDED = next(one.answer for one in ALL if one.title == "resource after 25 versions" and one.answer)
TOKEN = next(one.answer for one in ALL if one.title == "authenticate, admin" and one.answer)
CONFLICT = next(one.answer for one in ALL if one.answer and "retry-after" in one.answer.headers)
WRONG = {
    "another status": (RECORDED, replace(RECORDED, status="404 Not Found")),
    "another reason": (RECORDED, replace(RECORDED, status="200 Fine")),
    "a header missing": (RECORDED, without(RECORDED, "vary")),
    "a header more": (RECORDED, replace(RECORDED, headers={**RECORDED.headers, "www-authenticate": "Token"})),
    "another type": (RECORDED, replace(RECORDED, headers={**RECORDED.headers, "content-type": "application/json"})),
    "another value": (RECORDED, replace(RECORDED, body=RECORDED.body.replace(b'"version":25', b'"version":26'))),
    "another order": (RECORDED, replace(RECORDED, body=RECORDED.body.replace(b'"execute"', b'"update"', 1))),
    "another form of time": (RECORDED, replace(RECORDED, body=RECORDED.body.replace(b".505+00:00", b"Z"))),
    "no body": (RECORDED, replace(RECORDED, body=b"")),
    "another lifetime": (TOKEN, replace(TOKEN, body=TOKEN.body.replace(b"Njg1fQ", b"Njg2fQ"))),
    "too long a pause": (CONFLICT, replace(CONFLICT, headers={**CONFLICT.headers, "retry-after": "9"})),
    "no pause": (CONFLICT, without(CONFLICT, "retry-after")),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_is_noticed(wrong: str) -> None:
    """By the comparison that the replay uses."""
    recorded, live = WRONG[wrong]
    assert not differences(recorded, recorded)
    assert differences(recorded, live)


def test_a_wrong_stand_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that shows what it should hide fails in the recordings about that, and one that sends no ETag nearly all."""
    with monkeypatch.context() as patch:
        patch.setattr("tests.extras.conjur.records.Records.visible_to", lambda self, _: set(self.records))
        failed = {name for name, found in replay_all().items() if found}
    assert "04-secrets: exists, but invisible to host: litellm/vk-1" in failed
    assert "07-resources: list variables (host app1: only visible ones)" in failed
    assert len(failed) < 20
    with monkeypatch.context() as patch:
        patch.setattr("tests.extras.conjur.wire.etag", lambda _: "")
        assert sum(bool(found) for found in replay_all().values()) > 90


# what is known of the real server without a recording in this folder


def test_a_request_id_is_echoed(admin: Client) -> None:
    """And made up where none is sent."""
    assert admin.ask("GET", "/whoami", headers={"X-Request-Id": "mine"}).headers["X-Request-Id"] == "mine"
    assert admin.ask("GET", "/whoami").headers["X-Request-Id"]


def test_a_plus_in_a_batch_is_a_space(admin: Client) -> None:
    """Unlike in a path; and of two lists of ids the last counts."""
    admin.declare('"a b"', "a+b")
    admin.ask("POST", "/secrets/default/variable/a%20b", "space")
    admin.ask("POST", "/secrets/default/variable/a+b", "plus")
    batch = "/secrets?variable_ids=default:variable:"
    assert admin.ask("GET", f"{batch}a+b").json() == {"default:variable:a b": "space"}
    assert admin.ask("GET", f"{batch}a%2Bb").json() == {"default:variable:a+b": "plus"}
    assert admin.ask("GET", f"{batch}x&{batch[9:]}a%2Bb").status_code == 200


def test_a_batch_is_in_base64_only_if_nothing_else_would_do(admin: Client) -> None:
    """`gzip, base64` is taken for gzip; a long value is broken into lines, as Ruby does."""
    admin.declare("long")
    admin.ask("POST", "/secrets/default/variable/long", "x" * 100)
    target = "/secrets?variable_ids=default:variable:long"
    assert admin.ask("GET", target, headers={"Accept-Encoding": "gzip, base64"}).json().popitem()[1] == "x" * 100
    encoded = admin.ask("GET", target, headers={"Accept-Encoding": "base64"}).json().popitem()[1]
    assert [len(line) for line in encoded.splitlines()] == [60, 60, 16]
    assert base64.b64decode(encoded) == b"x" * 100


@pytest.mark.parametrize("other", ["nowhere", "unset"])
def test_a_failed_batch_says_base64_of_a_body_that_is_json(admin: Client, other: str) -> None:
    """Where that was asked for; so 1.22.3."""
    admin.declare("x", "unset")
    admin.ask("POST", "/secrets/default/variable/x", "value")
    target = f"/secrets?variable_ids=default:variable:x,default:variable:{other}"
    answer = admin.ask("GET", target, headers={"Accept-Encoding": "base64"})
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (404, "base64")
    assert answer.json()["error"]["message"] == f"CONJ00076E Variable default:variable:{other} is empty or not found."
    assert "Content-Encoding" not in admin.ask("GET", target).headers


def test_one_version_more_pushes_out_the_oldest_of_twenty(admin: Client) -> None:
    """So do 25."""
    admin.declare("x")
    for number in range(25):
        admin.ask("POST", "/secrets/default/variable/x", str(number))
    found = [version for version in range(30) if admin.ask("GET", f"/secrets/default/variable/x?version={version}").ok]
    assert found == list(range(6, 26))


def test_groups_hand_on_what_they_may(admin: Client) -> None:
    """`!grant` and `!revoke`, `!permit` and `!deny`."""
    policy = """
    - !host app
    - !group readers
    - !variable x
    - !permit { role: !group readers, privileges: [read, execute], resources: !variable x }
    - !grant { role: !group readers, member: !host app }
    """
    branch = "/policies/default/policy/root"
    key = admin.ask("POST", branch, policy).json()["created_roles"]["default:host:app"]["api_key"]
    admin.ask("POST", "/secrets/default/variable/x", "value")
    with Client(admin.standin, "host/app", key) as host:
        assert host.ask("GET", "/secrets/default/variable/x").text == "value"
        admin.ask("PATCH", branch, "- !deny { role: !group readers, privilege: execute, resource: !variable x }")
        assert host.ask("GET", "/secrets/default/variable/x").status_code == 403
        admin.ask("PATCH", branch, "- !revoke { role: !group readers, member: !host app }")
        assert host.ask("GET", "/secrets/default/variable/x").status_code == 404


def test_only_patch_and_put_change_an_annotation(admin: Client) -> None:
    """`POST` adds, but leaves what is there."""
    seen = []
    for method, value in [("POST", "one"), ("POST", "two"), ("PATCH", "three"), ("PUT", "four")]:
        policy = f"- !variable {{ id: x, annotations: {{ note: {value} }} }}"
        assert admin.ask(method, "/policies/default/policy/root", policy).status_code == 201
        seen.append(admin.ask("GET", "/resources/default/variable/x").json()["annotations"][0]["value"])
    assert seen == ["one", "one", "three", "four"]


def test_a_refused_policy_changes_nothing(admin: Client) -> None:
    """It is all or nothing, and takes no version."""
    refused = admin.declare("good", "{ id: bad, nonsense: x }")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "policy_invalid")
    assert admin.ask("GET", "/resources/default/variable?count=true").json() == {"count": 0}
    assert admin.declare("good").json()["version"] == 1


POLICIES = {  # refused by the real server; the words are those of its parser
    "!variable z": "Error at line 1, column 0 in policy : Unexpected scalar",
    "z": "Error at line 1, column 0 in policy : Unexpected scalar",
    "id: 5": "Error at line 0, column 3 in policy : Unexpected mapping",
    "!variable\nid: z": "Error at line 1, column 3 in policy : Unexpected mapping",
    "- !variable\n  id: 5": "Error at line 2, column 0 in policy : Expected a string for field 'id', got Integer",
    "- !variable\n  id: 5.5": "Error at line 2, column 0 in policy : Expected a string for field 'id', got Float",
    "- !variable\n  id: on": "Error at line 2, column 0 in policy : Expected a string for field 'id', got TrueClass",
    "- !variable\n  id: 2026-11-27": "Error at line 2, column 0 in policy : Expected a string for field 'id', got Date",
    "- !policy\n  id: p\n  body:\n  - !host\n    id: no\n  - !group g": (
        "Error at line 5, column 0 in policy : Expected a string for field 'id', got FalseClass"
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_that_is_no_list_of_records_with_text_is_refused(admin: Client, policy: str) -> None:
    """A statement by itself, and an id that YAML takes for a number, a date or a truth."""
    for method in ("POST", "PATCH", "PUT"):
        answer = admin.ask(method, "/policies/default/policy/root", policy)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert (error["code"], error["message"]) == ("policy_invalid", POLICIES[policy])


@pytest.mark.parametrize("policy", ["- !variable 5", '- !variable { id: "5" }', "- !variable\n  id: 'on'", "---", "[]"])
def test_numbers_are_ids_where_they_are_text(admin: Client, policy: str) -> None:
    """Behind a tag, or in quotes; and nothing is a policy, too."""
    assert admin.ask("POST", "/policies/default/policy/root", policy).status_code == 201


def test_parallel_loads_meet(admin: Client) -> None:
    """As on the real server, of twelve at once some are refused; of those that are not, each took effect."""
    admin.standin.set_load_seconds(0.2)  # also on a machine that is busy
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda number: admin.declare(f"conc-{number}"), range(12)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {201, 409}
    found = admin.ask("GET", "/resources/default/variable?search=conc&count=true").json()
    assert found == {"count": statuses[201]}


def test_parallel_writes_of_one_variable_clash(admin: Client) -> None:
    """Some are answered with 500 and without effect; writes of several variables do not."""
    admin.declare(*(f"write-{number}" for number in range(13)))
    admin.standin.set_write_seconds(0.2)
    one = ["/secrets/default/variable/write-12", "/secrets/default/variable/%77rite%2D12"]  # however it is spelled
    targets = one * 6, [f"/secrets/default/variable/write-{n}" for n in range(12)]
    for target, statuses in zip(targets, ({201, 500}, {201}), strict=True):
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda each: admin.ask("POST", each, each), target))
        assert {answer.status_code for answer in answers} == statuses


# the switches


def test_a_jwt_logs_in_where_it_is_accepted(admin: Client) -> None:
    """At one service, for one host. What is wrong is said of an expired one only; a lacking permit is a 403."""
    standin = admin.standin
    admin.ask("POST", "/policies/default/policy/root", "- !host app\n- !host other\n")
    login = partial(requests.post, timeout=DEADLINE)
    target = f"{standin.url}/authn-jwt/ci/default/authenticate"
    jwts = {name: make_jwt(name) for name in ("good", "not-permitted", "unknown-host")}
    jwts |= {"expired": make_jwt("expired", exp=1), "early": make_jwt("early", nbf=2**40)}
    for name, jwt in jwts.items():
        standin.jwt_service("ci").hosts[jwt] = {"not-permitted": "host/other", "unknown-host": "host/no"}.get(
            name, "host/app"
        )
    standin.accept_jwt("ci", jwts["good"], "host/app")
    statuses = {name: login(target, data={"jwt": jwt}).status_code for name, jwt in jwts.items()}
    assert statuses == {"good": 200, "not-permitted": 403, "unknown-host": 401, "expired": 401, "early": 401}
    said = login(target, data={"jwt": jwts["expired"]}).json()
    assert said == {"error": {"code": "unauthorized", "message": "CONJ00016E Token expired"}}
    good = {"jwt": jwts["good"]}
    in_url = target.replace("/authenticate", "/host%2Fapp/authenticate")
    others = [login(target, data={"jwt": make_jwt("other")}), login(target.replace("/ci/", "/x/"), data=good)]
    assert [(each.status_code, each.content) for each in [*others, login(in_url, data=good)]] == [(401, b"")] * 3
    assert login(target).status_code == 400
    standin.jwt_service("ci").token_app_property = False
    assert (login(in_url, data=good).status_code, login(target, data=good).status_code) == (200, 401)
    standin.jwt_service("ci").enabled = False
    assert login(in_url, data=good).status_code == 401
    told = admin.ask("GET", "/authenticators").json()
    assert (told["configured"], told["enabled"]) == (["authn", "authn-jwt/ci"], ["authn"])


def test_tokens_end_when_time_passes_or_a_test_says_so(standin: StandIn) -> None:
    """A token that is issued afterwards is good."""
    ends: list[Callable[[], None]] = [lambda: standin.advance(481), standin.expire_tokens]
    for end in ends:
        with Client(standin) as client:
            assert client.ask("GET", "/whoami").ok
            end()
            assert client.ask("GET", "/whoami").text == "Unauthorized: Invalid token"


def test_the_key_of_the_admin_is_the_current_one(admin: Client) -> None:
    """Also after policy was loaded."""
    admin.declare("x")
    target = f"{admin.standin.url}/authn/default/api_key"
    answer = requests.put(target, auth=("admin", admin.standin.admin_api_key), timeout=DEADLINE)
    assert answer.text == admin.standin.admin_api_key


def test_what_is_to_fail_fails_so_often_and_has_no_effect(admin: Client) -> None:
    """And only what was meant."""
    admin.declare("x")
    admin.standin.requests.clear()
    admin.standin.fail_next(500, times=2, method="POST", path="/variable/x")
    admin.standin.fail_next(502, path="/whoami", answer=wire.Answer(502, {"Content-Length": "4"}, b"<br>"))
    assert admin.ask("GET", "/whoami").text == "<br>"
    statuses = [admin.ask("POST", "/secrets/default/variable/x", str(number)).status_code for number in range(3)]
    assert statuses == [500, 500, 201]
    assert admin.ask("GET", "/secrets/default/variable/x?version=1").text == "2"
    assert admin.standin.requests[:2] == [
        Call("GET", "/whoami", 502),
        Call("POST", "/secrets/default/variable/x", 500),
    ]


def test_held_requests_wait(admin: Client) -> None:
    """Until the block ends."""
    answers: list[requests.Response] = []
    with admin.standin.hold("/whoami") as came:
        thread = Thread(target=lambda: answers.append(admin.ask("GET", "/whoami")))
        thread.start()
        assert came.wait(DEADLINE)
        assert not answers
    thread.join(DEADLINE)
    assert answers[0].ok


def test_it_can_go_away_and_come_back(admin: Client) -> None:
    """With what it held, on the same port."""
    admin.standin.stop()
    with pytest.raises(requests.ConnectionError):
        admin.ask("GET", "/whoami")
    admin.standin.start()
    assert admin.ask("GET", "/whoami").ok


def test_it_speaks_tls_and_may_demand_a_certificate(tmp_path: Path) -> None:
    """Of its own authority."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(*authority.issue("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key = authority.issue("client")
    with StandIn(tls=context) as standin:
        ask = partial(requests.get, standin.url, verify=str(authority.file), timeout=DEADLINE)
        assert ask(cert=(str(certificate), str(key))).ok
        with pytest.raises(requests.ConnectionError):
            ask()
