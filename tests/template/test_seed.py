"""What is seeded where the declaration says nothing: a random text that fits, or a question for one that does."""

import os
import subprocess
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, BaseModel, Field, SecretStr, StringConstraints, create_model

from infrastructure.dev_vault import DevVaultError
from infrastructure.seed import check, made_up, seed_dotenv
from tests.declared import DeclaredForTests
from tests.support import DEADLINE, ROOT

Visible = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=32)]


class Smtp(DeclaredForTests):
    """A nested model, as strict as the declaration."""

    database_url: str
    port: int = 25


@pytest.mark.parametrize("kind", [str, Visible, SecretStr, str | None, Any, Smtp], ids=str)
def test_a_required_secret_needs_no_seed(kind: Any) -> None:
    """A text, in any wrapping, and a nested model of texts."""
    declared: type[BaseModel] = create_model("Declared", __base__=DeclaredForTests, stripe=(kind, ...))
    made = made_up(declared)
    assert made["stripe"] != made_up(declared)["stripe"]
    check(declared, {**made, "database_url": "postgresql://db/app"})


def test_an_optional_secret_is_left_out() -> None:
    """Its default counts."""
    assert "port" not in made_up(Smtp)


@pytest.mark.parametrize(
    "alias",
    [
        {"alias": "stripe-key"},
        {"validation_alias": "stripe-key"},
        {"validation_alias": AliasChoices("stripe-key", "x")},
    ],
    ids=["alias", "validation alias", "choices"],
)
def test_it_is_seeded_by_its_key_in_vault(alias: Any) -> None:
    """Which may differ from the name of the field."""
    declared: type[BaseModel] = create_model("Declared", stripe_key=(str, Field(**alias)))
    assert list(made_up(declared)) == ["stripe-key"]
    check(declared, made_up(declared))


@pytest.mark.parametrize(
    "kind",
    [
        int,
        list[str],
        Annotated[str, StringConstraints(pattern="^sk_")],
        Annotated[str, StringConstraints(max_length=8)],
    ],
    ids=str,
)
def test_what_cannot_be_made_up_is_asked_for(kind: Any) -> None:
    """By its name, in one line, and without the value."""
    declared: type[BaseModel] = create_model("Declared", __base__=Smtp, stripe=(kind, ...))
    made = made_up(declared)
    with pytest.raises(DevVaultError, match=r"stripe: .*\): give one in SEED, in app/app_secrets.py") as caught:
        check(declared, made)
    assert str(made["stripe"]) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_somebody_has_written_is_left_alone() -> None:
    """It is not for seeding to judge."""
    values = {"database_url": "postgresql://db/app", "api_key": "with blanks", "jwt_secret": "j" * 32}
    check(DeclaredForTests, values, kept=["api_key"])
    with pytest.raises(DevVaultError, match="api_key"):
        check(DeclaredForTests, values, kept=["jwt_secret"])


@pytest.mark.parametrize("how", ["a directory", "a pipe", "latin-1", "a link that leads nowhere"])
def test_a_dotenv_that_cannot_be_read_is_named(tmp_path: Path, how: str) -> None:
    """By what seeds, which neither shows a traceback nor waits; and make waits for no pipe, either."""
    file = tmp_path / ".env"
    match how:
        case "a directory":
            file.mkdir()
        case "a pipe":
            os.mkfifo(file)
        case "latin-1":
            file.write_bytes(b"# \xe4")
        case _:
            file.symlink_to("nowhere")
    with pytest.raises(DevVaultError, match=r"^\.env: cannot be read: "):
        seed_dotenv("http://127.0.0.1:8200")
    helped = subprocess.run(
        ["make", "--file", str(ROOT / "Makefile"), "help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert "PORT=8000" in helped.stdout
