"""Conjur as a backend of the contract suite."""

from typing import Any

from app.extras.conjur.index import conjur_source
from app.extras.conjur.writer import ConjurWriter
from tests.core.integration.backends import Backend
from tests.extras.conjur.support import Conjur
from tests.support import unique


def conjur_backend(conjur: Conjur) -> Backend:
    """Return Conjur's."""
    branch = unique("folder")
    elsewhere = conjur.variable("canary")
    login = conjur.host({elsewhere: ["read"]}, owns=branch)
    folder = f"{conjur.branch}/{branch}"

    def make(**more: Any) -> Backend:
        name, key = login[0], more.pop("password", login[1])
        url = {"appliance_url": more.pop("url")} if "url" in more else {}
        fixed = {"access_mode": "read_and_write", "policy_branch": folder}
        session = conjur_source(conjur.settings((name, key), **{**fixed, **url, **more})).session
        writer = ConjurWriter(session)

        def break_token() -> None:
            held = session.current()
            assert held is not None
            held.token = "garbled"

        return Backend(
            "conjur",
            folder,
            session,
            writer,
            writer.write,
            make,
            lambda: elsewhere,
            break_token,
            "CONJUR_APPLIANCE_URL",
        )

    return make()
