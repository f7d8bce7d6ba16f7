"""The device certificate, as TLS sees it."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.identity.certificate import check_certificate, make_certificate

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CERTIFICATE = make_certificate(KEY, bytes(range(16)))


def test_a_certificate_has_no_expiry_and_names_nobody() -> None:
    parsed = x509.load_der_x509_certificate(CERTIFICATE)
    assert b"99991231235959Z" in CERTIFICATE
    assert parsed.subject.rfc4514_string() == parsed.issuer.rfc4514_string() == "CN=dittofs"


def test_a_certificate_is_sound_for_its_key_only() -> None:
    check_certificate(CERTIFICATE, KEY)
    with pytest.raises(FormatError, match="another key"):
        check_certificate(CERTIFICATE, Ed25519PrivateKey.from_private_bytes(bytes(32)))


def test_no_bit_of_a_certificate_can_be_flipped() -> None:
    for bit in range(len(CERTIFICATE) * 8):
        damaged = bytearray(CERTIFICATE)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            check_certificate(bytes(damaged), KEY)


@given(st.binary(max_size=200))
@example(CERTIFICATE[:-1])
@example(CERTIFICATE + b"\0")
@example(CERTIFICATE.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"))  # version 8
def test_any_other_bytes_are_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        check_certificate(data, KEY)


@pytest.mark.filterwarnings("default")
def test_a_serial_that_is_not_positive_is_a_format_error_however_warnings_are_treated() -> None:
    serial = CERTIFICATE.index(bytes(range(1, 16)))
    negative = CERTIFICATE[:serial] + b"\x81" + CERTIFICATE[serial + 1 :]
    with pytest.raises(FormatError), pytest.warns(CryptographyDeprecationWarning):
        check_certificate(resigned(negative), KEY)


def resigned(certificate: bytes) -> bytes:
    """The same certificate with its to-be-signed part (after a 3-byte header) signed anew by KEY."""
    signed_bytes = certificate[3 : 3 + 3 + certificate[5]]
    return certificate[:-64] + KEY.sign(signed_bytes)


def test_two_devices_that_pin_each_other_complete_a_tls_handshake(tmp_path: Path) -> None:
    other_key = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
    other = make_certificate(other_key, bytes(16))
    client = context(ssl.PROTOCOL_TLS_CLIENT, KEY, CERTIFICATE, other, tmp_path)
    server = context(ssl.PROTOCOL_TLS_SERVER, other_key, other, CERTIFICATE, tmp_path)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(to_client, to_server)
    right = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (left, right, left, right):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert right.getpeercert(binary_form=True) == CERTIFICATE
    assert left.getpeercert(binary_form=True) == other


def context(
    protocol: int, key: Ed25519PrivateKey, certificate: bytes, pinned: bytes, directory: Path
) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(pinned))
    pem = directory / "device.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pem.open("a") as file:
        file.write(ssl.DER_cert_to_PEM_cert(certificate))
    made.load_cert_chain(pem)
    return made
