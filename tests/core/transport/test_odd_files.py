"""Credentials and certificates come from regular files of sane size; anything else is refused, and never waited for."""

import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import LoginRefused, VaultTLSFailed
from app.core.transport.credential_files import LARGEST, read_credential_file
from app.core.transport.tls import TLSFiles, tls_context
from app.core.vault.auth_methods.protocol import credential
from infrastructure.processes import free_port, until
from tests.pki import Authority
from tests.support import Service


def fifo(directory: Path) -> Path:
    """Make one that nobody ever writes to."""
    os.mkfifo(directory / "file")
    return directory / "file"


def listening(directory: Path) -> Path:
    """Make a socket."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(directory / "file"))
    made.close()
    return directory / "file"


def sized(directory: Path) -> Path:
    """Make a file of 200 MB."""
    with (directory / "file").open("wb") as made:
        made.truncate(200_000_000)
    return directory / "file"


def linked(directory: Path) -> Path:
    """Make a link to a FIFO."""
    os.mkfifo(directory / "pipe")
    (directory / "file").symlink_to("pipe")
    return directory / "file"


ODD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "FIFO": (fifo, "it is a FIFO, not a regular file"),
    "link to a FIFO": (linked, "it is a FIFO, not a regular file"),
    "device": (lambda _: Path("/dev/zero"), "it is a device, not a regular file"),
    "terminal": (lambda _: Path("/dev/tty"), "it is a device, not a regular file"),
    "socket": (listening, "it is a socket, not a regular file"),
    "directory": (lambda directory: directory, "Is a directory"),
    "200 MB": (sized, "it is larger than"),
    "missing": (lambda directory: directory / "nowhere", "No such file or directory"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("variable", ["VAULT_TOKEN", "VAULT_SECRET_ID", "VAULT_JWT", "CONJUR_AUTHN_TOKEN"])
def test_no_credential_is_read_from_an_odd_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    """The reason is named, at once."""
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    make, reason = ODD[kind]
    file = make(Path() if kind == "socket" else tmp_path)
    with pytest.raises(LoginRefused, match=f"cannot be read: {reason}") as caught:
        credential(None, file, variable)
    assert caught.value.subject == f"{variable}_FILE={file}"


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("which", ["cacert", "client_cert", "client_key"])
def test_no_certificate_is_read_from_an_odd_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, which: str
) -> None:
    """Nor a key; the variable is named."""
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("app")
    make, reason = ODD[kind]
    file = make(Path() if kind == "socket" else tmp_path)
    good: dict[str, Any] = {"cacert": authority.file, "client_cert": certificate, "client_key": key}
    with pytest.raises(VaultTLSFailed) as caught:
        tls_context(TLSFiles(**{**good, which: file}))
    assert caught.value.subject == f"VAULT_{which.upper()}={file}"
    assert f"cannot be loaded ({reason}" in caught.value.cause


def test_a_file_that_grows_while_it_is_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is what is read, not what the file said of its size."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * LARGEST)
    assert len(read_credential_file(file)) == LARGEST
    file.write_bytes(b"x" * (LARGEST + 1))
    monkeypatch.setattr("app.core.transport.credential_files._refuse_others", lambda *_: None)
    with pytest.raises(OSError, match="larger than 64 KiB"):
        read_credential_file(file)


@pytest.mark.parametrize("what", ["token_file", "cacert"])
def test_a_service_with_a_fifo_ends_when_it_is_told_to(tmp_path: Path, what: str) -> None:
    """It starts without Vault, says why, and obeys SIGTERM."""
    variables = {"VAULT_ENABLED": "true", "VAULT_URL": f"https://127.0.0.1:{free_port()}", "VAULT_TOKEN": "canary"}
    variables[f"VAULT_{what.upper()}"] = str(fifo(tmp_path))
    if what == "token_file":
        variables |= {"VAULT_TOKEN": "", "VAULT_URL": f"http://127.0.0.1:{free_port()}"}
    with Service(tmp_path, variables) as service:
        assert service.get("/health/live").status_code == 200
        until(lambda: "it is a FIFO" in service.output, "the reason in the log")
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.process.poll() is not None, "the service to end")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="3.13 is strict by itself")
def test_older_pythons_are_not_stricter_than_they_were(tmp_path: Path) -> None:
    """Whether a certificate without identifiers is good is for the Python that runs to say."""
    context = tls_context(TLSFiles(Authority(tmp_path / "ca").file, None, None))
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
