"""The status page in a real browser, over a real service and a real Vault: it renders, follows, and is readable."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.support import DEADLINE, SECRETS, Service, Vault, environment, unique

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 320, "height": 640}  # the narrowest there is
LOOKS = {
    f"{name}, {scheme}": {"viewport": viewport, "color_scheme": scheme}
    for name, viewport in (("desktop", DESKTOP), ("phone", PHONE))
    for scheme in ("light", "dark")
}
PERIOD = 5_000  # milliseconds between two looks of the page
CONTRAST = 4.5  # WCAG 2.2, level AA

# For every piece of text that is seen: how its colour contrasts with what is behind it, by the formula of WCAG.
FAINT = """least => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const bright = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    const mark = element.closest("svg.mark");
    if (mark) return parse(getComputedStyle(mark.querySelector("circle, rect")).fill);
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour[3] === 255) return colour;
    }
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
  let seen = 0;
  for (let node; (node = texts.nextNode()); ) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("title, desc, .away, script, thead")) continue; // not painted, or not on every screen
    const [a, b] = [parse(element.closest("text") ? style.fill : style.color), behind(element)].map(bright);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (contrast < least) faint.push(`${node.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return [seen, faint];
}"""

Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless browser, where one is installed."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Open:
    """Return what opens the status page of a service, and fails if its console has something to complain about."""

    @contextmanager
    def opened(service: Service, *, complaints: str = "", **options: Any) -> Iterator[Page]:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        context.set_default_timeout(DEADLINE * 1000)
        page, heard = context.new_page(), list[str]()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.clock.install()
        answer = page.goto(f"{service.url}/status")
        assert answer is not None
        assert answer.ok
        yield page
        assert [line for line in heard if not complaints or complaints not in line] == []
        context.close()

    return opened


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a complete secret of this test's own."""
    vault.write(path := unique("shown"), SECRETS)
    return path


def settings(vault: Vault, path: str, **more: str) -> dict[str, str]:
    """Return variables for a service that reads only when it is asked to."""
    return environment({**vault.app_role(path), "refresh_interval": "3000", "timeout": "2", **more})


def row(page: Page, name: str) -> Locator:
    """Return the row of a secret: its name comes first in it."""
    return page.get_by_role("row", name=re.compile(f"^{name} "))


def assert_readable(page: Page) -> None:
    """Check that nothing sticks out of the screen sideways, and that all text stands out from what is behind it."""
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    seen, faint = page.evaluate(FAINT, CONTRAST)
    assert seen > 40
    assert not faint


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_readable_in_good_times_and_in_bad(
    vault: Vault, path: str, tmp_path: Path, opened: Open, look: str
) -> None:
    """In both colour schemes, on a screen and on a phone: a gap, all well, a refused rotation, an outage."""
    proxy = FaultyProxy(vault.url)
    vault.write(path, {"api_key": SECRETS["api_key"], "jwt_secret": "short"})
    with proxy.running() as url:
        variables = settings(vault, path, url=url) | {"SECRET_A_RATHER_LONG_NAME_FOR_A_SECRET_OF_OURS": "own"}
        with Service(tmp_path, variables) as service, opened(service, **LOOKS[look]) as page:
            heading = page.get_by_role("heading", level=1)
            expect(heading).to_have_text("Not ready")
            expect(row(page, "database_url")).to_contain_text("missing")
            expect(row(page, "jwt_secret")).to_contain_text("not as declared")
            assert_readable(page)
            vault.write(path, SECRETS)
            service.post("/status/refresh")
            page.reload()
            expect(heading).to_have_text("Ready")
            expect(row(page, "api_key")).to_contain_text("version 3")
            expect(page.get_by_role("meter", name="Token time left")).to_be_visible()
            expect(page.get_by_role("img", name="Timeline of")).to_be_visible()
            assert_readable(page)
            vault.write(path, {**SECRETS, "jwt_secret": "short"})
            service.post("/status/refresh")
            page.reload()
            expect(heading).to_have_text("Ready, with warnings")
            expect(row(page, "jwt_secret")).to_contain_text("refused: String should have at least 32")
            assert_readable(page)
            proxy.fault = lambda *_: Fault(status=403)
            service.post("/status/refresh")
            page.reload()
            expect(row(page, "jwt_secret")).to_contain_text("kept, last read failed")
            assert_readable(page)


def test_it_follows_a_rotation_by_itself(vault: Vault, path: str, tmp_path: Path, opened: Open) -> None:
    """Without a reload: whoever reads keeps the place and the focus."""
    with Service(tmp_path, settings(vault, path)) as service, opened(service, viewport=PHONE) as page:
        key, more = row(page, "api_key"), page.get_by_role("link", name="Readiness")
        expect(key).to_contain_text("version 1")
        page.evaluate("window.sameAsBefore = true")
        more.focus()
        more.scroll_into_view_if_needed()
        place = page.evaluate("scrollY")
        assert place > 100
        vault.write(path, {**SECRETS, "api_key": "canary-new"})
        service.post("/status/refresh")
        page.clock.fast_forward(PERIOD)
        expect(key).to_contain_text("version 2")
        expect(page.get_by_text("Took in a rotation in vault")).to_be_visible()
        expect(more).to_be_focused()
        assert page.evaluate("window.sameAsBefore")
        assert page.evaluate("scrollY") == pytest.approx(place, abs=120), (
            "the list of events has grown by a line or two"
        )
        assert "canary" not in page.content()


def test_it_reads_again_at_once_when_told_to(vault: Vault, path: str, tmp_path: Path, opened: Open) -> None:
    """A button, for the developer."""
    with Service(tmp_path, settings(vault, path)) as service, opened(service) as page:
        vault.write(path, {**SECRETS, "api_key": "canary-new"})
        page.get_by_role("button", name="Read all secrets now").click()
        expect(row(page, "api_key")).to_contain_text("version 2")


def test_it_rests_while_nobody_can_see_it(tmp_path: Path, opened: Open) -> None:
    """A tab in the background asks nothing; back in front, it asks at once."""
    with Service(tmp_path, {}) as service, opened(service) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        show = """hidden => {
          Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
        page.evaluate(show, True)  # noqa: FBT003 - what JavaScript gets
        page.clock.fast_forward(20 * PERIOD)
        assert not asked
        with page.expect_response("**/status"):
            page.evaluate(show, False)  # noqa: FBT003
        assert len(asked) == 1


def test_it_says_when_what_it_shows_is_no_longer_true(tmp_path: Path, opened: Open) -> None:
    """The service has gone: the browser's own complaint about that is the only one."""
    with Service(tmp_path, {}) as service, opened(service, complaints="net::ERR_CONNECTION_REFUSED") as page:
        expect(page.get_by_role("alert")).to_be_hidden()
        service.stop()
        page.clock.fast_forward(PERIOD)
        expect(page.get_by_role("alert")).to_contain_text("The service does not answer")


def test_it_works_without_javascript(vault: Vault, path: str, tmp_path: Path, opened: Open) -> None:
    """The browser loads it again by itself, and nothing is offered that would not work."""
    with Service(tmp_path, settings(vault, path)) as service, opened(service, java_script_enabled=False) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("Ready")
        expect(row(page, "api_key")).to_contain_text("in force")
        expect(page.locator("meta[http-equiv=refresh]")).to_have_count(1)
        expect(page.get_by_role("button")).to_have_count(0)


def test_outside_development_the_browser_asks_for_the_key(
    vault: Vault, path: str, tmp_path: Path, opened: Open, browser: Browser
) -> None:
    """The API key as the password of anybody; the page then follows with it."""
    variables = settings(vault, path) | {"ENVIRONMENT": "production", "ALLOW_INSECURE": "http", "STATUS_PAGE": "true"}
    person = {"username": "me", "password": SECRETS["api_key"]}
    with Service(tmp_path, variables) as service:
        stranger = browser.new_page()
        with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):  # nobody there to be asked
            stranger.goto(f"{service.url}/status")
        stranger.close()
        with opened(service, http_credentials=person) as page:
            expect(row(page, "api_key")).to_contain_text("version 1")
            expect(page.get_by_role("button")).to_have_count(0)
            with page.expect_response("**/status") as renewed:
                page.clock.fast_forward(PERIOD)
            assert renewed.value.ok
