"""Routes that are passed over at once are still found wherever they are."""

from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient

from app.core.web.quick_router import QuickRouter

THERE = [
    "/things",
    "/things/7",
    "/things/a b",
    "/v2/things",
    "/v2/things/7",
    "/api/v2/things/7",
    "/inner/deep/down",
    "/inner/plain/late",
    "/",
]


def service() -> FastAPI:
    """Return one with such routers, below a prefix, in each other, and mounted."""
    inner, things, root = QuickRouter(prefix="/deep"), QuickRouter(prefix="/things"), QuickRouter()
    plain = APIRouter()

    @inner.get("/down")
    async def down() -> str:
        return "down"

    @things.get("")
    async def many() -> str:
        return "many"

    @things.websocket("/{number}/live")
    async def live(websocket: WebSocket, number: str) -> None:
        await websocket.accept()
        await websocket.send_text(number)
        await websocket.close()

    @root.get("/")
    async def home() -> str:
        return "home"

    outer = QuickRouter(prefix="/inner")
    outer.include_router(inner)
    outer.include_router(plain, prefix="/plain")
    app, sub = FastAPI(), FastAPI()
    for each in (outer, things, root):
        app.include_router(each)
    app.include_router(things, prefix="/v2")
    sub.include_router(things, prefix="/v2")
    app.mount("/api", sub)

    @plain.get("/late")  # after both were included
    async def late() -> str:
        return "late"

    @things.get("/{name}")  # after it was included
    async def one(name: str) -> str:
        return name

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Call it."""
    with TestClient(service(), follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("path", THERE)
def test_they_are_found(client: TestClient, path: str) -> None:
    """Below prefixes, in other routers, in a mounted application, with parameters; with the right method."""
    assert client.get(path).status_code == 200
    assert client.delete(path).status_code == 405


@pytest.mark.parametrize("path", ["/thing", "/inner/deep", "/inner/deep/down/x", "/x", "/x/things/7/8"])
def test_what_is_not_there_is_not(client: TestClient, path: str) -> None:
    """A path that only looks like one."""
    assert client.get(path).status_code == 404


def test_a_route_is_found_that_comes_when_requests_have_been_answered() -> None:
    """In a router within a router."""
    app, outer, inner = FastAPI(), QuickRouter(), QuickRouter(prefix="/inner")
    app.include_router(outer)
    outer.include_router(inner)
    client = TestClient(app)
    assert client.get("/inner/late").status_code == 404

    @inner.get("/late")
    async def late() -> str:
        return "late"

    assert client.get("/inner/late").json() == "late"


def test_a_websocket_is_found(client: TestClient) -> None:
    """It has a path, too."""
    with client.websocket_connect("/v2/things/7/live") as websocket:
        assert websocket.receive_text() == "7"


def test_the_first_of_two_is_taken() -> None:
    """As everywhere in FastAPI: an earlier router comes first."""
    app, first, second = FastAPI(), QuickRouter(), APIRouter()

    @first.get("/{anything}")
    async def any_of_them(anything: str) -> str:
        return anything

    @second.get("/this")
    async def this() -> str:
        return "not reached"

    app.include_router(first)
    app.include_router(second)
    assert TestClient(app).get("/this").json() == "this"
