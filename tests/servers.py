"""Which servers are there to test against, and which tests need one?

Both are settled while tests are collected. Where no Docker engine answers, no variant for a container is collected.
Each test that needs a server has the marker `server`; `make test-fast` leaves those out.
"""

import os
from collections.abc import Generator

import pytest

from infrastructure.compose import docker_answers

DOCKER = pytest.StashKey[bool]()
SERVERS = {
    "vault_servers",
    "conjur_servers",
    "postgres_server",
    "postgres_and_vault",
    "issuing",
    "clone",
    "dev_vault",
}  # fixtures that start one
NAMED = {name for name in ("VAULT_TEST_URL", "CONJUR_TEST_URL") if os.environ.get(name)}  # that run already
PROCESSES_A_CORE = 3  # most tests wait most of the time


def variants(config: pytest.Config) -> dict[str, list[str]]:
    """Return the servers that the fixtures stand for in turn; a server that the environment names is the only one."""
    answers = config.stash[DOCKER]
    vault = ["embedded", "docker"] if answers and "VAULT_TEST_URL" not in NAMED else ["embedded"]
    conjur: list[str] = []
    conjur += ["stand-in", "docker"] if answers and "CONJUR_TEST_URL" not in NAMED else ["stand-in"]  # extra: conjur
    backend = [*(f"vault, {each}" for each in vault), *(f"conjur, {each}" for each in conjur)]
    return {"vault_server": vault, "conjur_server": conjur, "backend_server": backend}


def pytest_configure(config: pytest.Config) -> None:
    """Ask for Docker once; the processes of pytest-xdist are told, so that all of them collect the same."""
    told = getattr(config, "workerinput", {})
    config.stash[DOCKER] = told["docker"] if "docker" in told else docker_answers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run the tests: each has servers of its own, unless the environment names one."""
    return 0 if NAMED else PROCESSES_A_CORE * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: pytest.Session) -> None:
    """Tell a process of pytest-xdist what was found."""
    node.workerinput["docker"] = node.config.stash[DOCKER]  # type: ignore[attr-defined] # pytest-xdist's own node


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test for each server that is there; one process has all that need containers, and starts each once."""
    one_process = pytest.mark.xdist_group("containers")
    for name, servers in variants(metafunc.config).items():
        if name in metafunc.fixturenames:
            marked = [pytest.param(each, marks=one_process if each.endswith("docker") else ()) for each in servers]
            metafunc.parametrize(name, marked)


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server."""
    for item in items:
        if "integration" in item.path.parts or SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("server")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """Let no server be skipped where nobody looks: what is green without its tests means nothing."""
    try:
        return (yield)
    except pytest.skip.Exception as skipped:
        if os.environ.get("CI") and fixturedef.argname in {*SERVERS, "vault", "conjur", "backend"}:
            pytest.fail(f"a skip of `{fixturedef.argname}` is a failure where CI is set: {skipped}")
        raise
