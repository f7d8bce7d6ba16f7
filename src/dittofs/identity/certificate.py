"""The certificate a device shows in TLS: self-signed, without expiry, naming nobody."""

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from dittofs.errors import FormatError

SERIAL_BYTES = 16
CERTIFICATE_BYTES_MAX = 1024

# RFC 5280, 4.1.2.5: a certificate without a well-defined expiry. Peers pin it and ignore dates,
# so that a device with a wrong clock still connects.
_FOREVER = datetime.datetime(9999, 12, 31, 23, 59, 59)
_SINCE = datetime.datetime(1970, 1, 1)
# BIT STRING, 65 bytes, no unused bits: the parser takes other counts of unused bits for the same signature,
# which would give one key two device ids.
_SIGNATURE_HEADER = b"\x03\x41\x00"
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dittofs")])


def make_certificate(signing: Ed25519PrivateKey, serial: bytes) -> bytes:
    """DER of a certificate over `signing`; the same key and serial (16 bytes) give the same bytes."""
    assert len(serial) == SERIAL_BYTES
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(signing.public_key())
        .serial_number(int.from_bytes(serial, "big") | 1)  # RFC 5280, 4.1.2.2: positive
        .not_valid_before(_SINCE)
        .not_valid_after(_FOREVER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(signing, None).public_bytes(Encoding.DER)


def check_certificate(certificate: bytes, signing: Ed25519PrivateKey) -> None:
    """Return if `certificate` is over `signing` and signed by it. Otherwise `FormatError`."""
    if read_certificate(certificate) != signing.public_key():
        raise FormatError("the device certificate belongs to another key")


def read_certificate(certificate: bytes) -> Ed25519PublicKey:
    """The key that a device certificate is over and signed by. `FormatError` unless it is one."""
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise FormatError(f"a device certificate has at most {CERTIFICATE_BYTES_MAX} bytes")
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        key = parsed.public_key()
        parsed.verify_directly_issued_by(parsed)
    except InvalidSignature as error:
        raise FormatError("the device certificate is not signed by its own key") from error
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        CryptographyDeprecationWarning,  # a serial that is not positive, where warnings are errors
    ) as error:
        raise FormatError(f"not a device certificate: {error}") from error
    if parsed.serial_number <= 0 or not certificate.endswith(_SIGNATURE_HEADER + parsed.signature):
        raise FormatError("the device certificate is not in the one form it may have")
    if not isinstance(key, Ed25519PublicKey):
        raise FormatError("the device certificate is not over an Ed25519 key")
    return key
