"""The command line reads and changes Conjur as it does Vault."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import Settings
from tests.command_line import main
from tests.extras.conjur.jwt_mistakes import (
    MISTAKES,
    JwtWorld,
    Mistake,
    expired,
    not_permitted,
    unknown_service,
)
from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur


@pytest.fixture
def standin() -> Iterator[Conjur]:
    """Return a stand-in of this test's own."""
    with StandIn() as server:
        yield Conjur(server.url, server.account, "admin", server.admin_api_key, server)


def test_the_command_line_knows_conjur(
    standin: Conjur, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A path is a folder, each key a variable in it."""
    for name, value in standin.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VAULT_ACCESS_MODE", "read_and_write")
    monkeypatch.setenv("CONJUR_POLICY_BRANCH", standin.branch)
    folder = f"{standin.branch}/db"

    def run(*arguments: str) -> tuple[int, str, str]:
        Settings.settings_clear_cache()
        monkeypatch.setattr(sys, "argv", ["app", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return (code or 0, *capfd.readouterr())

    conjur = ("--vault", "conjur")
    assert run("put", folder, "user=app", "password=x y", *conjur) == (0, f"{folder}: written\n", "")
    assert run("get", f"{{vault://conjur/{folder}/password}}") == (0, "x y\n", "")
    assert run("patch", folder, "password=z", "--remove", "user", *conjur)[0] == 0
    assert run("get", f"{{vault://conjur/{folder}/password}}", "--version", "1")[1] == "x y\n"
    assert run("list", folder, *conjur)[1] == f"{folder}/password\n"
    assert list(json.loads(run("versions", f"{folder}/password", "--json", *conjur)[1])) == ["1", "2"]
    assert run("get", f"{{vault://conjur/{folder}/user}}")[0] == 4
    assert run("delete", f"{folder}/password", *conjur)[0] == 0
    assert run("delete", f"{folder}/password", *conjur)[0] == 4
    for impossible in (("put", folder, "a=b", "--cas", "0"), ("undelete", folder, "--version", "1")):
        code, out, err = run(*impossible, *conjur)
        assert (code, out, "not possible in Conjur" in err) == (1, "", True)
    assert "- !policy" in run("policy", *conjur)[1]
    assert run("policy")[1] == run("policy", *conjur)[1]  # Vault is not enabled


@pytest.mark.parametrize("mistake", [expired, not_permitted, unknown_service])
def test_a_refused_jwt_ends_with_5(
    standin: Conjur,
    tmp_path: Path,
    mistake: Mistake,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As every refused login does, with the reason on standard error."""
    mistake(jwt := JwtWorld(standin, tmp_path / "jwt"))
    service = str(jwt.more.get("authn_jwt_service_id", "kube"))
    variables = {
        **standin.environment(),
        "CONJUR_AUTHN_JWT_SERVICE_ID": service,
        "CONJUR_AUTHN_JWT_FILE": str(jwt.file),
    }
    for name in variables.keys() - {"CONJUR_AUTHN_API_KEY", "CONJUR_AUTHN_LOGIN"}:
        monkeypatch.setenv(name, variables[name])
    Settings.settings_clear_cache()
    monkeypatch.setattr(sys, "argv", ["app", "get", f"{{vault://conjur/{jwt.variable}}}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 5
    assert re.search(MISTAKES[mistake], capfd.readouterr().err)
