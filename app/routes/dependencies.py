"""What may a handler ask for? The only reader of `app.state`; all of it looks at memory only, hence `async def`.

(A plain `def` dependency would cost a hop to a worker thread, some 90 µs.)
"""

from typing import Annotated, NoReturn

from fastapi import Depends, Request
from fastapi.encoders import ENCODERS_BY_TYPE

from app.refresh import Keeper
from app.secret_store import SecretStore, Snapshot


async def get_snapshot(request: Request) -> Snapshot:
    """Return the secrets in force now, as one whole: a rotation in the middle of the request changes nothing."""
    store: SecretStore = request.app.state.vault_secrets
    return store.snapshot()


async def get_unreadiness(request: Request) -> list[str]:
    """Return the reasons why the service cannot do all of its work; empty if it can."""
    store: SecretStore = request.app.state.vault_secrets
    keepers: list[Keeper] = request.app.state.keepers
    if not store.problems:
        return []
    gaps = [f"declared secret {name}: {problem}" for name, problem in store.problems.items()]
    return [str(keeper.fault) for keeper in keepers if keeper.fault is not None] + gaps


Secrets = Annotated[Snapshot, Depends(get_snapshot)]
Unreadiness = Annotated[list[str], Depends(get_unreadiness)]


def _refuse_to_encode(secrets: object) -> NoReturn:
    raise TypeError(f"{type(secrets).__name__} holds secrets and cannot be a response")


# FastAPI turns any mapping that a handler returns into JSON: not this one
ENCODERS_BY_TYPE.update({SecretStore: _refuse_to_encode, Snapshot: _refuse_to_encode})
