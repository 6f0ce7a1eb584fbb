"""The sample database with credentials that a real Vault issues: whatever becomes of them, no request fails."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from tests.issuing import POLICY, Issuer
from tests.support import SECRETS, YOURS, Service, environment, unique, until

KEY = {"X-API-Key": SECRETS["api_key"]}


def _revoke(issuing: Issuer, role: str) -> None:
    issuing.vault.client.sys.revoke_prefix(f"database/creds/{role}")


def _drop(issuing: Issuer, role: str) -> None:
    for user in issuing.users(role):
        issuing.ask(f'REASSIGN OWNED BY "{user}" TO shop_owner', f'DROP OWNED BY "{user}"', f'DROP ROLE "{user}"')


def _lock_out(issuing: Issuer, role: str) -> None:
    for user in issuing.users(role):
        issuing.ask(f'ALTER ROLE "{user}" NOLOGIN')
        issuing.ask(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}' AND state = 'idle'"
        )


@pytest.mark.parametrize("become", [_revoke, _drop, _lock_out], ids=lambda each: each.__name__.strip("_"))
def test_what_becomes_of_them_costs_no_request(
    issuing: Issuer, tmp_path: Path, become: Callable[[Issuer, str], None]
) -> None:
    """Revoked by an operator, dropped or locked out in the database: others are there at once."""
    role, path = issuing.role(), unique("issued")
    issuing.vault.write(path, SECRETS)
    login = {**issuing.login(role, path, POLICY), "secret_path": path}
    variables = environment({name: value for name, value in login.items() if name != "dynamic"})
    variables["VAULT_DYNAMIC__DB"] = f"database/creds/{role}"
    place = f"127.0.0.1:{issuing.postgres.port}/shop"
    variables["SECRET_DATABASE_URL"] = "postgresql://{dynamic://db/username}:{dynamic://db/password}@" + place
    over = Event()

    def call(service: Service) -> list[tuple[int, str]]:
        found = []
        while not over.is_set():
            answer = service.get("/database", headers=KEY)
            found.append((answer.status_code, answer.text))
        return found

    with ExitStack() as stack:
        service = stack.enter_context(Service(tmp_path, variables, YOURS))
        before = service.get("/database", headers=KEY).json()["session_user"]
        callers = stack.enter_context(ThreadPoolExecutor(4))
        stack.callback(over.set)
        answers = [callers.submit(call, service) for _ in range(4)]
        become(issuing, role)
        until(lambda: service.get("/database", headers=KEY).json().get("session_user") != before, "another user")
        over.set()
        everything = [answer for each in answers for answer in each.result()]
        assert len(everything) > 4
        assert {status for status, _ in everything} == {200}, [each for each in everything if each[0] != 200][:3]
        assert len({user for user in issuing.users(role) if user != before}) == 1, (
            "one issue, however many were refused"
        )
    until(lambda: set(issuing.users(role)) <= {before}, "the new user to be dropped at the end")
