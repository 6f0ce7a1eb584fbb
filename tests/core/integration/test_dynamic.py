"""Credentials that a real Vault issues for a real PostgreSQL: how they come, stay good, and go."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.config import Settings
from app.core.errors import BackendError, KeyMissing, PermissionDenied, WouldIssue
from app.core.settings.vault import VaultSettings
from app.core.store.overrides import Texts
from app.core.vault.dynamic import DRAIN, credentials_of
from app.core.vault.policy import vault_policy
from app.core.vault.session import VaultSession
from app.core.vault.source import VaultSource
from app.core.vault.token_life import TokenKeeper
from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.seed_database import ACCOUNT, USERS
from tests.issuing import POLICY, Issuer, let_in
from tests.postgres import ask
from tests.support import SECRETS, Service, environment, unique, until


class Source(VaultSource):
    """A source with a session, and a clock, of its own."""

    def __init__(self, values: dict[str, Any], texts: Texts) -> None:
        self.late = 0.0
        settings = VaultSettings.model_validate(values)
        super().__init__(settings, texts=texts, session=(session := VaultSession(settings)))
        real = session.clock
        session.clock = lambda: real() + self.late
        self.woken = 0
        self.call_when_due(self._count)

    def _count(self) -> None:
        self.woken += 1

    @property
    def found(self) -> dict[str, Any]:
        """What a round finds now; it is in force, and nothing uses what was before."""
        values = {name: value for secret in self.load() for name, value in secret.data.items()}
        self.swapped(lambda: True)
        return values

    def tick(self) -> float:
        """Do what is due."""
        return self.periodic()["leases of vault"]()


Open = Callable[..., Source]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Return what opens a source; all are closed in the end."""
    sources: list[Source] = []

    def make(values: dict[str, Any], **texts: str) -> Source:
        sources.append(Source(values, {name: SecretStr(text) for name, text in texts.items()}))
        return sources[-1]

    yield make
    for source in sources:
        source.session.close()


def test_one_issue_serves_every_round(issuing: Issuer, opened: Open) -> None:
    """One issue serves every round."""
    role = issuing.role()
    url = "postgresql://{dynamic://db/username}:{dynamic://db/password}@127.0.0.1:" + f"{issuing.postgres.port}/shop"
    source = opened(issuing.login(role), database_url=url)
    with issuing.vault.audited() as calls:
        first = source.found
        assert [source.found for _ in range(5)] == [first] * 5
    assert set(first) == {"db_username", "db_password", "database_url"}
    assert let_in(first["database_url"])
    assert [path for _, path in calls if "creds" in path] == [f"database/creds/{role}"]
    source.session.close()
    until(lambda: not issuing.users(role), "the user to be dropped with the token")


def test_kv_and_dynamic_secrets_mix_in_one_text(issuing: Issuer, opened: Open) -> None:
    """KV and dynamic secrets mix in one text."""
    role, path = issuing.role(), unique("mixed")
    issuing.vault.write(path, {"host": "db.example.com"})
    login = {**issuing.login(role, path), "secret_path": path}
    found = opened(login, dsn="postgresql://{dynamic://db/username}@{vault://vault/" + path + "/host}/shop").found
    assert found["dsn"] == f"postgresql://{found['db_username']}@db.example.com/shop"
    assert found["host"] == "db.example.com"


def test_a_lease_is_renewed_in_time_and_replaced_before_its_max_ttl(issuing: Issuer, opened: Open) -> None:
    """A lease is renewed in time and replaced before its max TTL."""
    role = issuing.role(default_ttl="6s", max_ttl="9s")
    source = opened(issuing.login(role))
    before = source.found["db_username"]
    seen = {before}
    until(lambda: not source.tick() or source.woken, "the lease to come near its max TTL")
    assert source.connection().leases["db"].left > 0  # type: ignore[operator]
    after = source.found["db_username"]
    assert after not in seen
    assert len(issuing.users(role)) == 2, "the former user is there while it may be in use"
    source.late += DRAIN[0] + 1
    source.tick()
    until(lambda: issuing.users(role) == [after], "the former user to go")


def test_replaced_credentials_stay_while_they_are_used(issuing: Issuer, opened: Open) -> None:
    """Replaced credentials stay while they are used."""
    role = issuing.role()
    source = opened(issuing.login(role))
    source.found  # noqa: B018 - has them issued
    source.refused({"db_username": "dynamic://db"})
    in_use = [True]
    source.load()
    source.swapped(lambda: not in_use)
    source.late += DRAIN[0] + 1
    source.tick()
    assert len(issuing.users(role)) == 2
    in_use.clear()
    source.tick()
    until(lambda: len(issuing.users(role)) == 1, "the former user to go")


def test_users_who_never_finish_are_waited_for_a_minute(issuing: Issuer, opened: Open) -> None:
    """Users who never finish are waited for a minute."""
    role = issuing.role()
    source = opened(issuing.login(role))
    source.found  # noqa: B018 - has them issued
    source.refused({"db_username": "dynamic://db"})
    source.load()
    source.swapped(lambda: False)
    source.late += DRAIN[1] - 1
    source.tick()
    assert len(issuing.users(role)) == 2
    source.late += 2
    source.tick()
    until(lambda: len(issuing.users(role)) == 1, "the former user to go")


def test_a_new_token_brings_new_credentials_before_the_old_ones_go(issuing: Issuer, opened: Open) -> None:
    """A new token brings new credentials before the old ones go."""
    role = issuing.role()
    source = opened(issuing.login(role))
    before = source.found["db_username"]
    old = source.session.current()
    assert old is not None
    source.session.replace(old)
    assert source.woken, "a round is wanted at once"
    assert issuing.users(role) == [before], "the old token lives on while its user does"
    after = source.found["db_username"]
    assert sorted(issuing.users(role)) == sorted([before, after])
    source.late += DRAIN[0] + 1
    source.tick()
    until(lambda: issuing.users(role) == [after], "the old token to be revoked, and its user with it")
    assert old.is_dead()


def test_a_token_shorter_than_the_lease_is_replaced_in_time(issuing: Issuer, opened: Open) -> None:
    """A token shorter than the lease is replaced in time."""
    role = issuing.role()
    source = opened(issuing.login(role, token_ttl="4s", token_max_ttl="4s"))
    assert source.found
    life = source.connection().leases["db"]
    assert life.left is not None
    assert life.left <= 4
    keeper = TokenKeeper(lambda: source.session)
    until(lambda: keeper.tick() and source.woken, "the token to be replaced")
    assert source.connection().leases["db"].left, "while the credentials were good"
    assert let_in(issuing.url({name.removeprefix("db_"): value for name, value in source.found.items()}))


def test_batch_tokens_revoke_each_lease(issuing: Issuer, opened: Open) -> None:
    """Batch tokens revoke each lease."""
    role = issuing.role()
    source = opened(issuing.login(role, token_type="batch", token_ttl="10m"))
    assert source.found
    source.session.close()
    until(lambda: not issuing.users(role), "the user to be dropped, though a batch token cannot be revoked")


def test_a_token_that_was_handed_in_survives_its_leases(issuing: Issuer, opened: Open) -> None:
    """A token that was handed in survives its leases."""
    role = issuing.role()
    login = issuing.login(role)
    lender = VaultSession(VaultSettings.model_validate(login))
    token = lender.client().token
    kept = {name: login[name] for name in ("enabled", "url", "dynamic", "secret_path")}
    source = opened({**kept, "token": token})
    assert source.found
    source.session.close()
    until(lambda: not issuing.users(role), "the user to be dropped")
    assert lender.client().auth.token.lookup_self()
    lender.close()


def test_uses_of_a_token_are_spent_on_more_than_one_issue(issuing: Issuer, opened: Open) -> None:
    """Uses of a token are spent on more than one issue."""
    role = issuing.role()
    source = opened(issuing.login(role, token_num_uses=4))
    for _ in range(12):
        found = source.found
        assert let_in(issuing.url({name.removeprefix("db_"): value for name, value in found.items()}))
        source.refused({"db_username": "dynamic://db"})
        source.late += 31


def test_revoked_credentials_are_replaced_at_their_renewal(issuing: Issuer, opened: Open) -> None:
    """Revoked credentials are replaced at their renewal."""
    role = issuing.role(default_ttl="1h")
    source = opened(issuing.login(role))
    before = source.found
    issuing.vault.client.sys.revoke_prefix(f"database/creds/{role}")
    source.late += 2600
    source.tick()
    assert source.woken
    assert source.found != before


def test_who_was_refused_gets_other_credentials_but_not_ever_again(issuing: Issuer, opened: Open) -> None:
    """Who was refused gets other credentials but not ever again."""
    role = issuing.role()
    source = opened(issuing.login(role))
    first = source.found
    source.refused({"db_password": "dynamic://db"})
    second = source.found
    assert second != first
    source.refused({"db_password": "dynamic://db"})
    assert source.found == second, "at most one issue in 30 seconds"
    source.late += 31
    source.refused({"db_password": "dynamic://db"})
    assert source.found != second


def test_a_lease_that_cannot_be_renewed_is_replaced(issuing: Issuer, opened: Open) -> None:
    """A lease that cannot be renewed is replaced."""
    role = issuing.role()
    policy = "\n".join(line for line in POLICY.splitlines() if "renew/database" not in line)
    source = opened(issuing.login(role, policy=policy))
    before = source.found
    source.late += 2600
    source.tick()
    assert source.found != before


def test_an_issue_never_answers_from_a_cache(issuing: Issuer, opened: Open) -> None:
    """Each has a nonce in its query."""
    role = issuing.role()
    source = opened(issuing.login(role))
    sent: list[str] = []
    source.session.client().session.hooks["response"].append(lambda answer, **_: sent.append(answer.request.path_url))
    for _ in range(2):
        source.refused({"db_password": "dynamic://db"})
        assert source.found
        source.late += 31
    issues = [path for path in sent if "/creds/" in path]
    assert len(set(issues)) == 2
    assert all("?n=" in path for path in issues)


def test_former_credentials_are_given_up_when_a_path_cannot_be_read(issuing: Issuer, opened: Open) -> None:
    """A KV path that is gone must not keep new credentials from the service."""
    role, path = issuing.role(), unique("gone")
    issuing.vault.write(path, {"colour": "blue"})
    source = opened({**issuing.login(role, path), "secret_path": path})
    before = source.found
    issuing.vault.client.secrets.kv.v2.delete_metadata_and_all_versions(path)
    with pytest.raises(BackendError) as unchanged:
        source.load()
    assert not unchanged.value.usable, "nothing new has come"
    source.refused({"db_password": "dynamic://db"})
    with pytest.raises(BackendError) as failed:
        source.load()
    usable: Any = failed.value.usable
    values = {name: value for secret in usable for name, value in secret.data.items()}
    assert values["colour"] == "blue"
    assert values["db_password"] != before["db_password"]


def test_what_would_issue_says_so(issuing: Issuer) -> None:
    """What would issue says so."""
    role = issuing.role()
    settings = VaultSettings.model_validate(issuing.login(role))
    session = VaultSession(settings)
    with pytest.raises(WouldIssue, match=f"VAULT_DYNAMIC__DB: would have Vault issue database/creds/{role}"):
        VaultSource(settings, session=session, may_issue=False).load()
    session.close()
    assert not issuing.users(role)


BAD = [
    ("database/creds/no-such-role", "VAULT_DYNAMIC__DB=database/creds/no-such-role"),
    ("secret/data/{path}", "a secret of the KV engine"),
    ("no-such-mount/creds/shop", "permission denied"),
    ("sys/capabilities-self?paths=secret/", "neither a lease nor an expiry"),
]


@pytest.mark.parametrize(("path", "message"), BAD)
def test_what_issues_nothing_is_named(issuing: Issuer, opened: Open, path: str, message: str) -> None:
    """What issues nothing is named."""
    kv = unique("kv")
    issuing.vault.write(kv, {"colour": "blue"})
    login = issuing.login("no-such-role", kv) | {"dynamic": {"db": path.format(path=kv)}}
    with pytest.raises(BackendError, match=message):
        opened(login).load()


def test_a_field_that_vault_does_not_issue_is_named(issuing: Issuer, opened: Open) -> None:
    """A field that Vault does not issue is named."""
    source = opened(issuing.login(issuing.role()), dsn="{dynamic://db/user}")
    with pytest.raises(KeyMissing, match="there is no key 'user'; the keys: password, username"):
        source.load()


def test_a_missing_grant_is_named(issuing: Issuer, opened: Open) -> None:
    """A missing grant is named."""
    policy = POLICY.replace("database/creds/{role}", "database/creds/other")
    with pytest.raises(PermissionDenied, match="VAULT_DYNAMIC__DB"):
        opened(issuing.login(issuing.role(), policy=policy)).load()


def test_a_database_that_is_down_is_not_vaults_fault(issuing: Issuer, opened: Open) -> None:
    """A database that is down is not Vault's fault."""
    role = issuing.role(creation_statements=["CREATE NONSENSE"])
    with pytest.raises(BackendError, match="what it stands for"):
        opened(issuing.login(role)).load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("database/../sys", r"\.\."),
        ("database/creds/shop?ttl", "are not understood"),
        ("database/creds/shop?ttl=1&ttl=2", "gives ttl twice"),
        ("database/creds/{role}", "in its path"),
    ],
)
def test_a_path_that_cannot_be_is_refused(text: str, message: str) -> None:
    """A path that cannot be is refused."""
    with pytest.raises(ValidationError, match=message):
        VaultSettings.model_validate({"dynamic": {"shop": text}})


def test_an_expired_lease_is_no_secret_any_more(issuing: Issuer, opened: Open) -> None:
    """An expired lease is no secret any more."""
    source = opened(issuing.login(issuing.role()))
    assert source.found
    source.late += 3700
    assert source.connection().leases["db"].left == 0


def test_a_static_role_is_read_again_when_its_password_changes(issuing: Issuer, opened: Open) -> None:
    """A static role is read again when its password changes."""
    name, user = unique("static"), unique("user").replace("-", "_")
    made = f"CREATE ROLE {user} LOGIN PASSWORD 'before' IN ROLE {USERS}"
    ask(issuing.database.url("shop"), made, f"GRANT {user} TO {ACCOUNT} WITH ADMIN OPTION", "SELECT 1")
    static = {"db_name": "shop", "username": user, "rotation_period": "5s"}
    issuing.vault.client.write_data(f"database/static-roles/{name}", data=static)
    login = issuing.login(name) | {"dynamic": {"db": f"database/static-creds/{name}"}}
    source = opened(login)
    before = source.found
    assert let_in(issuing.url({name.removeprefix("db_"): value for name, value in before.items()}))
    until(lambda: source.tick() and source.woken, "the password to be due")
    until(lambda: source.found["db_password"] != before["db_password"], "Vault to change it")
    assert source.connection().leases["db"].left != 0, "it ends only when there is another one"
    after = source.found
    assert let_in(issuing.url({name.removeprefix("db_"): value for name, value in after.items()}))
    issuing.vault.client.write_data(f"database/rotate-role/{name}", data={})
    source.refused({"db_password": "dynamic://db"})
    until(lambda: source.found["db_password"] != after["db_password"], "the refused one to be read again")


def test_a_session_has_one_memory_of_what_was_issued(issuing: Issuer, opened: Open) -> None:
    """A session has one memory of what was issued."""
    source = opened(issuing.login(issuing.role()))
    assert credentials_of(source.session) is credentials_of(source.session)


def test_the_printed_policy_is_enough_and_no_more(issuing: Issuer, opened: Open) -> None:
    """For the issue, the renewal and the revocation, bounded to the role's path."""
    role, other = issuing.role(), issuing.role()
    settings = Settings.model_validate({"vault": issuing.login(role)})
    policy = vault_policy(settings).replace("{", "{{").replace("}", "}}")
    login = issuing.login(role, policy=policy, token_type="batch", token_ttl="30m")
    source = opened(login)
    before = source.found
    source.late += 2600
    source.tick()
    source.refused({"db_username": "dynamic://db"})
    assert source.found != before
    source.session.close()
    until(lambda: not issuing.users(role), "each lease to be revoked by itself")
    with pytest.raises(PermissionDenied):
        opened({**login, "dynamic": {"db": f"database/creds/{other}"}}).load()


def test_what_was_issued_shows_nowhere(issuing: Issuer, tmp_path: Path) -> None:
    """Neither in the log nor in what the service tells of itself."""
    role, path = issuing.role(), unique("canary")
    issuing.vault.write(path, {name: value for name, value in SECRETS.items() if name != "database_url"})
    variables = environment({name: value for name, value in issuing.login(role, path).items() if name != "dynamic"})
    variables |= {
        "VAULT_SECRET_PATH": path,
        "VAULT_DYNAMIC__DB": f"database/creds/{role}",
        "SECRET_DATABASE_URL": "postgresql://{dynamic://db/username}:{dynamic://db/password}@db.example.com/shop",
        "LOG_LEVEL": "DEBUG",
    }
    with Service(tmp_path, variables) as service:
        user = until(lambda: issuing.users(role), "the user to be issued")[0]
        until(lambda: service.get("/health/ready").status_code == 200, "the service to be ready")
        told = "".join(
            service.get(place, headers={"X-API-Key": SECRETS["api_key"]}).text
            for place in ("/status", "/status.json", "/metrics", "/health/ready", "/openapi.json")
        )
    assert user not in told + service.output
    assert "dynamic://db" in told, "its name is no secret"


ODD = [
    ({"lease_id": "database/creds/other/abc", "lease_duration": 60, "renewable": True}, "lease_id"),
    ({"lease_id": "database/creds/shop/..%2F..", "lease_duration": 60, "renewable": True}, "lease_id"),
    ({"lease_id": "database/creds/shop/abc", "lease_duration": 0, "renewable": True}, "is good for 0 s"),
    ({"lease_id": "", "data": {"certificate": "x", "expiration": 1}}, "is good for -"),
]


@pytest.mark.parametrize(("odd", "message"), ODD, ids=["another path", "dots", "no time", "over"])
def test_an_odd_answer_to_an_issue_is_named(issuing: Issuer, opened: Open, odd: dict[str, Any], message: str) -> None:
    """A lease of somebody else's, and what is over already."""
    body = json.dumps({"data": {"username": "u", "password": "p"}, **odd}).encode()
    fault = Fault(body=body, headers=(("Content-Type", "application/json"),))
    proxy = FaultyProxy(issuing.vault.url, lambda _method, where: fault if "/creds/shop" in where else None)
    with proxy.running() as url:
        login = issuing.login("shop") | {"url": url}
        with pytest.raises(BackendError, match=message):
            opened(login).load()
