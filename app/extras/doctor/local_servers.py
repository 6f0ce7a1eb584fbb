"""Does something listen where declared secrets lead on this machine? The dev PostgreSQL, say, or a sidecar.

What they lead to elsewhere is for the service's network to reach, not for that of whoever asks the doctor.
"""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from app.core.settings.app import AppSettings
from app.core.settings.references import is_reference, substitute
from app.core.settings.types import is_loopback
from app.core.store.secret_store import Snapshot
from app.extras.doctor.findings import Finding, ok, warning

PORTS = {"amqp": 5672, "http": 80, "https": 443, "mongodb": 27017, "mysql": 3306, "postgresql": 5432, "redis": 6379}
PATIENCE = 2.0  # seconds; this machine answers at once
REMEDY = "Start what belongs there (`make vault-up` starts the dev PostgreSQL, too), or correct the address."


def examine_local_servers(settings: AppSettings, names: list[str], held: Snapshot) -> Iterator[Finding]:
    """Open a connection to each, and close it; shows the host and the port alone."""
    for name in names:
        target = _target(_text(settings, name, held))
        if target is None:
            continue
        host, port = target
        subject = f"{name}: {host}:{port}"
        try:
            socket.create_connection(target, PATIENCE).close()
        except OSError:
            yield warning("nothing listens there", REMEDY, subject)
        else:
            yield ok("accepts connections", subject)


def _text(settings: AppSettings, name: str, held: Snapshot) -> str:
    """Return the value; while Vault has not issued what it consists of, what stands around that."""
    origin = held.origins.get(name)
    if name in settings.secrets and not (origin and origin.path.startswith("SECRET_")):  # what is held does not count
        text = settings.secrets[name].get_secret_value()
        return "" if is_reference(text) else substitute(text, lambda _: "x")
    value = held.get(name)
    return value if isinstance(value, str) else ""


def _target(text: str) -> tuple[str, int] | None:
    """Return host and port of a URL that leads to this machine."""
    url = text.strip().removeprefix("jdbc:")
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
    except ValueError:  # several hosts, or no URL at all
        return None
    if not parts.hostname or port is None or not is_loopback(url):
        return None
    return parts.hostname, port
