"""Three processes of your service behind a load balancer, replaced one by one under load: no request fails."""

import http.client
import json
import signal
import time
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest
import requests

from infrastructure.drill import Served
from infrastructure.load_balancer import LoadBalancer
from infrastructure.processes import Callers
from infrastructure.seed import fresh_secrets
from tests.support import SECRETS, Vault, environment, unique, until

REPLICAS = 3
ENOUGH = 50  # requests after each step

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.alone]


class Load(Callers):
    """Callers that take a token at one process and show it to another one, over a new connection each time."""

    def __init__(self, port: int) -> None:
        super().__init__(2)
        self._port = port
        self.sent = 0
        self.failed: list[str] = []
        self.first = ""  # a token that the first process has issued

    def call(self) -> None:
        """Send requests."""
        while not self.done.is_set():
            answer = self._ask("POST", "/token", {"X-API-Key": SECRETS["api_key"]})
            token = json.loads(answer).get("access_token", "") if answer else ""
            self.first = self.first or token
            for each in (token, self.first):
                self._ask("GET", "/me", {"Authorization": f"Bearer {each}"})

    def has_sent(self, number: int) -> bool:
        """Tell whether so many requests were sent."""
        return self.sent >= number

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        text = ""
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != HTTPStatus.OK:
                self.failed.append(f"{method} {path}: {answer.status} {text}")
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(f"{method} {path}: {type(error).__name__}")
        finally:
            connection.close()
        self.sent += 1  # a count that is one too low now and then does no harm
        return text


def is_ready(service: Served) -> bool:
    """Tell whether the service has all that it needs."""
    return service.get("/health/ready").ok


def test_a_rolling_replacement_fails_no_request(vault: Vault, tmp_path: Path) -> None:
    """A token is good at all of them, also when the one that issued it is gone; each process logs in once."""
    vault.write(path := unique("app"), {**fresh_secrets(), **SECRETS})
    variables = {**environment(vault.app_role(path)), "SHUTDOWN_DELAY": "1"}  # longer than between two checks
    with ExitStack() as stack:

        def start(count: int) -> list[Served]:
            started = [Served(tmp_path, variables) for _ in range(count)]  # side by side
            for service in started:
                stack.enter_context(service)
            for service in started:
                until(partial(is_ready, service), "a process to be ready")
            return started

        services = start(REPLICAS)
        balancer = LoadBalancer([each.url for each in services], "/health/ready", breaks_off=False)
        stack.enter_context(balancer.running())
        load = Load(balancer.port)
        with load.running():
            until(partial(load.has_sent, ENOUGH), "requests")
            for old in services[:REPLICAS]:
                services += start(1)
                balancer.urls.append(services[-1].url)
                until(lambda: len(balancer.healthy) == REPLICAS + 1, "the load balancer to take it in")
                before = time.monotonic()
                assert old.stop() in {0, -signal.SIGTERM}
                assert time.monotonic() - before < 10  # what an orchestrator gives
                balancer.urls.remove(old.url)
                until(partial(load.has_sent, load.sent + ENOUGH), "more requests")
        assert load.failed == []
        token = {"Authorization": f"Bearer {load.first}"}
        fresh = services[REPLICAS:]
        assert [each.get("/me", headers=token).status_code for each in fresh] == [requests.codes.ok] * REPLICAS
        assert len({each.url for each in services}) == 2 * REPLICAS
        logins = [sum(event["event"] == "token_obtained" for event in each.events) for each in services]
        assert logins == [1] * len(services)
