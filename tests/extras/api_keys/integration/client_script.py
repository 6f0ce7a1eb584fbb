"""What somebody writes who has generated a client: it is run where the client is, and prints what it saw.

Its arguments are the service's URL; the administrator's key comes on standard input.
"""

import json
import sys

from client import AuthenticatedClient  # type: ignore[import-not-found]
from client.api.api_keys import (  # type: ignore[import-not-found]
    issue_api_key,
    list_api_keys,
    revoke_api_key,
    rotate_api_key,
)
from client.api.health import get_readiness  # type: ignore[import-not-found]
from client.api.tests import caller  # type: ignore[import-not-found]
from client.models import IssuedKey, NewKey, Problem, Rotation  # type: ignore[import-not-found]

url, admin = sys.argv[1], sys.stdin.read()


def holder_of(key: str) -> AuthenticatedClient:
    """Return a client that sends this key."""
    return AuthenticatedClient(base_url=url, token=key, prefix="", auth_header_name="X-API-Key")


administrator = holder_of(admin)
issued = issue_api_key.sync(client=administrator, body=NewKey(name="alice", expires_in=3600))
assert isinstance(issued, IssuedKey), issued
rotated = rotate_api_key.sync("alice", client=administrator, body=Rotation(grace_period=0))
assert isinstance(rotated, IssuedKey), rotated
after_rotation = caller.sync(client=holder_of(rotated.key))
former = caller.sync_detailed(client=holder_of(issued.key))
listed = list_api_keys.sync(client=administrator)
revoked = revoke_api_key.sync_detailed("alice", client=administrator)
refused = issue_api_key.sync(client=holder_of(rotated.key), body=NewKey(name="bob"))
assert isinstance(refused, Problem), refused
seen = {
    "ready": get_readiness.sync_detailed(client=administrator).status_code,
    "expires": issued.expires_at is not None and issued.expires_at > issued.created_at,
    "after rotation": after_rotation,
    "former": former.status_code,
    "listed": [each.name for each in listed.keys],
    "revoked": revoked.status_code,
    "refused": refused.status,
}
sys.stdout.write(json.dumps(seen))
