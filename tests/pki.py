"""Certificates and keys, made for one test run."""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SECOND = dt.timedelta(seconds=1)
Without = Sequence[type[x509.ExtensionType]]  # what a certificate lacks
_MAY_SIGN = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """A certificate authority with its files below `directory`."""

    def __init__(self, directory: Path, name: str = "Test CA", without: Without = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key, authority=True, without=without)
        self.file = directory / "ca.pem"
        self.file.write_bytes(pem_of(self._certificate))

    def issue(
        self,
        name: str,
        lifetime: dt.timedelta = dt.timedelta(days=1),
        address: str = "127.0.0.1",
        **more: Any,
    ) -> tuple[Path, Path]:
        """Issue a certificate for `name`, localhost and an address; return the files of certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        files = self._directory / f"{name}.pem", self._directory / f"{name}-key.pem"
        files[0].write_bytes(pem_of(self._sign(subject, key, lifetime=lifetime, address=address, **more)))
        files[1].write_bytes(private_pem_of(key))
        files[1].chmod(0o600)
        return files

    def own_pair(self) -> tuple[Path, Path]:
        """Return the files of its own certificate, which it has signed itself, and of its key."""
        key = self._directory / "ca-key.pem"
        key.write_bytes(private_pem_of(self._key))
        return self.file, key

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        authority: bool = False,
        lifetime: dt.timedelta = dt.timedelta(days=1),
        address: str = "127.0.0.1",
        start: dt.timedelta = dt.timedelta(days=-2),
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        without: Without = (),
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        addresses = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + lifetime) + start)
            .not_valid_after(now + lifetime)
        )
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=authority, path_length=None), True),
            (x509.SubjectAlternativeName(addresses), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
            (_MAY_SIGN, True) if authority else (x509.ExtendedKeyUsage(usages), False),
        ]
        for extension, is_critical in extensions:
            if not isinstance(extension, tuple(without)):
                builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self._key, hashes.SHA256())


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def private_pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the public key as PEM."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
