"""How is this blueprint used? All that is declared at the start, and kept fresh beside the work; by AppRole."""

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness import FIRST, PATH, ROLE_ID, SECRET_ID, URL, Peer, run
from pydantic import BaseModel, create_model

from app.config import PROVIDERS, Settings, get_settings
from app.core.run import worker
from app.core.store.loading import load_secrets
from app.core.store.provider import Blueprint
from app.vault import read_secret

os.environ |= {"VAULT_ENABLED": "true", "VAULT_URL": URL, "VAULT_AUTH_METHOD": "approle", "VAULT_SECRET_PATH": PATH}
os.environ |= {"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID, "LOG_LEVEL": "CRITICAL"}
held: Mapping[str, Any] = {}


def declared(names: Sequence[str]) -> type[BaseModel]:
    """Return what `AppSecrets` is in a service with these fields."""
    fields: Any = dict.fromkeys(names, (str, ...))
    return create_model("Declared", **fields)


def start(fields: Sequence[str]) -> dict[str, str | None]:
    """Load all secrets, as `load_vault_secrets()` does with `AppSecrets`."""
    settings = get_settings()
    found = load_secrets(declared(fields), PROVIDERS.sources(settings), settings.secrets)
    return {name: str(found[name]) for name in fields}


@contextmanager
def alive() -> Iterator[None]:
    """Keep the secrets fresh in a thread, as `running()` does in a worker and the service in its lifespan."""
    there, done, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()

    async def keep() -> None:
        global held
        async with worker.running(Blueprint(declared([FIRST]), Settings, PROVIDERS)) as held:
            there.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(keep(),))
    thread.start()
    there.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()


run(Peer(start, lambda path: str(read_secret(path, FIRST)), held=lambda: held[FIRST], alive=alive))
