"""The dev Vault, seeding and the Makefile, run as a newcomer runs them: in a fresh copy, on free ports."""

import json
import os
import socket
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from infrastructure.dev_vault import ROOT_TOKEN, DevVaultError, start_embedded
from infrastructure.seed import MIGRATE, ROLE, SECRET_PATH, fresh_secrets
from tests.postgres import ask
from tests.support import DEADLINE, ROOT, free_port, until
from tests.template.clone import Clone


def test_vault_up_and_seed_do_what_an_operator_does(clone: Clone) -> None:
    """KV 2, the secret, the policy, an AppRole that has nothing else, credentials that only the owner can read."""
    up = clone.make("vault-up")
    assert (up.returncode, up.stdout.count("\n")) == (0, 2), up.stderr
    seeded = clone.make("seed")
    assert seeded.returncode == 0, seeded.stderr
    assert set(clone.secret) == set(fresh_secrets())
    role = clone.client.auth.approle.read_role(ROLE)["data"]
    assert role["token_policies"] == [ROLE, f"{ROLE}-database"]
    assert role["token_no_default_policy"]
    assert 0 < role["token_ttl"] <= role["token_max_ttl"] <= 3600
    assert role["secret_id_ttl"] > 0
    for file in (".dev/role-id", ".dev/secret-id", ".env"):
        assert stat.S_IMODE((clone.directory / file).stat().st_mode) == 0o600
    example = (ROOT / ".env.example").read_text().replace(":8200\n", f":{clone.vault_port}\n")
    url = f"{{dynamic://database/username}}:{{dynamic://database/password}}@127.0.0.1:{clone.postgres_port}/shop"
    issued = f"VAULT_DYNAMIC__DATABASE=database/creds/shop\nSECRET_DATABASE_URL=postgresql://{url}\n"
    assert (clone.directory / ".env").read_text() == example + issued
    assert (clone.directory / ".dev/vault-audit.log").stat().st_size > 0
    assert not list(clone.home.glob(".vault*"))
    tracked = subprocess.run(["git", "status", "--short"], cwd=clone.directory, capture_output=True, check=True).stdout
    assert b".dev" not in tracked
    assert b".env\n" not in tracked


def test_a_commit_with_a_credential_is_refused_where_hooks_are_wanted(clone: Clone) -> None:
    """Another commit passes."""
    (clone.directory / ".venv").symlink_to(sys.prefix)
    assert clone.make("hooks").returncode == 0

    def commit(text: str) -> subprocess.CompletedProcess[str]:
        (clone.directory / "notes.txt").write_text(text)
        subprocess.run(["git", "add", "notes.txt"], cwd=clone.directory, check=True)
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "x"]
        return subprocess.run(
            command, cwd=clone.directory, env=clone.environment(), capture_output=True, text=True, check=False
        )

    refused = commit("the key is AKIA" + "IOSFODNN7EXAMPLE\n")
    assert refused.returncode != 0
    assert "no file holds a credential" in refused.stdout + refused.stderr
    passed = commit("nothing\n")
    assert passed.returncode == 0, passed.stdout + passed.stderr


def test_the_database_outlives_the_vault(clone: Clone) -> None:
    """Its data and port stay when both are stopped; whom the Vault issued is dropped by the next one's seed."""
    clone.make("vault-up")
    clone.make("seed")
    answer = clone.client.read("database/creds/shop-migrate")["data"]
    url = f"postgresql://{answer['username']}:{answer['password']}@127.0.0.1:{clone.postgres_port}/shop"
    ask(url, "create table kept ()")
    state = clone.directory / ".dev/postgres.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert "dev PostgreSQL: stopped (its data stay)" in clone.make("vault-down").stdout

    assert f"started at 127.0.0.1:{clone.postgres_port}" in clone.make("vault-up").stdout
    assert "; 1 users of an earlier Vault dropped" in clone.make("seed").stdout
    answer = clone.client.read("database/creds/shop")["data"]
    url = f"postgresql://{answer['username']}:{answer['password']}@127.0.0.1:{clone.postgres_port}/shop"
    assert ask(url, "select count(*) from kept") == 0
    migrate = clone.client.auth.approle.read_role(MIGRATE)["data"]
    assert migrate["token_policies"] == [MIGRATE]
    policy = clone.client.sys.read_policy(MIGRATE)["data"]["rules"]
    assert f'"secret/data/{SECRET_PATH}"' in policy
    assert "api-keys" not in policy
    assert "creds/shop/" not in policy
    for file in (".dev/migrate-role-id", ".dev/migrate-secret-id"):
        assert stat.S_IMODE((clone.directory / file).stat().st_mode) == 0o600


def test_without_a_database_the_service_has_the_static_value(clone: Clone) -> None:
    """Its port is taken: one line says so, and all else goes on."""
    with socket.create_server(("127.0.0.1", clone.postgres_port)):
        up = clone.make("vault-up")
        assert up.returncode == 0, up.stderr
        assert f"POSTGRES_PORT={clone.postgres_port + 1}" in up.stdout
        assert "the service has the static database_url" in up.stdout
        assert clone.make("seed").returncode == 0
    assert clone.client.auth.approle.read_role(ROLE)["data"]["token_policies"] == [ROLE]
    assert set(clone.secret) == set(fresh_secrets())


def test_seeding_again_changes_nothing_unless_told_to(clone: Clone) -> None:
    """Values, other keys and the secret id stay; `RESET=1` renews the values."""
    clone.make("vault-up")
    clone.make("seed")
    changed = {**clone.secret, "api_key": "changed-by-hand", "own": "key"}
    clone.client.secrets.kv.v2.create_or_update_secret(SECRET_PATH, changed)
    before, secret_id = clone.secret, (clone.directory / ".dev/secret-id").read_text()
    (clone.directory / ".env").write_text("# mine\n")
    again = clone.make("vault-up").stdout
    assert again.startswith("dev Vault: running already")
    assert "\ndev PostgreSQL: running already" in again
    assert clone.make("seed").returncode == 0
    assert clone.secret == before
    assert (clone.directory / ".dev/secret-id").read_text() == secret_id
    assert (clone.directory / ".env").read_text() == "# mine\n"

    assert clone.make("seed", "RESET=1").returncode == 0
    assert clone.secret["own"] == "key"
    assert all(clone.secret[name] != before[name] for name in ("api_key", "jwt_secret"))


def test_the_ports_reach_whatever_reads_dotenv(clone: Clone) -> None:
    """And the next `make`; what names another Vault stays."""
    clone.make("vault-up")
    clone.make("seed", f"PORT={(port := free_port())}")
    dotenv = clone.directory / ".env"
    assert f"\nVAULT_URL=http://127.0.0.1:{clone.vault_port}\n" in dotenv.read_text()
    assert f"\nPORT={port}\n" in dotenv.read_text()
    told = subprocess.run(
        ["make", "help", "-s"], cwd=clone.directory, capture_output=True, text=True, check=True, env=clone.environment()
    )
    assert f"PORT={port} VAULT_PORT={clone.vault_port} " in told.stdout
    doctor = clone.make("doctor", VAULT_TOKEN="", VAULT_ADDR="")
    assert f"127.0.0.1:{clone.vault_port}: accepts connections" in doctor.stdout, doctor.stdout

    clone.make("seed", "PORT=8000")
    assert "\nPORT=8000\n" in dotenv.read_text()
    for line in ("VAULT_URL=https://vault.example.com", "VAULT_URL=http://127.0.0.1:8200/prefix", "# nothing"):
        dotenv.write_text(f"{line}\n")
        assert "names another Vault, or none" in clone.make("seed").stdout
        assert dotenv.read_text() == f"{line}\n"


def test_the_dev_vault_of_another_clone_is_not_taken_for_ones_own(clone: Clone, tmp_path: Path) -> None:
    """Its secrets are somebody else's, and `make vault-down` here would not stop it."""
    assert clone.make("vault-up").returncode == 0
    (other := tmp_path / "other").mkdir()
    copy = Clone(other / "clone")
    copy.vault_port = clone.vault_port
    said = one_line(copy.make("vault-up"))
    assert str(clone.directory) in said
    assert f"VAULT_PORT={clone.vault_port + 1}" in said
    assert clone.make("vault-up").stdout.startswith("dev Vault: running already")


def test_a_secret_is_set_from_standard_input(clone: Clone) -> None:
    """As it is, whatever a shell or make would make of it; the other secrets stay."""
    clone.make("vault-up")
    assert "run `make seed` first" in one_line(clone.make("secret", "KEY=stripe_key", stdin="x"))
    clone.make("seed")
    before = clone.secret
    done = clone.make("secret", "KEY=stripe_key", stdin="pa$$w$(ord)'\"\\ ü\n")
    assert "stripe_key is set in secret/" in done.stdout, done.stderr
    assert "pa$" not in done.stdout + done.stderr
    assert clone.secret == {**before, "stripe_key": "pa$$w$(ord)'\"\\ ü"}
    assert "the value is empty" in one_line(clone.make("secret", "KEY=stripe_key", stdin="\n"))
    assert "KEY is missing" in one_line(clone.make("secret", stdin="x"))
    assert "KEY is missing" in one_line(clone.make("secret", "KEY=a b", stdin="x"))
    clone.make("vault-down")
    assert "no dev Vault answers" in one_line(clone.make("secret", "KEY=stripe_key", stdin="x"))


def test_a_change_restarts_the_service(clone: Clone) -> None:
    """One in app/, not elsewhere."""
    with clone.running("dev") as run:
        home = clone.directory / "app/routes/home.py"
        home.write_text(home.read_text() + '\n\n@router.get("/changed")\nasync def changed() -> None: ...\n')

        def is_changed() -> bool:
            try:
                return requests.get(f"{run.url}/changed", timeout=DEADLINE).ok
            except requests.ConnectionError:
                return False

        until(is_changed, "the new process")
    assert "a wrapped secret id is good for one login" in run.output


def test_a_secret_id_that_no_longer_works_is_replaced(clone: Clone) -> None:
    """`make seed` fixes a login that expired over the weekend."""
    clone.make("vault-up")
    clone.make("seed")
    file = clone.directory / ".dev/secret-id"
    clone.client.auth.approle.destroy_secret_id(ROLE, before := file.read_text())
    clone.make("seed")
    assert file.read_text() != before


def test_run_serves_the_app_and_ends_cleanly_on_ctrl_c(clone: Clone) -> None:
    """The first command of a newcomer; a second one reuses the Vault and its secrets."""
    for _ in range(2):
        with clone.running() as run:
            answer = requests.post(f"{run.url}/token", headers={"X-API-Key": clone.secret["api_key"]}, timeout=DEADLINE)
            assert answer.status_code == 200
        output = run.output
        for line in (f"{run.url}/docs", f":{clone.vault_port}/ui (token {ROOT_TOKEN})", "token_revoked"):
            assert line in output
        assert "Traceback" not in output
    assert "running already" in output
    assert clone.client.sys.is_initialized(), "the Vault outlives the app"
    assert "dev Vault: stopped" in clone.make("vault-down").stdout
    assert clone.make("vault-down").stdout == "dev PostgreSQL: not running\ndev Vault: not running\n"


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    """Check that make failed with one line of ours, and return it."""
    assert finished.returncode != 0
    (line,) = [line for line in finished.stderr.splitlines() if not line.startswith("make: ***")]
    return line


def test_what_stands_in_the_way_is_one_line(clone: Clone) -> None:
    """A Vault that is not up, a port that is taken, a Docker engine that is missing."""
    assert "run `make vault-up` first" in one_line(clone.make("seed"))
    with socket.create_server(("127.0.0.1", clone.vault_port)):
        assert f"port {clone.vault_port} is taken" in one_line(clone.make("vault-up"))
    without_docker = clone.make("vault-up", "VAULT_RUNTIME=docker", DOCKER_HOST="tcp://127.0.0.1:9")
    assert "no Docker engine answers" in one_line(without_docker)
    assert "invalid choice" in clone.make("vault-up", "VAULT_RUNTIME=podman").stderr


def test_a_stale_state_file_does_not_kill_a_stranger(clone: Clone) -> None:
    """A process id may belong to somebody else by now."""
    (clone.directory / ".dev").mkdir()
    (clone.directory / ".dev/vault.json").write_text(json.dumps({"runtime": "embedded", "pid": os.getpid()}))
    database = {"runtime": "embedded", "port": 5433, "password": "x", "directory": "/nowhere", "pid": os.getpid()}
    (clone.directory / ".dev/postgres.json").write_text(json.dumps(database))
    assert clone.make("vault-down").stdout == "dev PostgreSQL: not running\ndev Vault: not running\n"
    (clone.directory / ".dev/vault.json").write_text("garbage")
    (clone.directory / ".dev/postgres.json").write_text("garbage")
    assert clone.make("vault-down").returncode == 0


def test_help_lists_every_target(clone: Clone) -> None:
    """With what it does."""
    makefile = (ROOT / "Makefile").read_text()
    phony = [name for line in makefile.splitlines() if line.startswith(".PHONY") for name in line.split()[1:]]
    listed = clone.make().stdout
    assert all(f"\n  {target} " in listed for target in phony)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (" HTTP://LocalHost:9/\n", "no unsealed Vault answers at http://localhost:9:"),
        ("localhost:8200", "argument --url: must start with http:// or https://"),
    ],
)
def test_seeding_reads_an_address_as_the_service_does(tmp_path: Path, url: str, said: str) -> None:
    """In any case, with blanks around it; what is none is refused with the reason."""
    command = [sys.executable, "-m", "infrastructure.seed", "--url", url]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize("taken", ["port", "other port"])
def test_a_dev_vault_that_cannot_start_says_why(tmp_path: Path, taken: str) -> None:
    """The server's own words, without what went before them."""
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", free_port()))
        port = occupant.getsockname()[1]
        more = f'listener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = true }}\n'
        with pytest.raises(DevVaultError, match=rf"did not start: Error .*127.0.0.1:{port}: bind: address already"):
            start_embedded(port if taken == "port" else free_port(), tmp_path, "root", more if taken != "port" else "")


def test_a_port_that_was_given_is_not_given_again_soon() -> None:
    """Nor the next one, which a Vault takes for its cluster."""
    ports = sorted(free_port() for _ in range(50))
    assert all(later - earlier > 1 for earlier, later in pairwise(ports))
