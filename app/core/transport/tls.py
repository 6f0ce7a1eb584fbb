"""Whom do we trust, and what do we present? One TLS context, built from what the files say now."""

import errno
import ssl
from dataclasses import dataclass
from pathlib import Path

import certifi

from app.core import forks
from app.core.errors import VaultTLSFailed
from app.core.settings.vault import CAS, VaultSettings
from app.core.transport.credential_files import check_pem_file, warn_if_others_may_read
from app.core.transport.deadline import BoundedTLSSocket


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The CA to trust and the certificate to present, as PEM files; and the variables that name them, for errors."""

    cacert: Path | None
    client_cert: Path | None
    client_key: Path | None
    certificate: str | None = None  # a CA itself, as PEM text
    variables: tuple[str, str, str] = ("VAULT_CACERT", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY")
    folder: Path | None = None  # of CAs, as PEM files
    server_name: str | None = None  # that is asked for, and must be in the certificate; None: the host of the address


def vault_files(settings: VaultSettings) -> TLSFiles:
    """Return what the settings of a Vault name; of several CAs the first counts, as in Vault's own tools."""
    ca = next((name for name in CAS if getattr(settings, name)), "cacert")
    text = (settings.cacert_bytes or "").replace("\\n", "\n")  # as some write it on one line
    return TLSFiles(
        settings.cacert if ca == "cacert" else None,
        settings.client_cert,
        settings.client_key,
        text or None,
        (f"VAULT_{ca.upper()}", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY"),
        settings.capath if ca == "capath" else None,
        settings.tls_server_name,
    )


def tls_context(files: TLSFiles) -> ssl.SSLContext:
    """Trust the configured CA, or else the public ones; present the client certificate, if there is one."""
    variable, certificate, key = files.variables
    file: Path | None = None if files.certificate else files.cacert or files.folder or Path(certifi.where())
    try:
        cas = [file] if files.folder is None else _files_in(files.folder)
        for file in cas:
            if file is not None:
                check_pem_file(file)
        with forks.whole:
            context = ssl.create_default_context(cafile=(file := cas[0]), cadata=files.certificate)
            for file in cas[1:]:
                context.load_verify_locations(file)
        context.sslsocket_class = BoundedTLSSocket
        if files.client_cert is not None:
            for variable, file in ((certificate, files.client_cert), (key, files.client_key)):  # noqa: B007 - named below
                if file is not None:
                    check_pem_file(file)  # load_cert_chain does not say which of the two it cannot read
            variable, file = certificate, files.client_cert
            context.load_cert_chain(files.client_cert, files.client_key, password=_no_password)
            warn_if_others_may_read(key, files.client_key or files.client_cert)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not usable"
        remedy = f"Set {variable} to PEM that this process may read."
        if reason == "KEY_VALUES_MISMATCH":
            reason, remedy = "the key belongs to another certificate", f"Set {key} to the key of this one."
        subject = variable if file is None else f"{variable}={file}"
        raise VaultTLSFailed(subject, f"cannot be loaded ({reason})", remedy) from None
    return context


def _files_in(folder: Path) -> list[Path | None]:
    """Return the files in a folder of CAs. OpenSSL itself would look for names that are hashes, as Vault does not."""
    found: list[Path | None] = [each for each in sorted(folder.iterdir()) if each.is_file() and each.name[0] != "."]
    if not found:
        raise FileNotFoundError(errno.ENOENT, "there is no file in it")
    return found


def _no_password() -> str:
    """Refuse encrypted keys: OpenSSL would ask for the password on the terminal."""
    raise ValueError
