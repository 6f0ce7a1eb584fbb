"""Until when is a certificate good? The standard library tells it of a server's certificate, but not of a file's."""

import datetime as dt
import re
import ssl
from collections.abc import Iterator

from app.extras.doctor.findings import Finding, ok, warning

SOON = dt.timedelta(days=14)  # for a renewal that did not happen by itself
_GENERALIZED_TIME = 0x18  # in full; the other form, UTCTime, has a year of two digits
_VERSION = 0xA0


def expiry_of(pem: str) -> float | None:
    """Return when the first certificate in a PEM text expires, in seconds since 1970; None if there is none."""
    block = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    if block is None:
        return None
    # RFC 5280, 4.1: Certificate { TBSCertificate { [version], serialNumber, signature, issuer, validity { notBefore, …
    _, certificate = next(_elements(ssl.PEM_cert_to_DER_cert(block[0])))
    _, to_be_signed = next(_elements(certificate))
    _, _, _, validity, *_ = (content for tag, content in _elements(to_be_signed) if tag != _VERSION)
    _, (tag, not_after) = _elements(validity)
    text = not_after.decode("ascii")
    if tag != _GENERALIZED_TIME:
        text = ("19" if text >= "50" else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk along DER-encoded elements: a tag, a length (its first byte says how many more it has), the content."""
    position = 0
    while position < len(der):
        tag, length, start = der[position], der[position + 1], position + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[position + 2 : start])
        yield tag, der[start : start + length]
        position = start + length


def judged(what: str, expires: float, now: float, remedy: str) -> Finding:
    """Say until when a certificate is good, and warn if that is soon."""
    text = f"{what} is good until {day(expires)}"
    return warning(f"{text}, which is soon", remedy) if expires - now < SOON.total_seconds() else ok(text)


def day(timestamp: float) -> str:
    """Return the day, in UTC."""
    return f"{dt.datetime.fromtimestamp(timestamp, dt.UTC):%Y-%m-%d}"
