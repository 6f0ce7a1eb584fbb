"""The numbers tell of Conjur as they do of Vault."""

from pathlib import Path

from tests.conjur.support import Conjur
from tests.conjur.test_service import FAST, in_conjur
from tests.integration.test_metrics import number
from tests.support import SECRETS, Service


def test_conjur_has_its_numbers(conjur: Conjur, tmp_path: Path) -> None:
    """Logins, calls, the age of what was read and the life left of the token; no id of a variable, no value."""
    variables = in_conjur(conjur, SECRETS)
    with Service(tmp_path, {**variables, **FAST}) as service:
        assert number(service, "blueprint_logins_total", source="conjur", outcome="ok") == 1
        count = "blueprint_vault_call_duration_seconds_count"
        assert number(service, count, source="conjur", operation="login", outcome="ok") == 1
        assert number(service, count, source="conjur", operation="read", outcome="ok") >= 1
        assert 0 <= number(service, "blueprint_source_age_seconds", source="conjur") < 30
        assert number(service, "blueprint_vault_token_ttl_seconds", source="conjur") > 0
        left = number(service, "blueprint_vault_token_left_seconds", source="conjur")
        assert 0 < left <= number(service, "blueprint_vault_token_ttl_seconds", source="conjur")
        text = service.get("/metrics").text
    assert "canary" not in text
    assert not [variable for variable in variables["CONJUR_VARIABLES"].split(",") if variable in text]
