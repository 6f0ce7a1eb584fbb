"""The store: a mapping that swaps whole snapshots and never shows a value."""

import copy
import json
import pickle
from typing import Any, Self

import pytest
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, model_validator

from app.config import Settings
from app.core.errors import SecretsIncomplete, SecretUnavailable
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret
from tests.declared import DeclaredForTests, create_app
from tests.support import SECRETS


def store_of(*secrets: dict[str, Any]) -> SecretStore:
    """Return a store in which one source has published these secrets."""
    store = SecretStore(DeclaredForTests, sources=["vault"])
    store.publish("vault", [Secret("path", each, 1) for each in secrets])
    return store


def test_it_equals_a_dict_of_the_same_content() -> None:
    """Handlers and tests may treat it as a dict."""
    store = store_of(SECRETS)
    assert store == SECRETS
    assert store == SECRETS
    assert SECRETS == store  # noqa: SIM300 - both ways round
    assert dict(store) == SECRETS
    assert store != {**SECRETS, "api_key": "other"}
    assert "api_key" in store
    assert len(store) == 3


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_it_shows_names_but_no_values(show: Any) -> None:
    """A store that lands in a log line gives nothing away."""
    store = store_of(SECRETS)
    for held in (store, store.snapshot(), [Secret("path", SECRETS)]):
        assert "canary" not in show(held)
    assert "api_key" in show(store)


@pytest.mark.parametrize(
    "leak",
    [json.dumps, pickle.dumps, copy.copy, copy.deepcopy, jsonable_encoder],
    ids=["json", "pickle", "copy", "deepcopy", "jsonable_encoder"],
)
def test_it_cannot_be_serialised_by_accident(leak: Any) -> None:
    """A handler that returns the whole store fails instead of sending every secret."""
    create_app(Settings.model_validate({}))  # FastAPI learns of it where the service is put together
    store = store_of(SECRETS)
    for held in (store, store.snapshot()):
        with pytest.raises(TypeError):
            leak(held)


def test_it_is_read_only() -> None:
    """Only a refresh changes it."""
    store: Any = store_of(SECRETS)
    with pytest.raises(TypeError):
        store["api_key"] = "x"
    with pytest.raises(TypeError):
        store.snapshot()["api_key"] = "x"


def test_an_absent_secret_is_a_key_error_that_says_where_to_look() -> None:
    """`in` and `get` work as for any mapping."""
    store = store_of(SECRETS)
    with pytest.raises(SecretUnavailable, match=r"secret 'missing': .*/health/ready") as caught:
        store["missing"]
    assert isinstance(caught.value, KeyError)
    assert store.get("missing") is None
    assert "missing" not in store


def test_of_two_paths_the_later_one_wins() -> None:
    """And the origin says which one it was."""
    store = SecretStore(DeclaredForTests, sources=["vault"])
    store.publish("vault", [Secret("common", SECRETS, 3), Secret("own", {"api_key": "own-key"}, 7)])
    assert store["api_key"] == "own-key"
    assert store.snapshot().origins["api_key"].path == "own"
    assert store.snapshot().origins["api_key"].version == 7
    assert store.snapshot().origins["jwt_secret"].path == "common"


def test_overrides_win_over_what_is_published_later() -> None:
    """`SECRET_API_KEY` counts, whatever Vault says and whenever it says it."""
    store = SecretStore(
        DeclaredForTests, sources=["vault"], overrides=[Secret("SECRET_API_KEY", {"api_key": "local-key"})]
    )
    assert store == {"api_key": "local-key"}
    store.publish("vault", [Secret("path", SECRETS, 1)])
    assert store["api_key"] == "local-key"


def test_a_snapshot_does_not_change_when_the_store_does() -> None:
    """A request that took one never sees the new user name with the old password."""
    store = store_of(SECRETS)
    before = store.snapshot()
    store.publish("vault", [Secret("path", {**SECRETS, "api_key": "second-key"}, 2)])
    assert before["api_key"] == SECRETS["api_key"]
    assert store["api_key"] == "second-key"


def test_all_broken_declared_secrets_are_listed_without_values() -> None:
    """Missing and malformed ones together, each with its reason."""
    store = store_of({"database_url": "canary without a scheme", "api_key": 12345})
    assert set(store.problems) == {"database_url", "api_key", "jwt_secret"}
    assert store.problems["jwt_secret"] == "missing"
    assert "canary" not in str(store.problems)
    assert "12345" not in str(store.problems)


def test_at_the_start_what_is_in_order_is_served_and_the_rest_is_not() -> None:
    """One malformed secret does not take the others away, and is not handed out itself."""
    store = store_of({**SECRETS, "jwt_secret": "short"})
    assert store == {name: value for name, value in SECRETS.items() if name != "jwt_secret"}
    assert list(store.problems) == ["jwt_secret"]


@pytest.mark.parametrize(
    "broken", [{**SECRETS, "jwt_secret": "short"}, {"api_key": "key"}, {}, {**SECRETS, "api_key": True}]
)
def test_a_snapshot_that_breaks_what_was_in_order_is_rejected_whole(broken: dict[str, Any]) -> None:
    """The last good one stays, including the keys that would have been fine."""
    store = store_of(SECRETS)
    with pytest.raises(SecretsIncomplete):
        store.publish("vault", [Secret("path", {**broken, "extra": "new"}, 2)])
    assert store == SECRETS
    assert not store.problems


def test_an_optional_secret_has_its_default_until_vault_says_otherwise() -> None:
    """A malformed one takes nothing else away."""

    class Declared(DeclaredForTests):
        region: str = "eu"

    store = SecretStore(Declared, sources=["vault"])
    store.publish("vault", [Secret("path", SECRETS, 1)])
    assert store["region"] == "eu"
    store.publish("vault", [Secret("path", {**SECRETS, "region": "us"}, 2)])
    assert store["region"] == "us"
    broken = SecretStore(Declared, sources=["vault"])
    broken.publish("vault", [Secret("path", {**SECRETS, "region": 7}, 1)])
    assert broken == SECRETS
    assert list(broken.problems) == ["region"]


def test_a_rotation_that_breaks_the_declaration_as_a_whole_is_rejected() -> None:
    """A validator over several secrets counts like one over a single secret."""

    class Pair(BaseModel):
        user: str
        password: str

        @model_validator(mode="after")
        def _belong_together(self) -> Self:
            if not self.password.startswith(self.user):
                raise ValueError("do not belong together")
            return self

    store = SecretStore(Pair, sources=["vault"])
    store.publish("vault", [Secret("path", {"user": "a", "password": "a-1"}, 1)])
    with pytest.raises(SecretsIncomplete, match="do not belong together"):
        store.publish("vault", [Secret("path", {"user": "b", "password": "a-1"}, 2)])
    assert store == {"user": "a", "password": "a-1"}


def test_a_second_source_cannot_take_away_what_the_first_has_brought() -> None:
    """Not even with its first secrets."""
    store = SecretStore(DeclaredForTests, sources=["vault", "partner"])
    store.publish("vault", [Secret("path", SECRETS, 1)])
    with pytest.raises(SecretsIncomplete):
        store.publish("partner", [Secret("path", {"api_key": 12}, 1)])
    assert store == SECRETS


def test_undeclared_keys_are_carried_too() -> None:
    """Numbers, booleans and nested objects come as they are."""
    extra = {"count": 3, "flag": False, "nested": {"a": [1, None]}}
    assert store_of({**SECRETS, **extra}) == {**SECRETS, **extra}
