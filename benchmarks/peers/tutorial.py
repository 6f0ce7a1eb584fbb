"""How do tutorials read a secret? A client and a login for each read, and a None where anything goes wrong."""

import logging
from collections.abc import Sequence

import hvac
from harness import FIRST, PATH, ROLE_ID, SECRET_ID, URL, Peer, run


def get_client() -> hvac.Client:
    """Log in."""
    client = hvac.Client(url=URL)
    client.auth.approle.login(role_id=ROLE_ID, secret_id=SECRET_ID)
    if not client.is_authenticated():
        raise RuntimeError("not authenticated")
    return client


def read_secret(path: str, key: str) -> str | None:
    """Return one value of a secret."""
    try:
        answer = get_client().secrets.kv.v2.read_secret_version(path=path, raise_on_deleted_version=True)
        value: str = answer["data"]["data"][key]
    except Exception:
        logging.getLogger(__name__).exception("cannot read %s", path)
        return None
    return value


def start(fields: Sequence[str]) -> dict[str, str | None]:
    """Get each field where it is needed."""
    return {name: read_secret(PATH, name) for name in fields}


run(Peer(start, fresh=lambda path: read_secret(path, FIRST)))
