"""What the doctor says of dynamic secrets, on a real Vault with a real PostgreSQL."""

from typing import Any

import pytest

from app.config import PROVIDERS, Settings
from app.core.store.provider import Blueprint
from app.extras.doctor.diagnosis import examine, is_well
from app.extras.doctor.dynamic import NOT_DONE
from app.extras.doctor.findings import Finding
from tests.declared import DeclaredForTests
from tests.issuing import POLICY, Issuer
from tests.support import SECRETS, unique, until

BLUEPRINT = Blueprint(DeclaredForTests, Settings, PROVIDERS)
URL = "postgresql://{dynamic://db/username}:{dynamic://db/password}@db.example.com/shop"


def findings(issuing: Issuer, role: str, policy: str = POLICY, *, issue: bool = False, **options: Any) -> list[Finding]:
    """Examine a service whose database_url consists of what this role issues."""
    path = unique("doctor")
    issuing.vault.write(path, {name: value for name, value in SECRETS.items() if name != "database_url"})
    login = {**issuing.login(role, path, policy, **options), "secret_path": path}
    settings = Settings.model_validate({"vault": login, "secrets": {"database_url": URL}})
    return list(examine(BLUEPRINT, settings, issue=issue))


def test_nothing_is_issued_unless_that_is_asked_for(issuing: Issuer) -> None:
    """And what would be is no fault."""
    role = issuing.role()
    with issuing.vault.audited() as calls:
        found = findings(issuing, role)
    assert is_well(found), found
    assert [each.subject for each in found if each.text == NOT_DONE] == [
        "dynamic://db",
        "SECRET_DATABASE_URL",
        "database_url",
    ]
    assert not [path for _, path in calls if path.startswith("database/creds")]
    (told,) = [each for each in found if each.step == "dynamic"]
    assert told.subject == f"VAULT_DYNAMIC__DB=database/creds/{role}"
    assert "the token may have it issued, renew it and take it back" in told.text


def test_what_is_issued_for_it_goes_with_it(issuing: Issuer) -> None:
    """The declaration is looked at, too."""
    role = issuing.role()
    found = findings(issuing, role, issue=True)
    assert is_well(found), found
    assert any(each.text.startswith("issued for 3600 s, with password, username") for each in found)
    assert any(each.text.startswith("it ends with the token") for each in found), "the token has 20 minutes"
    assert any(each.subject == "database_url" and "SECRET_DATABASE_URL" in each.text for each in found)
    until(lambda: not issuing.users(role), "the user to be dropped")


def test_a_role_without_a_ttl_is_named(issuing: Issuer) -> None:
    """Vault's own is 32 days."""
    role = issuing.role(default_ttl="0", max_ttl="0")
    found = findings(issuing, role, issue=True)
    assert any("it is good for 32 days" in each.text for each in found), found


@pytest.mark.parametrize(
    "lacking", ["database/creds/", "sys/leases/renew/database/creds/", "sys/leases/revoke/database/creds/"]
)
def test_each_missing_grant_is_named(issuing: Issuer, lacking: str) -> None:
    """With the line to add to the policy."""
    role = issuing.role()
    policy = "\n".join(line for line in POLICY.splitlines() if f'path "{lacking}' not in line)
    (fault,) = [each for each in findings(issuing, role, policy) if each.status == "fault"]
    assert fault.step == "dynamic"
    assert fault.subject == f"VAULT_DYNAMIC__DB=database/creds/{role}"
    assert f'path "{lacking}{role}' in fault.remedy
