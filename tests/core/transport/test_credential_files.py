"""Credential files: a warning, once, if others may read them, and none where that means nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.core.logs.logging_config import configure_logging
from app.core.transport import credential_files
from app.core.vault.auth_methods.protocol import credential


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the log lines written so far."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def written(file: Path, mode: int) -> Path:
    """Write a credential with this mode."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("canary-credential\n")
    file.chmod(mode)
    return file


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o660])
def test_a_file_that_others_may_read_is_reported_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: int
) -> None:
    """By the variable and the file, with the remedy; the credential is used all the same."""
    configure_logging("INFO", "json")
    file = written(tmp_path / "secret-id", mode)
    for _ in range(3):
        assert credential(None, file, "VAULT_SECRET_ID") == "canary-credential"
    (event,) = events(capsys)
    assert (event["event"], event["level"]) == ("credential_file_exposed", "warning")
    assert event["variable"] == "VAULT_SECRET_ID_FILE"
    assert event["remedy"] == f"chmod 600 {file}"
    assert event["mode"] == f"{mode:04o}"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o602, 0o610])
def test_a_private_file_is_fine(capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: int) -> None:
    """Who may write it or run it is another matter."""
    configure_logging("INFO", "json")
    credential(None, written(tmp_path / "secret-id", mode), "VAULT_SECRET_ID")
    credential(SecretStr("given-as-a-value"), None, "VAULT_SECRET_ID")
    assert events(capsys) == []


def test_a_group_that_the_owner_lets_in_is_fine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`root:app` with 0640 is good practice: the service reads the file as one of the group."""
    configure_logging("INFO", "json")
    file = written(tmp_path / "secret-id", 0o640)
    monkeypatch.setattr("os.geteuid", lambda: file.stat().st_uid + 1)
    credential(None, file, "VAULT_SECRET_ID")
    assert events(capsys) == []
    credential(None, written(tmp_path / "world", 0o644), "VAULT_SECRET_ID")
    assert len(events(capsys)) == 1


def test_what_a_container_runtime_mounts_is_fine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Kubernetes volume is known by how the kubelet swaps it, Docker's secrets by their place."""
    configure_logging("INFO", "json")
    written(tmp_path / "volume/..2026_11_21/token", 0o644)
    (tmp_path / "volume/..data").symlink_to("..2026_11_21")
    (tmp_path / "volume/token").symlink_to("..data/token")
    assert credential(None, tmp_path / "volume/token", "VAULT_JWT") == "canary-credential"
    monkeypatch.setattr(credential_files, "MOUNTED", (tmp_path / "run/secrets",))
    credential(None, written(tmp_path / "run/secrets/secret-id", 0o444), "VAULT_SECRET_ID")
    assert events(capsys) == []
