"""How does a real Conjur come to run on this machine? `python -m infrastructure.dev_conjur up|down`, with Docker.

The tests do not need it: they bring a stand-in. It is there to run them against the real thing, too.
"""

import argparse
import base64
import secrets
import time
from pathlib import Path

import requests

from infrastructure.compose import ComposeError, compose, docker_answers
from infrastructure.dev_state import STATE, fail, is_taken, write_private

ACCOUNT = "default"
DATA_KEY_FILE = STATE / "conjur-data-key"
API_KEY_FILE = STATE / "conjur-admin-api-key"
COMPOSE_FILE = Path(__file__).with_name("docker-compose.conjur.yml")
START_DEADLINE = 180.0  # seconds; the first start makes the database's tables
USAGE = """\
  export CONJUR_TEST_URL={url} CONJUR_TEST_ACCOUNT={account} CONJUR_TEST_LOGIN=admin
  export CONJUR_TEST_API_KEY="$(cat {file})"
  make test ARGS='-k conjur'"""


class DevConjurError(Exception):
    """Something that a person has to fix; the message is one line."""


def up(port: int) -> str:
    """Bring the dev Conjur up, unless it is; return lines that say what there is now, and how to use it."""
    url = f"http://127.0.0.1:{port}"
    usage = USAGE.format(url=url, account=ACCOUNT, file=API_KEY_FILE)
    if _is_ours(url):
        return f"dev Conjur: running already at {url}\n{usage}"
    if is_taken(port):
        raise DevConjurError(f"port {port} is taken by something else: stop it, or choose another with CONJUR_PORT=…")
    if not docker_answers():
        raise DevConjurError("no Docker engine answers, and a real Conjur needs one; the tests do without")
    down()  # a clone has one dev Conjur: one on another port would never be stopped
    compose(COMPOSE_FILE, "up", "-d", CONJUR_DATA_KEY=data_key(), CONJUR_PORT=str(port))
    deadline = time.monotonic() + START_DEADLINE
    while not _is_up(url):
        if time.monotonic() > deadline:
            raise DevConjurError(f"no Conjur answers at {url} yet: see `docker compose -f {COMPOSE_FILE} logs`")
        time.sleep(0.2)
    _conjurctl("account", "create", ACCOUNT)
    write_private(API_KEY_FILE, _conjurctl("role", "retrieve-key", f"{ACCOUNT}:user:admin").split()[-1])
    return f"dev Conjur: started in Docker at {url}, account {ACCOUNT}, the key of admin is in {API_KEY_FILE}\n{usage}"


def down() -> str:
    """Stop the dev Conjur that `up` started, with all that is in it; return a line that says what was done."""
    if not DATA_KEY_FILE.exists():
        return "dev Conjur: not running"
    compose(COMPOSE_FILE, "down", "-v", CONJUR_DATA_KEY="")
    for file in (API_KEY_FILE, DATA_KEY_FILE):
        file.unlink(missing_ok=True)
    return "dev Conjur: containers removed"


def data_key() -> str:
    """Return the key that encrypts the database: 256 random bits in base64, made when there is none."""
    if not DATA_KEY_FILE.exists():
        write_private(DATA_KEY_FILE, base64.b64encode(secrets.token_bytes(32)).decode())
    return DATA_KEY_FILE.read_text()


def _conjurctl(*arguments: str) -> str:
    return compose(COMPOSE_FILE, "exec", "-T", "conjur", "conjurctl", *arguments, CONJUR_DATA_KEY=data_key())


def _is_up(url: str) -> bool:
    try:
        return bool(requests.get(url, headers={"Accept": "application/json"}, timeout=2).ok)
    except requests.RequestException:
        return False


def _is_ours(url: str) -> bool:
    """Tell whether the server at `url` takes the key that `up` wrote down."""
    if not API_KEY_FILE.exists() or not _is_up(url):
        return False
    key = API_KEY_FILE.read_text()
    headers = {"Content-Type": "application/octet-stream"}
    return requests.post(f"{url}/authn/{ACCOUNT}/admin/authenticate", data=key, headers=headers, timeout=5).ok


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Start or stop a real Conjur in Docker.")
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--port", type=int, default=8280, choices=range(1, 65536), metavar="PORT")
    arguments = parser.parse_args()
    try:
        print(up(arguments.port) if arguments.action == "up" else down())
    except (ComposeError, DevConjurError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
