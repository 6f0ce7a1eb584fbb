"""How is everything recorded sent again, in order, to a stand-in?

What stands between the recordings without being one (policies and values that were made on the side, time that passed)
is in `BEFORE`; what was noted of several requests at once is done again in `INSTEAD`.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.extras.conjur.recording import Message, Recording, differences, keys, recordings, send
from tests.extras.conjur.standin import StandIn

ADMIN, APP1, APP2, WRITER = "admin", "host/apps/app1", "host/apps/app2", "host/writer"
# which recorded key logs in as whom
RECORDED_KEYS = {
    ADMIN: "<ADMIN_API_KEY>",
    APP1: "z0f3zm34a33r3g97ky8fn2p5vhzdk6c4j377b1dbnzwhhagx1w",
    APP2: "hpfp271tpmt603q9hjhw17bh5gm2y72qt33qj5z2d1rd1pcn36t0ckm",
    WRITER: "2y6pz1h2yyz5he1gzm8qecq9y9cv2f3j21j5np69164rj6m214e6kw",
}
APP1_SECOND_KEY = "3c37v2rp2kpq234rnatg8tc2ek3kj7ym539vbh5cr5xsqe13gc715"
ALICE_KEY = "vqsckz3kn0hvq384wkkd27zrmb0fftvwj2saadphpc9dwq33av3m7"
# whose token a recorded request carries: the recordings show only its beginning; where nothing is said, the admin's
AS_APP1 = {
    "03-policy: host app1 loads root (no permission, policy not visible)",
    "03-policy: host app1 loads its own branch (no permission)",
    "04-secrets: get as host app1",
    "04-secrets: variable without a value (host with execute)",
    "04-secrets: missing variable (host)",
    "04-secrets: visible, not executable: host has read only",
    "04-secrets: exists, but invisible to host: litellm/vk-1",
    "04-secrets: set: host without update, but visible",
    "04-secrets: set: host, invisible variable",
    "06-batch: one id visible but not executable -> all 403",
    "06-batch: one id INVISIBLE to the host -> 403 here (single GET: 404)",
    "07-resources: list variables (host app1: only visible ones)",
    "07-resources: check execute, allowed",
    "07-resources: check update, denied (404, empty)",
    "09-hosts: whoami as host",
    "10-rotate-api-key: token issued before the rotation",
    "10-rotate-api-key: host rotates its own key with a TOKEN",
    "10-rotate-api-key: host rotates another's key (token)",
    "12-delete-replace: a deleted host's token",
    "12-delete-replace: a deleted host's token on a secret",
}
# what Basic credentials were, with the recorded keys; where nothing is said, the admin's
BASIC = {
    "01-authn: login: wrong password": "admin:wrong",
    "09-hosts: host login (basic)": f"{APP1}:{RECORDED_KEYS[APP1]}",
    "10-rotate-api-key: host rotates its own key with BASIC": f"{APP1}:{APP1_SECOND_KEY}",
    "10-rotate-api-key: basic with the old key": f"{APP1}:{RECORDED_KEYS[APP1]}",
    "10-rotate-api-key: alice rotates her own with basic": f"alice:{ALICE_KEY}",
    "15-least-privilege: writer: rotates own key with basic": f"{WRITER}:{RECORDED_KEYS[WRITER]}",
}
FILES = {b"@bin.dat": bytes.fromhex("0001fffe62696e"), b"@big.dat": b"x" * 307200}
NEW_SERVER = "15-least-privilege: admin: a host that may create in root, and owns branch llm"  # recorded from another
SPECIAL_IDS = [
    *("my var", "plus+plus", "at@x", "colon:x", "hash#x", "q?x", "pct%2Fx", "ümlaut☃", "comma,x", "dot.json", "semi;x"),
    *("tilde~()*!x", 'quote"x', "back\\slash", "a/../b"),
]


class Replay:
    """Sends the recorded requests to a stand-in, with live keys and tokens in place of the recorded ones."""

    def __init__(self) -> None:
        self.standin = StandIn()
        self.keys = {RECORDED_KEYS[ADMIN]: self.standin.admin_api_key}
        self.tokens: dict[str, bytes] = {}

    def run(self, recording: Recording) -> list[str]:
        """Replay one; return how the answer differs."""
        if preparation := BEFORE.get(recording.name):
            preparation(self)
        if step := INSTEAD.get(recording.name.partition(": statuses")[0]):
            return step(self, recording)
        assert recording.answer
        recorded = replace(recording.answer, body=self._live(recording.answer.body))
        headers = {name: self._credentials(recording, value) for name, value in recording.headers}
        body = FILES.get(recording.body, self._live(recording.body))
        if "Content-Length" in headers:
            headers["Content-Length"] = str(len(body))
        live = send(self.standin.url, recording.method, recording.target, headers, body)
        if recording.title.startswith("authenticate"):
            self.latest = live.body
        self.keys |= dict(zip(keys(recorded.body), keys(live.body), strict=False))
        found = differences(recorded, live)
        if recording.read_back is not None:
            value = self.ask("GET", recording.target).body
            found += [] if value == recording.read_back else [f"read back: {value!r}"]
        return found

    def ask(self, method: str, target: str, body: bytes = b"", login: str = ADMIN) -> Message:
        """Send a request that is not recorded."""
        header = f'Token token="{base64.b64encode(self.token(login)).decode()}"'
        return send(self.standin.url, method, target, {"Authorization": header, "Content-Length": str(len(body))}, body)

    def token(self, login: str) -> bytes:
        """Return the token of `login`, made when it is first needed and kept from then on."""
        if login not in self.tokens:
            self.tokens[login] = self._authenticated(login)
        return self.tokens[login]

    def _authenticated(self, login: str) -> bytes:
        target = f"/authn/default/{login.replace('/', '%2F')}/authenticate"
        key = self.keys[RECORDED_KEYS[login]].encode()
        return send(self.standin.url, "POST", target, {"Content-Length": str(len(key))}, key).body

    def _live(self, text: bytes) -> bytes:
        for recorded, live in self.keys.items():
            text = text.replace(recorded.encode(), live.encode())
        return text

    def _credentials(self, recording: Recording, value: str) -> str:
        if value == "Basic <base64 of login:key>":
            plain = self._live(BASIC.get(recording.name, f"{ADMIN}:{RECORDED_KEYS[ADMIN]}").encode())
            return f"Basic {base64.b64encode(plain).decode()}"
        if cut := re.match(r'(.*?[ =]"?)(?:eyJ|\{).{50,}', value):  # only the beginning of a real token was recorded
            scheme = cut[1]
            return scheme + self._presented(recording) + ('"' if scheme.endswith('"') else "")
        return self._live(value.encode()).decode()

    def _presented(self, recording: Recording) -> str:
        login = WRITER if recording.title.startswith("writer:") else APP1 if recording.name in AS_APP1 else ADMIN
        login = APP2 if re.match("(host )?app2 ", recording.title) else login
        token = self.latest if recording.title in {"at once", "4 s later: naturally expired"} else self.token(login)
        encoded = base64.b64encode(token).decode()
        match recording.title:
            case "raw JSON token, not base64":
                return token.decode()
            case "tampered payload (sub changed)":
                payload = base64.urlsafe_b64encode(b'{"iat":1795242205,"sub":"root","exp":4102444800}').decode()
                return base64.b64encode(json.dumps({**json.loads(token), "payload": payload}).encode()).decode()
            case "truncated token":
                return encoded[: len(encoded) // 2]
            case "url-safe base64 token":
                return base64.urlsafe_b64encode(token).decode()
            case "base64 without padding":
                return encoded.rstrip("=")
            case "expired token (minted with the server's own signing key, exp = now-1s)":
                self.standin.set_token_lifetime(-1)
                expired = self._authenticated(ADMIN)
                self.standin.set_token_lifetime(480)
                return base64.b64encode(expired).decode()
        return encoded


def load(policy: str, replay: Replay) -> None:
    """Load a policy that the recordings presuppose."""
    assert replay.ask("POST", "/policies/default/policy/root", policy.encode()).status == "201 Created"


def put(target: str, value: str, replay: Replay) -> None:
    """Set a value that the recordings presuppose."""
    assert replay.ask("POST", f"/secrets/default/variable/{target}", value.encode()).status == "201 Created"


def rotations(replay: Replay, recording: Recording) -> list[str]:
    """Write 24 versions, as a host that may."""
    target = "/secrets/default/variable/apps/rotated"
    statuses = [replay.ask("POST", target, b"value-%d" % number, APP1).status[:3] for number in range(2, 26)]
    return [] if statuses == recording.title.split("statuses ")[1].split() else [f"statuses: {statuses}"]


def loads_at_once(replay: Replay, recording: Recording) -> list[str]:
    """Load nine times while another load is in progress, and three times after."""
    assert recording.answer
    one = partial(replay.ask, "POST", "/policies/default/policy/root")
    with replay.standin.policy_lock:
        refused = [one(b"- !variable conc-%d" % number) for number in range(9)]
    assert {one(b"- !variable conc-%d" % number).status for number in range(3)} == {"201 Created"}
    return [difference for answer in refused for difference in differences(recording.answer, answer)]


def writes_at_once(replay: Replay, _: Recording) -> list[str]:
    """Write eight times with success, four times into a clash."""
    one = partial(replay.ask, "POST", "/secrets/default/variable/litellm/vk-1")
    replay.standin.fail_next(500, times=4, method="POST", path="/secrets/")
    answers = [one(b"value-%d" % number) for number in range(12)]
    assert [answer.status[:3] for answer in answers] == ["500"] * 4 + ["201"] * 8
    return [f"body: {answer.body!r}" for answer in answers if answer.body]


def restart(replay: Replay, _: Recording) -> list[str]:
    """Stop and start, with tokens that live for three seconds from then on."""
    replay.standin.stop()
    replay.standin.start()
    replay.standin.set_token_lifetime(3)
    return []


def read_back(replay: Replay, recording: Recording) -> list[str]:
    """Compare the length of what the recording before wrote."""
    length = len(replay.ask("GET", "/secrets/default/variable/rootvar").body)
    return [] if recording.title.endswith(f" {length}") else [f"bytes: {length}"]


APP2_PERMITS = """
- !permit { role: !host apps/app2, privileges: [read], resource: !policy root }
- !permit { role: !host apps/app2, privileges: [create], resource: !policy apps }
"""
BEFORE: dict[str, Callable[[Replay], None]] = {
    "03-policy: host app2 (read on root only): POST root": partial(load, APP2_PERMITS),
    "04-secrets: expire (POST ?expirations)": partial(put, "apps/openai/key", "sk-first"),
    "08-encoding: set  space as %20": partial(
        load, "- !policy\n  id: sp\n  body:\n" + "".join(f"  - !variable {json.dumps(one)}\n" for one in SPECIAL_IDS)
    ),
    "12-delete-replace: set before": partial(put, "litellm/vk-1", "to-be-lost"),
    "13-token-ttl: 4 s later: naturally expired": lambda replay: replay.standin.advance(4),
}
INSTEAD: dict[str, Callable[[Replay, Recording], list[str]]] = {
    "05-versions: 24 rotations by host app1 (update)": rotations,
    "11-concurrency: 12 policy loads (POST root) at once": loads_at_once,
    "11-concurrency: 12 writes (POST) of ONE existing variable, different values, at once": writes_at_once,
    "13-token-ttl: server restarted with CONJUR_USER_AUTHORIZATION_TOKEN_TTL=3 (default 480)": restart,
    "15-least-privilege: read back, bytes: 307200": read_back,
}


def replay_all() -> dict[str, list[str]]:
    """Replay every recording; return what differs in each, by name."""
    found: dict[str, list[str]] = {}
    replay = Replay()
    for recording in recordings():
        if recording.name == NEW_SERVER:
            replay.standin.stop()
            replay = Replay()
        found[recording.name] = replay.run(recording)
    replay.standin.stop()
    return found
