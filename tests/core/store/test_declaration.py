"""What handlers get is what pydantic makes of the secrets: by the names of fields, as their types, or not at all."""

import copy
import json
import pickle
from typing import Any, Self

import pytest
from fastapi.encoders import jsonable_encoder
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    field_validator,
    model_validator,
)

from app.core.errors import SecretsIncomplete, SecretUnavailable
from app.core.logs.redaction import redact
from app.core.store.declaration import WHOLE, Declaration, broken_secrets
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret


class Smtp(BaseModel):
    """A nested declaration."""

    host: str
    port: int = Field(25, gt=0)
    password: SecretStr = SecretStr("")


class Declared(BaseModel):
    """All the ways to name a field, and some to make a value."""

    model_config = ConfigDict(hide_input_in_errors=True)

    url: str
    db_port: int = Field(5432, alias="db-port")
    user: str = Field(validation_alias=AliasChoices("db-user", "username", AliasPath("db", "user")))
    zone: str = Field("eu", validation_alias=AliasPath("db", "zone"))
    smtp: Smtp | None = None
    hosts: list[str] = []
    token: SecretStr = SecretStr("none")


GIVEN: dict[str, Any] = {"url": "x://y", "db-user": "shop"}


def store_of(declared: type[BaseModel], data: dict[str, Any], **overrides: str) -> SecretStore:
    """Return a store into which one source has put these secrets."""
    said = [Secret(f"SECRET_{name.upper()}", {name: text}, explicit=True) for name, text in overrides.items()]
    store = SecretStore(declared, ["vault"], said)
    store.publish("vault", [Secret("path", data, 1)])
    return store


@pytest.mark.parametrize(
    ("data", "name", "value"),
    [
        ({"db-port": "6543"}, "db_port", 6543),
        ({}, "db_port", 5432),
        ({"db_port": "1"}, "db_port", 5432),  # pydantic takes the alias only
        ({}, "user", "shop"),
        ({"db-user": "first", "username": "second"}, "user", "first"),
        ({"db": {"zone": "us"}}, "zone", "us"),
        ({"smtp": {"host": "h", "port": "26"}}, "smtp", Smtp(host="h", port=26)),
        ({"hosts": ["a", "b"]}, "hosts", ["a", "b"]),
        ({"token": "t"}, "token", SecretStr("t")),
        ({}, "token", SecretStr("none")),
        ({"other": {"as": ["it", "is"]}}, "other", {"as": ["it", "is"]}),
    ],
)
def test_a_value_is_what_pydantic_makes_of_it(data: dict[str, Any], name: str, value: Any) -> None:
    """Under the field's name; a key that no field takes stays as it is."""
    store = store_of(Declared, GIVEN | data)
    assert store[name] == value
    assert not store.problems
    assert getattr(store.snapshot().declared, name, value) == value


def test_the_key_of_an_alias_is_not_in_the_mapping_beside_its_field() -> None:
    """One value, one name; where it comes from is known by that name."""
    store = store_of(Declared, GIVEN | {"db-port": 1, "username": "x", "db": {"zone": "us"}, "more": 1})
    assert set(store) == {*Declared.model_fields, "more"}
    origins = store.snapshot().origins
    assert (origins["db_port"].path, origins["db_port"].version, origins["db_port"].key) == ("path", 1, "db-port")
    assert origins["url"].key == ""
    assert (origins["user"].key, origins["zone"].key) == ("db-user", "db")
    assert origins["token"].source == "defaults"


def test_a_model_that_takes_names_too_is_read_by_them() -> None:
    """As its configuration says."""

    class ByName(Declared):
        model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    assert store_of(ByName, GIVEN | {"db_port": "1"})["db_port"] == 1
    assert store_of(ByName, {"url": "x", "user": "by-name"})["user"] == "by-name"


def test_what_the_settings_say_counts_by_the_fields_name_and_may_be_json() -> None:
    """A variable can have no dash; and what is declared as text stays text, whatever it looks like."""
    smtp = json.dumps({"host": "h", "password": "p"})
    store = store_of(
        Declared, GIVEN | {"db-port": 1, "url": "vault's"}, db_port="7", smtp=smtp, hosts='["a"]', url="[1]"
    )
    assert (store["db_port"], store["smtp"], store["hosts"]) == (7, Smtp.model_validate_json(smtp), ["a"])
    assert store["url"] == "[1]"
    assert store.snapshot().origins["db_port"].path == "SECRET_DB_PORT"
    assert not store.problems
    assert set(store_of(Declared, GIVEN, smtp="no json").problems) == {"smtp"}


def test_json_counts_in_a_strict_declaration_too() -> None:
    """There a text is no number."""

    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)

        port: int
        smtp: dict[str, int]

    store = store_of(Strict, {"smtp": {"a": 1}}, port="25")
    assert store == {"port": 25, "smtp": {"a": 1}}
    assert set(store_of(Strict, {"smtp": {"a": 1}, "port": "25"}).problems) == {"port"}  # Vault's is taken as it is


def test_every_fault_is_named_with_its_place() -> None:
    """In nested models, behind aliases and in lists."""
    data = {"db-port": "x", "smtp": {"port": 0, "password": 1}, "hosts": [1, "a", 2], "db": {"user": 1}}
    problems = store_of(Declared, data).problems
    assert set(problems) == {"url", "db_port", "user", "smtp", "hosts"}
    assert problems["url"] == "missing"
    assert problems["smtp"].startswith("host: missing; port: Input should be greater than 0; password: ")
    assert problems["hosts"].count("Input should be a valid string") == 2
    assert problems["hosts"].startswith("0: ")
    assert problems["db_port"].startswith("Input should be a valid integer")


def test_what_is_good_is_served_at_the_start_beside_what_is_broken() -> None:
    """As pydantic makes it, too; the whole model is not there."""
    store = store_of(Declared, {"db-port": "6543", "db-user": "shop", "smtp": {"host": 1}, "more": 1})
    assert set(store.problems) == {"url", "smtp"}
    assert store == {
        "db_port": 6543,
        "user": "shop",
        "zone": "eu",
        "hosts": [],
        "token": SecretStr("none"),
        "more": 1,
    }
    with pytest.raises(SecretUnavailable, match="not all are held"):
        _ = store.snapshot().declared


class Bound(BaseModel):
    """A declaration whose fields are only good together."""

    user: str
    password: str
    other: str = "default"

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.user == self.password:
            raise ValueError("user and password are the same")
        return self


def test_a_model_validator_that_fails_is_a_broken_declaration() -> None:
    """Nothing of it is served at the start, and a rotation to it is refused."""
    store = store_of(Bound, {"user": "a", "password": "a", "more": 1})
    assert store.problems == {WHOLE: "Value error, user and password are the same"}
    assert store == {"more": 1}
    store.publish("vault", [Secret("path", {"user": "a", "password": "b"}, 2)])
    assert store == {"user": "a", "password": "b", "other": "default"}
    with pytest.raises(SecretsIncomplete):
        store.publish("vault", [Secret("path", {"user": "c", "password": "c"}, 3)])
    assert store["user"] == "a"
    assert store_of(Bound, {"user": "a"}) == {}  # what is good alone may not be good together


def test_a_validator_may_look_at_other_fields() -> None:
    """And one that changes the value has it masked in the logs as well."""

    class Validated(BaseModel):
        first: str
        second: str

        @field_validator("second")
        @classmethod
        def _turned_round(cls, value: str) -> str:
            return value[::-1]

    store = store_of(Validated, {"first": "x", "second": "terces-degnahc"})
    assert store["second"] == "changed-secret"
    assert "changed-secret" not in redact("it is changed-secret")
    assert store_of(Validated, {"second": "abcdefg"}) == {"second": "gfedcba"}


def test_a_frozen_declaration_and_one_that_forbids_others_are_read_as_well() -> None:
    """A key too many is a problem of its own."""

    class Narrow(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")

        one: int
        two: int = 2

    assert store_of(Narrow, {"one": "1"}) == {"one": 1, "two": 2}
    broken = store_of(Narrow, {"one": "x", "three": 3})
    assert set(broken.problems) == {"one", "three"}
    assert broken["two"] == 2
    assert "one" not in broken


def test_a_broken_default_that_is_validated_does_not_go_round_for_ever() -> None:
    """Everything is then broken."""

    class Defaulted(BaseModel):
        model_config = ConfigDict(validate_default=True)

        one: int
        two: int = Field("x")  # type: ignore[assignment]

        @field_validator("one", mode="before")
        @classmethod
        def _never(cls, _: object) -> object:
            raise ValueError("never")

    assert store_of(Defaulted, {"one": 1}) == {}


def test_the_model_shows_no_value() -> None:
    """Nor does it become a response; its values are reached by name."""
    store = store_of(Declared, {"url": "x://canary", "db-user": "canary", "smtp": {"host": "canary"}})
    model: Any = store.snapshot().declared
    assert isinstance(model, Declared)
    assert model.smtp is not None
    assert model.smtp.host == "canary"
    assert "canary" not in f"{model!r}{model}"
    assert "smtp" in repr(model)
    for leak in (pickle.dumps, jsonable_encoder, TypeAdapter(Any).dump_json, copy.copy, BaseModel.model_dump_json):
        try:
            shown = leak(model)
        except Exception as error:  # noqa: BLE001 - pydantic has classes of its own
            shown = error
        assert "canary" not in repr(shown)


def test_a_former_version_is_read_as_it_would_have_been() -> None:
    """With the other secrets as they are, and not at all if it is not as declared."""
    store = store_of(Bound, {"user": "a", "password": "b"})
    assert [*store.former_value("password", Secret("path", {"password": "old"}))] == ["old"]
    assert [*store.former_value("password", Secret("path", {"password": "a"}))] == []
    aliased = store_of(Declared, GIVEN)
    assert [*aliased.former_value("db_port", Secret("path", {"db-port": "1"}))] == [1]


def test_problems_are_told_without_origins() -> None:
    """Where only the values are known, as for a seed."""
    assert broken_secrets(Declared, GIVEN) == {}
    assert Declaration(Declared).origin("nothing", {}) is None
