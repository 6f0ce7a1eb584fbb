"""Whoever gets hold of an object of ours, or of an error, sees no value; and all that is held is masked."""

import copy
import pickle
import pprint
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ValidationError, field_validator
from rich.pretty import pretty_repr  # extra: cli and doctor

from app.config import Settings, get_settings
from app.core.errors import BlueprintError, SecretsIncomplete
from app.core.logs import redaction
from app.core.logs.event_log import journal
from app.core.logs.redaction import redact
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret
from app.core.vault.sessions import get_session
from app.extras.conjur.index import conjur_source  # extra: conjur
from app.vault import get_vault_client, read_secret
from tests.core.integration.canaries.arrangement import Arrangement
from tests.core.integration.canaries.search import ODD
from tests.declared import DeclaredForTests, create_app
from tests.support import load_all, until

SHOW: tuple[Callable[[Any], str | bytes], ...] = (
    repr,
    str,
    "{}".format,
    pprint.pformat,
    pretty_repr,  # extra: cli and doctor
    lambda thing: pprint.pformat(getattr(thing, "__dict__", None)),
    lambda thing: repr(copy.copy(thing)),
    lambda thing: repr(copy.deepcopy(thing)),
    *(
        lambda thing, protocol=protocol: pickle.dumps(thing, protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
)
REFUSED = (TypeError, AttributeError, pickle.PicklingError)  # by ours, or because there is a lock in it


@pytest.fixture
def first(arrangement: Arrangement) -> int:
    """Return how many canaries there were before this test."""
    return len(arrangement.canaries.values)


@pytest.fixture
def app(arrangement: Arrangement, first: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """Return the service, started in this process, with a credential of every kind."""
    assert first >= 0
    arrangement.secrets()
    for name, value in arrangement.variables("json").items():
        if not name.startswith("PYTHON"):
            monkeypatch.setenv(name, value)
    Settings.settings_clear_cache()
    arrangement.proxy.headers.clear()
    arrangement.proxy.bodies.clear()
    arrangement.conjur_proxy.headers.clear()  # extra: conjur
    app = create_app()
    with TestClient(app) as client:
        until(lambda: client.get("/health/ready").json() == {"status": "ready"}, "the service to be ready")
        yield app


def things(app: FastAPI) -> dict[str, Any]:
    """Return what holds secrets, directly or not."""
    settings, store, refresher = app.state.settings, app.state.vault_secrets, app.state.refresher
    sessions = [get_session(settings.vault_settings(name), name) for name in ("vault", "partner", "provider")]
    logins = [session.current() for session in sessions]
    conjur = conjur_source(settings).session  # extra: conjur
    rotating = list(app.state.rotating.values())
    return {
        "settings": settings,
        "settings of a Vault": settings.vault,
        "settings of Conjur": settings.conjur,  # extra: conjur
        "settings as a dict": repr(settings.model_dump()),
        "settings as JSON": settings.model_dump_json(),
        "client": get_vault_client(),
        "sessions": sessions,
        "session of Conjur": conjur,  # extra: conjur
        "auth methods": [vars(session)["_method"] for session in sessions],
        "login to Conjur": conjur.current(),  # extra: conjur
        "logins": logins,
        "auths": [login.auth for login in logins if login],
        "connections": [login.http for login in logins if login],
        "store": store,
        "snapshot": store.snapshot(),
        "loaded": load_all(),
        "parts": vars(store)["_parts"],
        "origins": store.snapshot().origins,
        "refresher": refresher,
        "keepers": list(refresher.sources),
        "rotating": rotating,
        "what is rotated": [vars(each)["_held"] for each in rotating],
        "API keys": app.state.api_keys,  # extra: api_keys
        "state": vars(app.state),
        "journal": journal.events(),
        "app": app,
        "OpenAPI": app.openapi(),
    }


def test_no_object_shows_what_it_holds(app: FastAPI, arrangement: Arrangement) -> None:
    """By `repr` and its relatives, copies and pickles; a refusal is fine."""
    arrangement.watch_what_was_sent()
    shown = {}
    for name, thing in things(app).items():
        for number, show in enumerate(SHOW):
            try:
                shown[f"{name}, {number}"] = show(thing)
            except REFUSED:
                continue
    assert len(shown) > 100
    assert arrangement.canaries.found_anywhere(shown) == {}


def test_no_error_shows_a_value(app: FastAPI, arrangement: Arrangement, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, secrets that break the declaration, references and paths."""
    plant = arrangement.canaries.plant
    errors: list[BaseException] = []

    def collect(action: Callable[[], object], kind: type[BaseException] = BlueprintError) -> None:
        with pytest.raises(kind) as caught:
            action()
        errors.append(caught.value)

    store = app.state.vault_secrets
    for broken in (
        {"jwt_secret": plant("too short")[:20]},
        {"api_key": plant("blanks", " ")},
        {"database_url": [plant("x")]},
    ):
        values = {**dict(store), **broken}
        collect(partial(store.publish, "vault", [Secret("app", values)]), SecretsIncomplete)
        collect(partial(DeclaredForTests.model_validate, values), ValidationError)
    collect(lambda: store["nothing"])
    collect(lambda: read_secret("nowhere"))
    collect(lambda: read_secret("app", "nothing"))
    for name, value in {
        "VAULT_URL": f"https://user:{plant('password in an address')}@vault",
        "VAULT_TIMEOUT": plant("no number"),
        "VAULTS__PARTNER__KV_VERSION": plant("no version"),
        "SECRET_X": "{vault://nobody/" + "x" * 20 + "}",
        "ENVIRONMENT": plant("no environment"),
    }.items():
        monkeypatch.setenv(name, value)
    Settings.settings_clear_cache()
    collect(get_settings)
    collect(Settings, ValidationError)
    shown = {repr(type(error)): f"{error!r} {error}{''.join(traceback.format_exception(error))}" for error in errors}
    assert arrangement.canaries.found_anywhere(shown) == {}


def test_all_that_is_held_is_masked(
    app: FastAPI, arrangement: Arrangement, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials as given and as obtained; secrets in force, the ones before them, and those that were refused."""
    monkeypatch.setattr(redaction, "SHAPES", ())  # a token must not be masked only because it looks like one
    arrangement.watch_what_was_sent()
    store, refresher = app.state.vault_secrets, app.state.refresher
    everything = arrangement.canaries.values[first:]
    names = {name for name, _ in everything}
    assert {"unwrapped secret id", "token in use", "wrapping token", "JWT", "SECRET_ override"} <= names
    assert "Conjur's token" in names  # extra: conjur
    arrangement.secrets()
    assert _round(refresher)
    arrangement.secrets(api_key=arrangement.canaries.plant("refused", " "))
    assert not _round(refresher)
    assert store.problems == {}
    assert redact(app.state.settings.vault.role_id.get_secret_value()) == "***"
    for name, value in arrangement.canaries.values[first:]:
        assert arrangement.canaries.found_in(redact(f"<{value}>")) == {}, name
        assert arrangement.canaries.found_in(value) != {}, "the search is awake"


def _round(refresher: Any) -> Any:
    (keeper,) = (keeper for keeper in refresher.sources if keeper.source == "vault")
    return keeper.round()


def test_a_validator_that_repeats_a_value_is_masked(arrangement: Arrangement) -> None:
    """The declaration is the user's, and so are its messages; they reach `/health/ready`."""

    class Careless(BaseModel):
        password: str

        @field_validator("password")
        @classmethod
        def _is_good(cls, value: str) -> str:
            raise ValueError(f"{value} is no good")

    store = SecretStore(Careless, sources=["vault"])
    store.publish("vault", [Secret("app", {"password": arrangement.canaries.plant("password", ODD)})])
    assert store.problems == {"password": "Value error, *** is no good"}
