"""The numbers tell of Conjur as they do of Vault."""

from pathlib import Path

from tests.extras.conjur.integration.test_service import FAST, in_conjur
from tests.extras.conjur.support import Conjur
from tests.extras.metrics.integration.test_metrics import number
from tests.support import SECRETS, Service


def test_conjur_has_its_numbers(conjur: Conjur, tmp_path: Path) -> None:
    """Logins, calls, the age of what was read and the life left of the token; no id of a variable, no value."""
    variables = in_conjur(conjur, SECRETS)
    with Service(tmp_path, {**variables, **FAST}) as service:
        assert number(service, "logins_total", source="conjur", outcome="ok") == 1
        count = "vault_call_duration_seconds_count"
        assert number(service, count, source="conjur", operation="login", outcome="ok") == 1
        assert number(service, count, source="conjur", operation="read", outcome="ok") >= 1
        assert 0 <= number(service, "source_age_seconds", source="conjur") < 30
        assert number(service, "vault_token_ttl_seconds", source="conjur") > 0
        left = number(service, "vault_token_left_seconds", source="conjur")
        assert 0 < left <= number(service, "vault_token_ttl_seconds", source="conjur")
        text = service.get("/metrics").text
    assert "canary" not in text
    assert not [variable for variable in variables["CONJUR_VARIABLES"].split(",") if variable in text]
