"""A client that others generate from the API's description can do all that the API can, under readable names."""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from tests.extras.api_keys.integration.test_api_keys import settings_for
from tests.support import ROOT, SECRETS, Service, Vault, environment, unique

SCRIPT = Path(__file__).with_name("client_script.py")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the programs of an environment that has the generator; it takes a package registry."""
    directory = tmp_path_factory.mktemp("generator")
    venv.create(directory, with_pip=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    installed = subprocess.run(
        [directory / "bin/python", *install, "-r", ROOT / "requirements/client.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0 and not os.environ.get("CI"):
        pytest.skip("no generator can be installed: no package registry answers")
    assert installed.returncode == 0, installed.stderr
    return directory / "bin"


def test_it_issues_lists_rotates_and_revokes(vault: Vault, tmp_path: Path, programs: Path) -> None:
    """With objects for what is sent and what is answered, problems included."""
    vault.write(path := unique("generated"), SECRETS)
    variables = environment({**settings_for(vault, path), "refresh_interval": "1"})
    with Service(tmp_path, variables) as service:
        (tmp_path / "openapi.json").write_text(service.get("/openapi.json").text)
        generate = ["generate", "--path", "openapi.json", "--meta", "none", "--output-path", "client"]
        generated = subprocess.run(
            [programs / "openapi-python-client", *generate], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert generated.returncode == 0, generated.stdout + generated.stderr
        done = subprocess.run(
            [programs / "python", SCRIPT, service.url],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]},
            input=SECRETS["api_key"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "ready": 200,
        "expires": True,
        "after rotation": "api-key/alice",
        "former": 401,
        "listed": ["alice"],
        "revoked": 204,
        "refused": 401,
    }
    functions = {file.stem for file in (tmp_path / "client/api/api_keys").glob("[a-z]*.py")}
    assert functions == {"issue_api_key", "list_api_keys", "rotate_api_key", "revoke_api_key"}
