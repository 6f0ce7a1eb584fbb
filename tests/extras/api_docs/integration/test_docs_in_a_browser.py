"""`/docs` in a real browser that has no network: it shows the API, and sends a request."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect, sync_playwright

from tests.support import DEADLINE, SECRETS, Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def test_it_works_offline_and_without_a_complaint(tmp_path: Path) -> None:
    """All files are the service's own, and the browser finds nothing that the policy forbids."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    own = {f"SECRET_{name.upper()}": value for name, value in SECRETS.items()}
    heard: list[str] = []
    elsewhere: list[str] = []
    with Service(tmp_path, own) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(DEADLINE * 1000)
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(str(error)))

        def route(asked: Route) -> None:
            if urlsplit(asked.request.url).netloc == urlsplit(service.url).netloc:
                asked.continue_()
            else:
                elsewhere.append(asked.request.url)
                asked.abort()

        page.route("**/*", route)
        page.goto(f"{service.url}/docs")
        operation = page.locator(".opblock", has_text="/health/live")
        operation.click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_role("button", name="Execute").click()
        expect(operation.locator(".live-responses-table")).to_contain_text("alive")
        browser.close()
    assert (heard, elsewhere) == ([], [])
