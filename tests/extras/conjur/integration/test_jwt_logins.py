"""Logins with a JWT: what Conjur says of one that it refuses, and what can be told though it says nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core.errors import BackendError, LoginRefused, ServerFault, UnexpectedAnswer
from app.core.store.sessions import close_sessions
from app.extras.conjur.index import conjur_source
from app.extras.conjur.login_errors import CODES
from tests.extras.conjur import wire
from tests.extras.conjur.jwt_mistakes import MISTAKES, JwtWorld, Mistake
from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur
from tests.extras.conjur.wire import Answer


@pytest.fixture
def world(tmp_path: Path) -> Iterator[JwtWorld]:
    """Prepare the service."""
    with StandIn() as server:
        conjur = Conjur(server.url, server.account, "admin", server.admin_api_key, server)
        yield JwtWorld(conjur, tmp_path / "jwt")


def loaded(settings: Settings) -> list[dict[str, Any]]:
    """Return what the source brings."""
    return [dict(secret.data) for secret in conjur_source(settings).load()]


def test_a_jwt_is_exchanged_for_a_token(world: JwtWorld) -> None:
    """Read again at each login, since its issuer rotates it; with the line break that it may end with."""
    world.file.write_text(f"{world.file.read_text()}\n")
    settings = world.settings()
    assert loaded(settings) == [{"a": "value"}]
    held = conjur_source(settings).session.current()
    assert held is not None
    assert held.login == world.login
    world.issue("another")
    world.standin.expire_tokens()
    with pytest.raises(LoginRefused, match=r"service kube: .* does not say why"):
        loaded(settings)
    close_sessions()
    world.accept()
    assert loaded(settings) == [{"a": "value"}]


def test_a_login_beside_a_jwt_is_asked_for(world: JwtWorld) -> None:
    """As one segment: where the JWT does not say which host it stands for."""
    world.service.token_app_property = False
    world.more["authn_login"] = world.login
    assert loaded(world.settings()) == [{"a": "value"}]
    asked = [call.path for call in world.standin.requests if call.path.endswith("/authenticate")]
    assert asked[-1] == f"/authn-jwt/kube/default/{world.login.replace('/', '%2F')}/authenticate"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_refused_jwt_is_told_as_far_as_it_can_be_seen(world: JwtWorld, mistake: Mistake) -> None:
    """With what to fix, and nothing of the JWT that could be used."""
    mistake(world)
    with pytest.raises(LoginRefused, match=MISTAKES[mistake]) as caught:
        loaded(world.settings())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("code", CODES)
def test_a_code_that_conjur_tells_is_understood(world: JwtWorld, code: str) -> None:
    """Whichever server tells it; what it says beside the code is not passed on."""
    refusal = wire.error(401, "unauthorized", f"{code} canary")
    world.standin.fail_next(401, path="/authenticate", answer=refusal)
    with pytest.raises(LoginRefused, match=CODES[code].partition(":")[0]) as caught:
        loaded(world.settings())
    assert "canary" not in str(caught.value)


def test_a_code_that_is_not_known_is_shown(world: JwtWorld) -> None:
    """So that it can be looked up."""
    answer = wire.error(401, "unauthorized", "CONJ00999E canary")
    world.standin.fail_next(401, path="/authenticate", answer=answer)
    with pytest.raises(LoginRefused, match=r"Conjur refuses the login \(CONJ00999E\)"):
        loaded(world.settings())


ANSWERS: dict[str, tuple[Answer, type[BackendError]]] = {
    "400": (wire.bare(400), LoginRefused),
    "403": (wire.bare(403), LoginRefused),
    "403 with a reason": (wire.error(403, "forbidden", "x"), LoginRefused),
    "404 with a reason": (wire.not_found("webservice", "x", "default"), LoginRefused),
    "422": (wire.error(422, "argument_error", "x"), LoginRefused),
    "409": (wire.conflict(1), LoginRefused),
    "404": (wire.unrouted(404), UnexpectedAnswer),
    "401 with text": (wire.unauthorized("Authorization missing"), UnexpectedAnswer),
    "500": (wire.unrouted(500), ServerFault),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("way", ["jwt", "api key"])
def test_a_failed_login_is_never_about_a_variable(world: JwtWorld, name: str, way: str) -> None:
    """Nor about its permissions, whatever the status is: the login is named."""
    answer, error = ANSWERS[name]
    if way == "api key":
        world.more = {
            "authn_jwt_service_id": None,
            "authn_jwt_file": None,
            "authn_login": "admin",
            "authn_api_key": "x",
        }
    world.standin.fail_next(answer.status, times=4, path="/authenticate", answer=answer)
    with pytest.raises(BackendError) as caught:
        loaded(world.settings())
    assert type(caught.value) is error
    assert world.variable not in str(caught.value)
