"""Which Conjur server do the tests run against?

By default the stand-in, and a second time CyberArk's image where a Docker engine answers. `CONJUR_TEST_URL`,
`CONJUR_TEST_ACCOUNT`, `CONJUR_TEST_LOGIN` and `CONJUR_TEST_API_KEY` point the same tests at a server that is running
already; they work in a policy branch of their own, which they remove afterwards.
"""

import base64
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
import requests

from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur
from tests.support import until

EXTERNAL = {name: os.environ.get(f"CONJUR_TEST_{name}", "") for name in ("URL", "ACCOUNT", "LOGIN", "API_KEY")}
IMAGE = os.environ.get("CONJUR_IMAGE", "cyberark/conjur:1.22.3")
POSTGRES_IMAGE = os.environ.get("POSTGRES_IMAGE", "postgres:15.14")
ACCOUNT = "default"

Servers = Callable[[str], Conjur]


@pytest.fixture(scope="session")
def conjur_servers() -> Iterator[Servers]:
    """Start each kind of server when it is first asked for; all end with the test run."""
    with ExitStack() as stack:

        @cache
        def server(runtime: str) -> Conjur:
            if EXTERNAL["URL"]:
                conjur = Conjur(
                    EXTERNAL["URL"].rstrip("/"), EXTERNAL["ACCOUNT"], EXTERNAL["LOGIN"], EXTERNAL["API_KEY"]
                )
            elif runtime == "docker":
                url, api_key = start_container(stack)
                conjur = Conjur(url, ACCOUNT, "admin", api_key)
            else:
                standin = stack.enter_context(StandIn())
                conjur = Conjur(standin.url, standin.account, "admin", standin.admin_api_key, standin)
            stack.callback(conjur.remove)
            return conjur

        yield server


@pytest.fixture
def conjur(conjur_server: str, conjur_servers: Servers) -> Conjur:
    """Return a server: the stand-in or a real one, each in turn that `tests/servers.py` finds."""
    return conjur_servers(conjur_server)


def start_container(stack: ExitStack) -> tuple[str, str]:
    """Start Conjur with its PostgreSQL; return its address and the administrator's API key."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow, and only needed here
    from testcontainers.core.network import Network  # noqa: PLC0415

    network = stack.enter_context(Network())
    database = DockerContainer(POSTGRES_IMAGE).with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
    stack.enter_context(database.with_network(network).with_network_aliases("database"))
    server = DockerContainer(IMAGE).with_command("server").with_exposed_ports(80).with_network(network)
    server.with_env("DATABASE_URL", "postgres://postgres@database/postgres")
    server.with_env("CONJUR_DATA_KEY", base64.b64encode(secrets.token_bytes(32)).decode())
    stack.enter_context(server)  # it waits for the database by itself
    url = f"http://{server.get_container_host_ip()}:{server.get_exposed_port(80)}"

    def answers() -> bool:
        try:
            return requests.get(url, timeout=2).ok
        except requests.RequestException:
            return False

    until(answers, "Conjur in its container")
    server.exec(["conjurctl", "account", "create", ACCOUNT])
    shown = server.exec(["conjurctl", "role", "retrieve-key", f"{ACCOUNT}:user:admin"])
    return url, shown.output.decode().split()[-1]
