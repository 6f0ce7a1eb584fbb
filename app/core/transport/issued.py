"""How does a connection present a certificate that Vault has issued, and that stands in no file?"""

import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def present(context: ssl.SSLContext, private_key: str, certificate: str, ca_chain: Sequence[str]) -> None:
    """Have new connections of a context present a certificate, all in PEM; raise `ssl.SSLError` if it is none."""
    with _as_file("".join(f"{each}\n" for each in (private_key, certificate, *ca_chain)).encode()) as path:
        context.load_cert_chain(path)


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Lend a file with this content, in memory where that is possible: OpenSSL takes certificates from files only."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as file:  # mode 0600, and gone at once
        file.write(content)
        file.flush()
        yield file.name
