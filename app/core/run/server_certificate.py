"""How does the service present a certificate that Vault issues? It is replaced while it serves, without a restart.

Rests on a dynamic secret such as `VAULT_DYNAMIC__TLS=pki/issue/shop?common_name=shop.internal&ttl=24h`.
"""

import ssl
from collections.abc import Mapping
from typing import Any

from app.core.store.rotating import Rotating
from app.core.transport.issued import present

OBJECT = "server certificate"


def following(context: ssl.SSLContext, name: str) -> Rotating[ssl.SSLContext]:
    """Have a context present what Vault issues as the dynamic secret `name`; connections that are open keep theirs."""
    needs = tuple(f"{name}_{field}" for field in ("private_key", "certificate", "ca_chain"))

    async def build(secrets: Mapping[str, Any], _old: ssl.SSLContext | None) -> ssl.SSLContext:
        present(context, *(secrets[each] for each in needs))
        return context

    return Rotating(OBJECT, needs, build)


def server_context() -> ssl.SSLContext:
    """Return a context for a server; until it has a certificate no handshake succeeds."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
