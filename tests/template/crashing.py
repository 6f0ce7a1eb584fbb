"""A service that crashes with secrets everywhere, and prints what it would report: `python -m tests.template.crashing`.

It uses `app/crash_reports.py`, as docs/crash-reports.md shows it.
"""

import logging
import sys
from importlib import import_module
from typing import Any

import sentry_sdk
from fastapi import Request
from fastapi.testclient import TestClient
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from app.config import Settings
from app.vault import get_vault_client
from tests.declared import create_app
from tests.support import SECRETS

CALLERS_PASSWORD = "-".join(["a", "password", *["of", "the", "caller"]])  # reports show lines of the source
sent: list[bytes] = []
former: list[str] = []  # what was in force before the rotation; somebody still has it


class Kept(Transport):
    """Keeps what would be sent."""

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep it."""
        sent.append(envelope.serialize())


def crash(request: Request, how: str) -> None:
    """Raise an error whose message, cause, variables and log lines hold every secret."""
    held = dict(request.app.state.vault_secrets)
    for text in former:
        logging.getLogger("careless").warning("formerly %s", text)
    password = held["database_url"]
    logging.getLogger("careless").warning("trying with %s", held["api_key"])
    sentry_sdk.set_tag("key", held["api_key"])
    sentry_sdk.set_context("login", {"password": CALLERS_PASSWORD, "inner": [{"url": password}]})
    try:
        raise ConnectionError(f"no connection to {password}")
    except ConnectionError as error:
        if how == "logged":
            logging.getLogger("careless").exception("lost %s", held["jwt_secret"])
            return
        raise RuntimeError(f"{held['jwt_secret']!r} is of no use") from error


def main() -> None:
    """Crash in each way, before and after a rotation."""
    init = sentry_sdk.init

    def with_transport(**options: Any) -> None:
        if "unmasked" in sys.argv:  # the test of the test
            options = {name: value for name, value in options.items() if not name.startswith("before_")}
        init(dsn="https://key@reports.example.com/1", transport=Kept, traces_sample_rate=1.0, **options)

    sentry_sdk.init = with_transport  # type: ignore[assignment,misc]
    import_module("app.crash_reports").report_crashes()
    settings = Settings()
    service = create_app(settings)
    service.add_api_route("/crash", crash, methods=["POST"])
    with TestClient(service, raise_server_exceptions=False) as client:
        for _ in range(2):
            for how in ("raised", "logged"):
                held = service.state.vault_secrets["api_key"]
                headers = {"X-API-Key": held, "Cookie": f"session={held}", "Authorization": f"Bearer {held}"}
                client.post("/crash", params={"how": how, "key": held}, headers=headers, json={"key": held})
            vault = get_vault_client()
            path = settings.vault.secret_path[0]
            vault.secrets.kv.v2.create_or_update_secret(
                path, {name: f'{text}-"rotated"' for name, text in SECRETS.items()}
            )
            before = list(service.state.vault_secrets.values())
            assert client.post("/status/refresh").status_code == 200
            former[:] = before
    sentry_sdk.flush()
    sys.stdout.buffer.write(b"\n".join(sent))


if __name__ == "__main__":
    main()
