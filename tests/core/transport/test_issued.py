"""A certificate that stands in no file is presented all the same, and what is none is refused."""

import os
import ssl
from pathlib import Path

import pytest

from app.core.transport.issued import present
from tests.pki import Authority


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_context_presents_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_memory: bool) -> None:
    """From memory where the system has files there, else from one that is gone at once."""
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    certificate, key = Authority(tmp_path).issue("app")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    present(context, key.read_text(), certificate.read_text(), [])
    with pytest.raises(ssl.SSLError):
        present(context, "no key", certificate.read_text(), [])
