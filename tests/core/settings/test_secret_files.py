"""`SECRET_<NAME>_FILE` is `SECRET_<NAME>` with what is in a file, as Docker and Kubernetes deliver secrets."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import Settings, get_settings
from app.core.errors import BadSettings


def secrets(monkeypatch: pytest.MonkeyPatch, dotenv: str = "", **variables: str) -> dict[str, str]:
    """Return what the entries are with these variables, and a `.env`."""
    Path(".env").write_text(dotenv)
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        Settings.settings_clear_cache()
        return {name: value.get_secret_value() for name, value in get_settings().secrets.items()}


def problems(monkeypatch: pytest.MonkeyPatch, dotenv: str = "", **variables: str) -> list[str]:
    """Return what is said about them; never what may be a value."""
    with pytest.raises(BadSettings) as caught:
        secrets(monkeypatch, dotenv, **variables)
    assert "canary" not in str(caught.value)
    return caught.value.problems


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"canary", "canary"),
        (b"canary\n", "canary"),
        (b"canary\r\n", "canary"),
        (b"canary\n\n", "canary\n"),
        (b" canary \t\n", " canary \t"),
        (b"-----BEGIN\nPEM\n-----END\n", "-----BEGIN\nPEM\n-----END"),
        ("p\u00e4ss".encode(), "p\u00e4ss"),
        (b"\xef\xbb\xbfcanary", "canary"),
        (b"x" * (1 << 20), "x" * (1 << 20)),
    ],
)
def test_the_value_is_what_is_in_the_file(monkeypatch: pytest.MonkeyPatch, content: bytes, value: str) -> None:
    """But for one line end behind it, which editors and `echo` leave there."""
    Path("x").write_bytes(content)
    assert secrets(monkeypatch, SECRET_API_KEY_FILE="x") == {"api_key": value}
    assert secrets(monkeypatch, "SECRET_API_KEY_FILE=x\n") == {"api_key": value}


def test_a_reference_may_be_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is understood, or refused, as elsewhere."""
    Path("x").write_text("{vault://vault/app/key}\n")
    made = {"VAULT_ENABLED": "true", "SECRET_STRIPE_KEY_FILE": "x"}
    assert secrets(monkeypatch, **made) == {"stripe_key": "{vault://vault/app/key}"}
    Path("x").write_text("{vault://nobody/app/key}\n")
    (problem,) = problems(monkeypatch, **made)
    assert "there is no Vault named nobody" in problem


def _missing(file: Path) -> None:
    assert not file.exists()


def _empty(file: Path) -> None:
    file.write_text("\n")


def _binary(file: Path) -> None:
    file.write_bytes(b"canary\x00")


def _latin(file: Path) -> None:
    file.write_bytes("canäry".encode("latin-1"))


def _large(file: Path) -> None:
    file.write_bytes(b"x" * ((1 << 20) + 1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_missing, "the file cannot be read (No such file or directory): check its path, its owner and its mode"),
        (Path.mkdir, "this is not a regular file"),
        (os.mkfifo, "this is not a regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "this is not a regular file"),
        (_empty, "the file is empty: check what should fill it"),
        (_binary, "the file is not text in UTF-8"),
        (_latin, "the file is not text in UTF-8"),
        (_large, "the file is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_a_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], said: str
) -> None:
    """At once, with the reason; what stands there may be a secret where a path was meant, so it is not shown."""
    make(Path("canary"))
    assert problems(monkeypatch, SECRET_API_KEY_FILE="canary") == [f"SECRET_API_KEY_FILE: {said}"]


def test_all_that_is_wrong_is_said_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what else is wrong with the settings."""
    found = problems(monkeypatch, SECRET_A_FILE="canary", SECRET_B_FILE="/", VAULT_TIMEOUT="0")
    assert [each.partition(":")[0] for each in found] == ["VAULT_TIMEOUT", "SECRET_A_FILE", "SECRET_B_FILE"]


def test_a_value_and_a_file_in_one_place_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can know which is meant."""
    Path("x").write_text("canary")
    said = ["SECRET_API_KEY: SECRET_API_KEY and SECRET_API_KEY_FILE are both set: unset one of them"]
    assert problems(monkeypatch, SECRET_API_KEY="canary", SECRET_API_KEY_FILE="x") == said
    assert problems(monkeypatch, "SECRET_API_KEY=canary\nSECRET_API_KEY_FILE=x\n") == said
    assert secrets(monkeypatch, SECRET_API_KEY="", SECRET_API_KEY_FILE="x") == {"api_key": "canary"}


def test_the_environment_wins_over_the_other_name_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with every other pair of names."""
    Path("x").write_text("from-x")
    assert secrets(monkeypatch, "SECRET_API_KEY_FILE=nowhere\n", SECRET_API_KEY="value") == {"api_key": "value"}
    assert secrets(monkeypatch, "SECRET_API_KEY=value\n", SECRET_API_KEY_FILE="x") == {"api_key": "from-x"}


def test_a_name_that_is_only_the_suffix_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """There would be no entry for it."""
    assert secrets(monkeypatch, SECRET_FILE="literal") == {"file": "literal"}
