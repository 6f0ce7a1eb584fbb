"""The real service, with handlers in it as careless people write them: `tests.core.integration.canaries.careless:app`.

What is under /careless must not show a secret, since the template masks it. What is under /leaks shows one past every
mask, and is only there to prove that the search finds it. `CARELESS_UNMASKED=1` switches the masking off.
"""

import asyncio
import base64
import functools
import gc
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

import app.core.logs.redaction

if os.environ.get("CARELESS_UNMASKED"):
    app.core.logs.redaction.redact = lambda text: text
    app.core.logs.redaction.mask_named = lambda _logger, _method, event: event

from app.core.logs.logging_config import get_logger
from app.core.store.rotating import Rotating
from app.core.web.service import running
from tests.declared import create_app

service = create_app()
CHILDREN: list[str] = []  # what was started
STARTING = {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system"}
sys.addaudithook(lambda event, _arguments: CHILDREN.append(event) if event in STARTING else None)

log = get_logger("careless")
foreign = logging.getLogger("careless.driver")
Handler = Callable[[dict[str, Any]], Coroutine[Any, Any, Any]]
handlers: dict[str, Handler] = {}


def careless(handler: Handler) -> Handler:
    """Serve a handler that gets all secrets."""
    handlers[handler.__name__] = handler
    return handler


@careless
async def message(secrets: dict[str, Any]) -> None:
    """Put a secret into an exception, and leave it in a local variable."""
    url = secrets["database_url"]
    raise ConnectionError(f"cannot connect to {url} (local: {len(url)})")


@careless
async def everything(secrets: dict[str, Any]) -> None:
    """Raise with all secrets, in their `repr`."""
    raise KeyError(secrets)


@careless
async def group(secrets: dict[str, Any]) -> None:
    """Raise a group, with a cause and a note."""
    try:
        raise LookupError(secrets["api_key"])
    except LookupError as error:
        several = ExceptionGroup("several", [ValueError(secrets["jwt_secret"]), error])
        several.add_note(f"the key was {secrets['api_key']}")
        raise several from error


@careless
async def detail(secrets: dict[str, Any]) -> None:
    """Tell the caller too much."""
    raise HTTPException(400, f"{secrets['database_url']} does not answer")


@careless
async def pydantic(secrets: dict[str, Any]) -> None:
    """Let pydantic repeat a secret, cut in the middle."""

    class Pool(BaseModel):
        size: int

    for value in (secrets["database_url"], secrets["jwt_secret"], secrets):
        try:
            Pool.model_validate({"size": value})
        except ValueError as error:
            log.warning("pool_refused", reason=str(error), exc_info=True)
    Pool.model_validate(secrets)


@careless
async def answer(secrets: dict[str, Any]) -> int:
    """Return what is not declared: FastAPI's error repeats it."""
    return secrets["database_url"]  # type: ignore[no-any-return]


@careless
async def whole_store(secrets: dict[str, Any]) -> Any:
    """Return the store itself."""
    del secrets
    return service.state.vault_secrets


@careless
async def loggers(secrets: dict[str, Any]) -> None:
    """Log secrets in every way that there is."""
    for name, value in secrets.items():
        log.info("secret_read", name=name, value=value, nested=[{"deep": (value,)}], state=service.state.vault_secrets)
        log.info(" ".join(["read", str(value)]))
        foreign.debug("%s is %r", name, value, extra={"extra": value})
        foreign.warning("%d", value)  # cannot be rendered
        try:
            raise OSError(value)
        except OSError:
            foreign.exception("failed")
    log.info(
        "connecting", password="unheld", headers={"Authorization": secrets["api_key"]}, settings=service.state.settings
    )


@careless
async def spellings(secrets: dict[str, Any]) -> None:
    """Log secrets in other spellings."""
    for name, value in secrets.items():
        text = value if isinstance(value, str) else json.dumps(value)
        for spell in (quote, json.dumps, repr, functools.partial(quote, safe="")):
            log.info("spelt", name=name, text=f"<{spell(text)}>")
        log.info(
            "spelt", text=str(base64.b64encode(b"user:" + text.encode())), json=json.dumps({"x": json.dumps(secrets)})
        )


@careless
async def warning(secrets: dict[str, Any]) -> None:
    """Warn, and forget a coroutine."""
    warnings.warn(f"deprecated: {secrets['api_key']}", DeprecationWarning, stacklevel=1)
    message(secrets)  # type: ignore[unused-coroutine]
    gc.collect()


@careless
async def thread(secrets: dict[str, Any]) -> None:
    """Let a thread die."""

    def work(value: str) -> None:
        raise ValueError(value)

    worker = threading.Thread(target=work, args=(secrets["jwt_secret"],), name=secrets["api_key"])
    worker.start()
    worker.join()


@careless
async def task(secrets: dict[str, Any]) -> None:
    """Let a task die that nobody waits for."""
    lost = asyncio.create_task(message(secrets), name=secrets["api_key"])
    await asyncio.wait([lost])
    del lost
    gc.collect()


@careless
async def slow(secrets: dict[str, Any]) -> None:
    """Hold up the event loop in callbacks that have secrets among their arguments."""
    for value in (secrets["jwt_secret"], secrets["database_url"]):
        asyncio.get_running_loop().call_soon(functools.partial(time.sleep, 0.11))
        asyncio.get_running_loop().call_soon(lambda *_: time.sleep(0.11), value, {"value": value}, value.encode())
    asyncio.get_running_loop().call_soon(functools.partial(sorted, secrets["api_key"], key=None), "too", "many")
    await asyncio.sleep(0.3)


@careless
async def unraisable(secrets: dict[str, Any]) -> None:
    """Fail where nobody can catch it."""

    class Connection:
        def __del__(self) -> None:
            raise RuntimeError(secrets["database_url"])

    Connection()
    gc.collect()


@careless
async def hang(secrets: dict[str, Any]) -> None:
    """Keep secrets in local variables for long."""
    held = dict(secrets)
    await asyncio.sleep(60)
    log.info("too late", n=len(held))


async def client_of_partner(secrets: Mapping[str, Any], _old: object) -> httpx2.AsyncClient:
    """Build a client that sends a secret in a header."""
    url = os.environ.get("CARELESS_PARTNER", "http://127.0.0.1:9")
    return httpx2.AsyncClient(base_url=url, headers={"X-API-Key": secrets["partner_key"]})


async def ask_partner(client: httpx2.AsyncClient) -> None:
    """Send the secret to somebody who sends it back in a header, and log that."""
    answer = (await client.get("/")).raise_for_status()
    log.info("partner_asked", answer=answer, text=f"{answer.headers} to {client.headers!r}")


clients = Rotating("partner", ("partner_key",), client_of_partner, check=ask_partner, close=httpx2.AsyncClient.aclose)
service.state.rotating[clients.name] = clients


@careless
async def partner(_secrets: dict[str, Any]) -> int:
    """Use an object that is built from a secret."""
    async with clients.borrow() as client:
        await ask_partner(client)
        return (await client.get("/")).status_code


@careless
async def children(_secrets: dict[str, Any]) -> list[str]:
    """Tell which processes were started."""
    return CHILDREN


async def serve(name: str, request: Request) -> Any:
    """Call the careless handler of this name with all secrets."""
    return await handlers[name](dict(request.app.state.vault_secrets))


for _name in handlers:
    service.add_api_route(
        f"/careless/{_name}", functools.partial(serve, _name), response_model=int if _name == "answer" else None
    )


@service.get("/leaks/{channel}", response_model=None)
def leak(channel: str, request: Request) -> Response:
    """Show the API key past every mask, in the channel named."""
    key = request.app.state.vault_secrets["api_key"]
    match channel:
        case "body":
            return Response(f"the key: {key}")
        case "header":
            return Response(headers={"X-Debug": quote(key)})
        case "problem":
            return Response(json.dumps({"detail": key}), 400, media_type="application/problem+json")
        case "metric":
            return Response(f'logins_total{{key="{key}"}} 1\n', media_type="text/plain; version=0.0.4")
        case "standard output":
            print(base64.b64encode(f"x{key}".encode()), flush=True)  # noqa: T201 - that is the point
        case "file":
            Path("dump.bin").write_bytes(b"\0\1" + key.encode())
        case "command line":
            subprocess.Popen([key, "60"], executable=shutil.which("sleep"))
        case "environment":
            subprocess.Popen(["sleep", "60"], env={"KEY": key})
    return Response()


@asynccontextmanager
async def careless_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run in asyncio's debug mode; with `CARELESS_START=1` fail with a secret in the message."""
    asyncio.get_running_loop().set_debug(True)  # uvicorn switches it off, whatever PYTHONASYNCIODEBUG says
    async with running(app):
        if os.environ.get("CARELESS_START"):
            raise RuntimeError(f"cannot migrate {app.state.vault_secrets['database_url']}")
        yield


service.router.lifespan_context = careless_lifespan

app = service  # type: ignore[assignment] # the name that uvicorn is told
