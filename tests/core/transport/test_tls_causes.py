"""What is wrong with a server's certificate is said in plain words, as OpenSSL finds it in a real handshake."""

import datetime as dt
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from app.core.errors import VaultTLSFailed
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http
from app.core.transport.network_errors import network_errors
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.pki import Authority

IDENTIFIERS = (x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier)
Pair = tuple[Path, Path]


@pytest.fixture(params=[False, True], ids=["as Python 3.12", "as Python 3.13"])
def strict(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Verify as this version of Python does by default."""
    made = ssl.create_default_context
    flags = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

    def context(**options: object) -> ssl.SSLContext:
        one = made(**options)  # type: ignore[arg-type]
        one.verify_flags = one.verify_flags | flags if request.param else one.verify_flags & ~flags
        return one

    monkeypatch.setattr(ssl, "create_default_context", context)
    return bool(request.param)


class Server(FaultyProxy):
    """Answers every request, and counts who connects."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", lambda *_: Fault(status=200))
        self.accepted = 0

    def verify_request(self, *_: object) -> bool:
        """Take every connection."""
        self.accepted += 1
        return True


@contextmanager
def served(pair: Pair) -> Iterator[tuple[str, Server]]:
    """Answer every request over TLS with this certificate."""
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with server.running() as url:
        yield url.replace("http:", "https:"), server


def failure(pair: Pair, ca: Path) -> VaultTLSFailed | None:
    """Return what a request to a server with this certificate fails with, if it does; nobody asks for it twice."""
    with served(pair) as (url, server), open_http(VaultSettings(url=url, cacert=ca)) as http:
        try:
            with network_errors(url):
                http.get(f"{url}/v1/sys/health", timeout=5)
        except VaultTLSFailed as error:
            return error
        finally:
            assert server.accepted == 1
    return None


AUTHORITY: dict[str, tuple[type[x509.ExtensionType], ...]] = {
    "a CA without Subject Key Identifier": (x509.SubjectKeyIdentifier,),
    "a CA without keyUsage": (x509.KeyUsage,),
    "a CA of an old script": (*IDENTIFIERS, x509.KeyUsage),
}


@pytest.mark.parametrize("name", AUTHORITY)
def test_a_ca_that_only_a_newer_python_refuses_must_be_issued_again(tmp_path: Path, name: str, strict: bool) -> None:  # noqa: FBT001
    """With what it lacks, and with the version that wants it; an older one takes it."""
    authority = Authority(tmp_path / "ca", without=AUTHORITY[name])
    error = failure(authority.issue("vault"), authority.file)
    if not strict:
        assert error is None
        return
    assert error is not None
    assert "Python 3.13 and newer are stricter" in error.cause
    assert "must be issued again" in error.remedy
    assert "speaks TLS" not in str(error)


def test_a_certificate_without_authority_key_identifier_must_be_issued_again(tmp_path: Path, strict: bool) -> None:  # noqa: FBT001
    """OpenSSL's own word for it is part of the message."""
    authority = Authority(tmp_path / "ca")
    error = failure(authority.issue("vault", without=(x509.AuthorityKeyIdentifier,)), authority.file)
    assert (error is not None) == strict
    if error is not None:
        assert "(Missing Authority Key Identifier): Python 3.13 and newer are stricter" in error.cause
        assert "must be issued again" in error.remedy


def test_a_ca_that_is_no_ca_is_named(tmp_path: Path, strict: bool) -> None:  # noqa: FBT001
    """It lacks basicConstraints, on which an older Python does not insist."""
    authority = Authority(tmp_path / "ca", without=(x509.BasicConstraints,))
    error = failure(authority.issue("vault"), authority.file)
    assert (error is not None) == strict
    if error is not None:
        assert "may not sign others" in error.cause
        assert "basicConstraints" in error.remedy


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("expired", "has expired, or that of its CA", "Renew the certificate of Vault's listener"),
        ("not yet valid", "is not valid yet", "Check the clocks"),
        ("another host", "is for another host", "Set VAULT_URL to a name"),
        ("no name", "or for none (it needs a subjectAltName)", "have one issued"),
        ("for clients", "is not meant for servers", "extendedKeyUsage serverAuth"),
        ("unknown CA", "signed by a CA that is not trusted", "Put this CA into VAULT_CACERT"),
        ("another CA of the same name", "signed by", "Put this CA into VAULT_CACERT"),
        ("self-signed", "signed by a CA that is not trusted", "Put this CA into VAULT_CACERT"),
    ],
)
def test_each_other_fault_of_a_certificate_has_its_cause(tmp_path: Path, name: str, said: str, remedy: str) -> None:
    """Whatever the version of Python; none of them doubts that the port speaks TLS."""
    authority, day = Authority(tmp_path / "ca"), dt.timedelta(days=1)
    ca, pair = authority.file, authority.issue("vault")
    match name:
        case "expired":
            pair = authority.issue("late", -dt.timedelta(hours=1))
        case "not yet valid":
            pair = authority.issue("early", 3 * day, start=day)
        case "another host":
            pair = authority.issue("elsewhere", address="10.0.0.1")
        case "no name":
            pair = authority.issue("nameless", without=(x509.SubjectAlternativeName,))
        case "for clients":
            pair = authority.issue("client", usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))
        case "unknown CA":
            ca = Authority(tmp_path / "other", "Another CA").file
        case "another CA of the same name":
            ca = Authority(tmp_path / "again").file
        case _:
            pair = authority.own_pair()
            ca = Authority(tmp_path / "other", "Another CA").file
    error = failure(pair, ca)
    assert error is not None
    assert said in error.cause
    assert remedy in error.remedy
    assert "speaks TLS" not in str(error)
