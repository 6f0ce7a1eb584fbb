"""What the status page shows, to whom, and what it never becomes: markup from elsewhere, a leak, an open door."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from app.config import Settings
from app.core.errors import VaultSealed
from app.core.logs.event_log import Event, Kind
from app.core.store.refresh import Refresher
from app.core.store.rotating import Rotating
from app.core.store.secret_store import SecretStore
from app.core.store.source import Connection, Secret, TokenLife
from app.core.store.source_refresher import SourceRefresher
from app.extras.status.report import Status, collect
from app.extras.status.status_page import SENTENCES, in_words, render
from app.extras.status.timeline import CROWD, LANES, timeline
from tests.declared import DeclaredForTests, create_app
from tests.support import SECRETS

PAGES = ["/status", "/status.json"]
KEY = SECRETS["api_key"]


def service(**settings: Any) -> FastAPI:
    """Return the service without Vault."""
    return create_app(Settings.model_validate({"secrets": SECRETS, "log_format": "json", **settings}))


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Call the service of a developer."""
    with TestClient(service()) as client:
        yield client


def basic(text: str) -> dict[str, str]:
    """Return what a browser sends after it has asked its user."""
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


class Elements(HTMLParser):
    """Collects a page's elements with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def problem_status(response: Response) -> int:
    """Return the status that a problem has in its body, too."""
    assert response.headers["content-type"] == "application/problem+json"
    status: int = response.json()["status"]
    assert status == response.status_code
    return status


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        pytest.param({}, 200, id="development"),
        pytest.param({"status_page": False}, 404, id="development, switched off"),
        pytest.param({"environment": "staging"}, 404, id="staging"),
        pytest.param({"environment": "production"}, 404, id="production"),
        pytest.param({"environment": "production", "status_page": False}, 404, id="production, switched off"),
        pytest.param({"environment": "production", "status_page": True}, 401, id="production, switched on"),
    ],
)
@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_sees_the_page_in_development_only(settings: dict[str, Any], status: int, path: str) -> None:
    """Where it is switched off there is none, with the right key or without."""
    with TestClient(service(**settings)) as client:
        answer = client.get(path)
        assert answer.status_code == status
        if status != 200:
            assert problem_status(answer) == status
        if status == 404:
            assert client.get(path, headers={"X-API-Key": KEY, **basic("garbage")}).status_code == 404


@pytest.mark.parametrize("path", PAGES)
def test_outside_development_the_api_key_opens_it_as_a_header_or_as_a_password(path: str) -> None:
    """A browser asks for a name and a password; any name will do."""
    with TestClient(service(environment="production", status_page=True)) as client:
        challenge = client.get(path).headers["www-authenticate"]
        assert challenge.startswith("Basic realm=")
        for right in (
            {"X-API-Key": KEY},
            basic(f"anybody:{KEY}"),
            basic(f":{KEY}"),
            {"X-API-Key": KEY, **basic("a:b")},
        ):
            assert client.get(path, headers=right).status_code == 200
        for wrong in (
            {"X-API-Key": KEY + "x"},
            basic(f"{KEY}:"),
            basic("a:b"),
            basic(KEY),
            {"Authorization": "Basic x"},
        ):
            answer = client.get(path, headers=wrong)
            assert problem_status(answer) == 401
            assert answer.headers["www-authenticate"].startswith("Basic")
            assert KEY not in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_without_an_api_key_to_compare_with_nobody_is_let_in(path: str) -> None:
    """Not even with an empty one."""
    with TestClient(service(environment="production", status_page=True, secrets={})) as client:
        for sent in ({}, {"X-API-Key": ""}, basic(":")):
            assert problem_status(client.get(path, headers=sent)) == 503


def test_a_password_does_not_open_the_other_doors() -> None:
    """A page of somebody else could use it: a browser sends it along by itself."""
    with TestClient(service(environment="production", status_page=True)) as client:
        assert client.post("/status/refresh", headers=basic(f"me:{KEY}")).status_code == 401
        assert client.post("/caller", headers=basic(f"me:{KEY}")).status_code == 401


def test_the_page_is_guarded_by_a_strict_policy_that_allows_exactly_its_own_style_and_script(
    client: TestClient,
) -> None:
    """By their hashes; nothing is loaded from elsewhere, and nothing inline beside them."""
    answer = client.get("/status")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    directives = answer.headers["content-security-policy"].split("; ")
    policy = {name: sources for name, *sources in (directive.split() for directive in directives)}
    for element in ("style", "script"):
        (text,) = re.findall(rf"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        assert policy[f"{element}-src"] == [
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        ]
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert policy["connect-src"] == ["'self'"]
    for tag, attributes in Elements(answer.text).found:
        assert not any(name == "style" or name.startswith("on") for name in attributes), (tag, attributes)
        assert not str(attributes.get("href", "")).startswith(("http", "//", "/")), attributes
        assert "src" not in attributes


def test_the_data_is_not_cached_and_documented(client: TestClient) -> None:
    """OpenAPI has the form of it; the page shows the same."""
    answer = client.get("/status.json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    status = Status.model_validate(answer.json())
    assert (status.is_ready, status.environment, status.sources) == (True, "development", ())
    assert {secret.name for secret in status.secrets} == set(SECRETS)
    schema = client.get("/openapi.json").json()
    content = schema["paths"]["/status.json"]["get"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"]["$ref"].endswith("/Status")
    assert set(schema["paths"]["/status"]["get"]["responses"]["200"]["content"]) == {"text/html"}


def test_no_value_is_in_the_page_or_its_data(client: TestClient) -> None:
    """Names are, values never."""
    for path in PAGES:
        answer = client.get(path).text
        assert all(name in answer for name in SECRETS)
        assert all(value not in answer for value in SECRETS.values())
        assert "canary" not in answer


HOSTILE = """<img src=x onerror=alert(1)></title></style></svg><script>alert(2)</script>" onload='x' {{ 7 * 191 }}"""


def test_what_comes_from_elsewhere_never_becomes_markup() -> None:
    """Names of secrets and sources, paths, addresses, faults and the details of events are text."""

    async def build(*_: object) -> None: ...

    def load() -> list[Secret]:
        raise VaultSealed(HOSTILE, HOSTILE, HOSTILE)

    store = SecretStore(DeclaredForTests, [HOSTILE], [Secret(HOSTILE, {HOSTILE: "x"})])
    keeper = SourceRefresher(HOSTILE, load, store, interval=300, connection=lambda: Connection(HOSTILE, HOSTILE))
    keeper.round()
    rotating = Rotating(HOSTILE, (HOSTILE,), build)
    rotating.fault = HOSTILE
    events = (Event(0.0, "load", HOSTILE, "failed", HOSTILE), Event(1.0, "rotation", HOSTILE, "ok", HOSTILE))
    page = render(collect(Refresher(store, [keeper], {"it": rotating}), events, HOSTILE, 2.0), Settings.service)
    found = Elements(page)
    tags = [tag for tag, _ in found.found]
    assert found.text.count(HOSTILE) >= 10
    assert "img" not in tags
    assert (tags.count("script"), tags.count("style"), tags.count("title")) == (1, 1, page.count("<title"))
    assert not any(name.startswith("on") for _, attributes in found.found for name in attributes)
    assert "1337" not in page


def test_with_nothing_to_show_the_page_says_so() -> None:
    """No source, no secret, no object, no event."""
    status = Status(
        at=0.0, environment="staging", is_ready=True, findings=(), sources=(), secrets=(), objects=(), events=()
    )
    text = Elements(render(status, Settings.service)).text
    for line in ("No source is switched on", "No secret is declared", "Nothing is built from secrets", "Nothing yet"):
        assert line in text
    assert "Read all secrets now" not in text


def test_the_verdict_gives_the_reasons_of_the_readiness_probe() -> None:
    """In the same words."""
    with TestClient(service(secrets={"api_key": KEY})) as client:
        page, reasons = Elements(client.get("/status").text).text, client.get("/health/ready").json()["detail"]
    assert "Not ready" in page
    assert "jwt_secret: missing" in reasons
    assert all(reason in page for reason in reasons.split(" | "))


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (TokenLife(1200.0, 900.0, renewable=True), "15 min of 20 min left renewable"),
        (TokenLife(1200.0, 900.0), "15 min of 20 min left not renewable"),
        (TokenLife(1200.0, 0.0), "expired or rejected"),
        (TokenLife(0.0, None), "does not expire"),
        (TokenLife(None, None), "no end known yet"),
        (None, "none: not logged in"),
    ],
    ids=str,
)
def test_the_life_of_the_token_is_put_into_words(token: TokenLife | None, words: str) -> None:
    """With a bar where it has an end, and the bar with the same words for who cannot see it."""
    store = SecretStore(DeclaredForTests, ["vault"])
    way = Connection("http://vault", "approle", token)
    keeper = SourceRefresher("vault", tuple, store, interval=300, connection=lambda: way)
    page = render(collect(Refresher(store, [keeper]), (), "development", 0.0), Settings.service)
    found = Elements(page)
    assert words in " ".join(found.text.split())
    bars = [attributes for tag, attributes in found.found if tag == "svg" and attributes.get("role") == "meter"]
    if " left" in words:
        assert (bars[0]["aria-valuenow"], bars[0]["aria-valuetext"]) == ("75", "15 min of 20 min left")
    else:
        assert not bars


def test_what_vault_has_issued_has_a_bar_for_the_time_left() -> None:
    """Under its name, below the token's; what has ended has none."""
    store = SecretStore(DeclaredForTests, ["vault"])
    leases = {"database": TokenLife(3600.0, 540.0, renewable=True), "queue": TokenLife(3600.0, 0.0)}
    way = Connection("http://vault", "approle", TokenLife(1200.0, 900.0, renewable=True), leases)
    keeper = SourceRefresher("vault", tuple, store, interval=300, connection=lambda: way)
    found = Elements(render(collect(Refresher(store, [keeper]), (), "development", 0.0), Settings.service))
    bars = [attributes for tag, attributes in found.found if tag == "svg" and attributes.get("role") == "meter"]
    assert [(bar["aria-label"], bar["aria-valuenow"], bar["class"]) for bar in bars] == [
        ("Token time left", "75", "bar good"),
        ("database time left", "15", "bar warn"),
    ]
    assert re.search(r"Issued: queue\s*expired or rejected", found.text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (90, "90 s"),
        (119.6, "2 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (4800, "1 h 20 min"),
        (86400, "24 h"),
        (172800, "2 d"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_put_into_words(seconds: float, words: str) -> None:
    """No more precise than a person wants."""
    assert in_words(seconds) == words


def test_equal_events_in_a_row_are_one_line() -> None:
    """The latest first, and how many there were; a kind that nobody has words for is named."""
    events = (
        Event(0.0, "login", "vault", "ok", "approle"),
        *(Event(float(n), "load", "vault", "failed", "VaultSealed") for n in range(1, 5)),
        Event(9.0, "unheard-of", "vault", "failed"),  # type: ignore[arg-type] # one that is added some day
    )
    status = Status(
        at=10.0, environment="x", is_ready=True, findings=(), sources=(), secrets=(), objects=(), events=events
    )
    lines = " ".join(Elements(render(status, Settings.service)).text.partition("a number:")[2].split())
    assert "unheard-of vault failed 1 s ago" in lines
    assert "Reading vault failed VaultSealed 4 times 6 s ago Logged in to vault approle 10 s ago" in lines


def test_the_picture_shows_the_events_from_left_to_right_and_crowds_as_one() -> None:
    """Each in the lane of its kind; nothing leaves the picture."""
    ats = [0.0, 1.0, 500.0, 1000.0]
    events = [Event(at, "load", "vault", "failed" if at == 1 else "ok") for at in ats]
    picture = timeline(
        [*events, Event(0.0, "login", "vault", "ok"), Event(1001.0, "refused", "vault", "failed")], 1000.0
    )
    assert list(picture.lanes) == ["Rotations", "Logins", "Reads"]
    crowd, middle, last = picture.lanes["Reads"]
    assert (len(crowd.events), crowd.failed, middle.failed) == (2, 1, 0)
    assert 0 < crowd.x < CROWD
    assert middle.x == 50
    assert 97 < last.x == picture.lanes["Rotations"][0].x < 100, "a clock that was set back moves nothing out of it"
    assert picture.span == 1000
    assert picture.ticks[0] == (98.0, 0)
    assert 2 <= len(picture.ticks) <= 6


@pytest.mark.parametrize("age", [0.0, 1.0, 59.0, 400.0, 5000.0, 90_000.0, 1e6, 1e8])
def test_the_picture_has_a_few_ticks_whatever_it_spans(age: float) -> None:
    """At least a minute; all of them inside."""
    picture = timeline([Event(0.0, "login", "vault", "ok")], age)
    assert picture.span == max(age, 60)
    assert 2 <= len(picture.ticks) <= 6
    assert all(0 < x < 100 for x, _ in picture.ticks)


def test_every_kind_of_event_has_words() -> None:
    """Else its name in the code would stand there."""
    assert {*LANES} == {*SENTENCES} == {*get_args(Kind)}
