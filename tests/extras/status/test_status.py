"""What the status tells, from memory alone: everything about the secrets but the secrets."""

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from app.config import PROVIDERS, Settings
from app.core.errors import VaultSealed
from app.core.logs.event_log import Event
from app.core.store.refresh import Refresher
from app.core.store.rotating import Rotating
from app.core.store.secret_store import SecretStore
from app.core.store.source import Connection, Secret, TokenLife
from app.core.store.source_refresher import SourceRefresher
from app.extras.api_keys.key_storage import index_refreshers, open_api_keys  # extra: api_keys
from app.extras.status.report import SecretStatus, Status, collect
from tests.declared import DeclaredForTests
from tests.support import SECRETS

SEALED = VaultSealed("http://vault", "Vault is sealed", "Unseal it.")
REACHED = Connection("http://vault", "approle", TokenLife(1200.0, 900.0, renewable=True))
INTERVAL, BOUND = 300.0, 86400.0


class Defaulted(DeclaredForTests):
    """A declaration with an optional secret."""

    region: str = "canary-region"


class Held:
    """A service's memory: one source, what it answers, and a clock."""

    def __init__(
        self, answer: Any, *, declared: type[BaseModel] = DeclaredForTests, overrides: Sequence[Secret] = ()
    ) -> None:
        self.answer = answer
        self.version = 1
        self.now = 0.0
        self.store = SecretStore(declared, sources=["vault"], overrides=overrides)
        self.keeper = SourceRefresher(
            "vault",
            self._load,
            self.store,
            interval=INTERVAL,
            max_staleness=BOUND,
            connection=lambda: REACHED,
            clock=lambda: self.now,
            jitter=lambda _low, high: high,
        )
        self.refresher = Refresher(self.store, [self.keeper])
        self.round()

    def _load(self) -> list[Secret]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [Secret("path", self.answer, self.version, 1000.0)]

    def round(self, answer: Any = None) -> None:
        """Read once, as the refresher does."""
        if answer is not None:
            self.answer, self.version = answer, self.version + 1
        self.keeper.round()
        self.keeper.pause()

    def status(self, *events: Event) -> Status:
        """Return what is told now."""
        return collect(self.refresher, events, "development", 2000.0)


def secret(status: Status, name: str) -> SecretStatus:
    """Return one entry."""
    return next(secret for secret in status.secrets if secret.name == name)


def test_when_all_is_well_every_secret_is_listed_with_where_it_comes_from_and_how_old_it_is() -> None:
    """In the order of their names, with the age that the source has."""
    held = Held(SECRETS)
    held.now = 12.0
    status = held.status()
    assert (status.is_ready, status.findings, status.at) == (True, (), 2000.0)
    assert [secret.name for secret in status.secrets] == sorted(SECRETS)
    key = secret(status, "api_key")
    assert (key.state, key.source, key.path, key.version) == ("in force", "vault", "path", 1)
    assert (key.written_at, key.rotated_at, key.age, key.max_age) == (1000.0, None, 12.0, BOUND)
    assert key.next_round == INTERVAL - 12
    (source,) = status.sources
    assert (source.name, source.state, source.connection, source.age) == ("vault", "good", REACHED, 12.0)
    assert (source.failures, source.fault, source.last_fault) == (0, None, None)


def test_an_outage_leaves_what_is_held_and_says_why() -> None:
    """The service is ready, the source fails, the secrets are kept."""
    held = Held(SECRETS)
    for _ in range(3):
        held.round(SEALED)
    status = held.status()
    assert status.is_ready
    assert status.findings == (str(SEALED),)
    assert (status.sources[0].state, status.sources[0].failures) == ("failing", 3)
    assert status.sources[0].fault == str(SEALED)
    assert {secret.state for secret in status.secrets} == {"kept"}


def test_a_refused_rotation_names_what_is_wrong_and_what_is_held_back_with_it() -> None:
    """The versions in force are the ones before."""
    held = Held(SECRETS)
    held.round({**SECRETS, "jwt_secret": "canary", "api_key": "canary-new"})
    status = held.status()
    assert (status.is_ready, status.sources[0].state) == (True, "refused")
    key, broken = secret(status, "api_key"), secret(status, "jwt_secret")
    assert (key.state, broken.state, key.version) == ("refused", "refused", 1)
    assert broken.problem == "String should have at least 32 characters"
    assert key.problem == "held back because of jwt_secret"
    held.round(SECRETS)
    assert {secret.problem for secret in held.status().secrets} == {None}


def test_what_is_older_than_it_may_be_is_stale() -> None:
    """Not ready, whatever the last round said."""
    held = Held(SECRETS)
    held.now = BOUND + 1
    held.round(SEALED)
    status = held.status()
    assert (status.is_ready, status.sources[0].state) == (False, "stale")
    assert {secret.state for secret in status.secrets} == {"stale"}
    assert any("longer than VAULT_MAX_STALENESS" in finding for finding in status.findings)


def test_what_is_declared_and_not_there_is_listed_too() -> None:
    """Missing or not as declared, and from nowhere."""
    status = Held({"jwt_secret": "short", "database_url": "sqlite:///x.db"}).status()
    assert not status.is_ready
    assert (secret(status, "api_key").state, secret(status, "jwt_secret").state) == ("missing", "malformed")
    assert secret(status, "jwt_secret").problem == "String should have at least 32 characters"
    assert secret(status, "api_key").source is None
    assert secret(status, "database_url").state == "in force"


def test_before_the_first_answer_a_source_waits() -> None:
    """Neither good nor failing."""
    store = SecretStore(DeclaredForTests, sources=["vault"])
    status = collect(Refresher(store, [SourceRefresher("vault", tuple, store, interval=0)]), (), "production", 0.0)
    assert (status.sources[0].state, status.sources[0].age) == ("waiting", None)


def test_defaults_and_overrides_are_shown_as_such() -> None:
    """They have no age: no rotation reaches them."""
    override = Secret("SECRET_API_KEY", {"api_key": "canary-override"})
    held = Held(SECRETS, declared=Defaulted, overrides=[override])
    held.round(SEALED)
    status = held.status()
    default, own = secret(status, "region"), secret(status, "api_key")
    assert (default.source, default.path, default.state) == ("defaults", "the declaration", "in force")
    assert (own.source, own.path, own.state) == ("environment", "SECRET_API_KEY", "in force")
    assert (own.age, own.max_age, own.next_round, own.rotated_at) == (None, None, None, None)


def test_a_rotation_is_dated_for_the_keys_that_it_changed() -> None:
    """The others keep their date."""
    held = Held(SECRETS)
    held.round({**SECRETS, "api_key": "canary-new"})
    status = held.status()
    assert secret(status, "api_key").rotated_at is not None
    assert secret(status, "jwt_secret").rotated_at is None
    assert secret(status, "jwt_secret").version == 2


def test_the_last_fault_is_remembered_after_it_is_over() -> None:
    """That of the same source, whatever has succeeded since."""
    status = Held(SECRETS).status(
        Event(1.0, "login", "vault", "failed", "LoginRefused"),
        Event(2.0, "load", "vault", "failed", "VaultSealed"),
        Event(3.0, "load", "vault", "ok", "after a fault"),
        Event(4.0, "load", "partner", "failed", "VaultUnreachable"),
    )
    assert status.sources[0].last_fault == Event(2.0, "load", "vault", "failed", "VaultSealed")
    assert len(status.events) == 4


def test_objects_built_from_secrets_are_listed() -> None:
    """With what they need, and why the last building failed."""
    held = Held(SECRETS)

    async def build(*_: object) -> str:
        return "canary"

    keys = Rotating("signing keys", ("jwt_secret",), build)
    keys.fault = "ValueError"
    status = collect(Refresher(held.store, [held.keeper], {"signing keys": keys}), (), "development", 0.0)
    (built,) = status.objects
    assert (built.name, built.needs, built.is_built, built.fault) == (
        "signing keys",
        ("jwt_secret",),
        False,
        "ValueError",
    )
    assert status.findings == ("signing keys: could not be built (ValueError)",)


def test_values_leave_no_trace_not_even_their_length() -> None:
    """Two services whose secrets differ tell the same."""
    short, long = (Held({name: text * n for name, text in SECRETS.items()}).status() for n in (1, 9))
    assert short == long
    assert "canary" not in short.model_dump_json()


# extra: conjur
CONJUR_LOGIN = {
    "enabled": True,
    "appliance_url": "http://127.0.0.1",
    "account": "a",
    "authn_login": "host/app",
    "authn_api_key": "canary",
}
# /extra


@pytest.mark.parametrize(
    ("settings", "source", "method"),
    [
        pytest.param({"vault": {"auth_method": "approle"}}, "vault", "approle", id="Vault"),
        pytest.param({"vault": {"auth_mount_point": "corp"}}, "vault", "token at auth/corp", id="mounted elsewhere"),
        pytest.param(
            {"vaults": {"partner": {"url": "http://x", "auth_method": "cert", "enabled": False}}},
            "partner",
            "cert",
            id="a further Vault",
        ),
        # extra: conjur
        pytest.param({"conjur": {"authn_login": "host/app"}}, "conjur", "API key", id="Conjur"),
        pytest.param({"conjur": {"authn_jwt_service_id": "k8s"}}, "conjur", "authn-jwt/k8s", id="Conjur, JWT"),
        pytest.param({"conjur": {"authn_token_file": "/token"}}, "conjur", "token file", id="Conjur, token file"),
        pytest.param({"conjur": CONJUR_LOGIN}, "api-keys", "API key", id="API keys in Conjur"),  # extra: api_keys
        # /extra
        # extra: api_keys
        pytest.param({"vault": {"enabled": True, "token": "canary"}}, "api-keys", "token", id="API keys in Vault"),
        # /extra
    ],
)
def test_looking_at_a_connection_makes_none(settings: dict[str, Any], source: str, method: str) -> None:
    """Nobody is asked, and nobody logged in."""
    for _ in range(2):
        own = Settings.model_validate(
            {**settings, "vault": {"access_mode": "read_and_write", **settings.get("vault", {})}}
        )
        keepers: dict[str, SourceRefresher] = {}
        # extra: api_keys
        keepers |= {each.source: each for each in index_refreshers(own, PROVIDERS, open_api_keys(own, PROVIDERS))}
        # /extra
        found = (keepers.get(source) or PROVIDERS.source(own, source)).connection()
        assert (found.method, found.token) == (method, None)
