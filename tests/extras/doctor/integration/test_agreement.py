"""The service and the doctor name the same cause, and so the same party, for what Vault says in few words."""

import re

import pytest

from app.config import Settings, get_settings
from app.core.errors import BlueprintError
from tests.extras.doctor.integration.mistakes import MISTAKES, World, of_the_answers
from tests.extras.doctor.integration.test_doctor import servers, world
from tests.support import load_all

__all__ = ["servers", "world"]

COMMON = [name for name in MISTAKES if hasattr(of_the_answers, name)]


@pytest.mark.parametrize("name", COMMON)
def test_the_service_says_what_the_doctor_says(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In its own first read, with the same remedy, and without a value."""
    mistake = MISTAKES[name]
    for variable, text in mistake.variables(world).items():
        monkeypatch.setenv(variable, text)
    Settings.settings_clear_cache()
    with pytest.raises(BlueprintError) as caught:
        load_all(get_settings())
    said = str(caught.value)
    assert mistake.cause in said
    assert re.sub(r"VAULT_(\w+)_FILE=.*", r"VAULT_\1", mistake.remedy) in said  # the doctor names the file, too
    assert [canary for canary in world.canaries if canary in said] == []


def test_there_are_enough_of_them() -> None:
    """Each row of the table in docs/login.md, in several shapes."""
    assert len(COMMON) > 30
