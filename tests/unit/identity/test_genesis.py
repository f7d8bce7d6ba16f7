"""The genesis record: its bytes, its id, and what is refused."""

import contextlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.identity.genesis import RECORD_BYTES_MAX, Genesis, make_genesis, parse_genesis
from dittofs.identity.root import RootKey

ROOT = RootKey(bytes(range(16)))
GENESIS = make_genesis(ROOT, bytes(range(100, 132)))


def signed(fields: object, root: RootKey = ROOT) -> tuple[bytes, bytes]:
    record = msgspec.msgpack.encode(fields)
    return record, root.signing().sign(b"dittofs/1 genesis\0" + record)


def fields(**changed: object) -> dict[str, object]:
    return {
        "v": 1,
        "sign": GENESIS.root_sign,
        "wrap": GENESIS.root_wrap,
        "random": bytes(range(100, 132)),
        **changed,
    }


def test_a_genesis_is_these_bytes_and_has_this_id() -> None:
    assert GENESIS.record == (
        b"\x84\xa1v\x01\xa4sign\xc4\x20" + GENESIS.root_sign
        + b"\xa4wrap\xc4\x20" + GENESIS.root_wrap
        + b"\xa6random\xc4\x20" + bytes(range(100, 132))
    )  # fmt: skip
    assert GENESIS.signature.hex() == (
        "20f3f894f55c6fb56422481454a947b64777a4c937140307a93e3b845ee6b462"
        "83188840b483c754f3532ba8fa1aacec8aaec1394515015ec0f0d8ba61062b00"
    )
    assert GENESIS.volume_id.hex() == "9a181a0d28305f53fdbb92749d70515bde8792094004a8c576975fbb18c07bb0"
    assert GENESIS.generation.hex() == "9a181a0d28305f53"


def test_a_genesis_parses_to_what_was_made() -> None:
    assert parse_genesis(GENESIS.record, GENESIS.signature) == GENESIS
    assert parse_genesis(*signed(fields())) == GENESIS


def test_unknown_fields_are_carried_and_count_for_the_id() -> None:
    record, signature = signed(fields(colour="blue"))
    genesis = parse_genesis(record, signature)
    assert genesis.record == record
    assert genesis.volume_id != GENESIS.volume_id


@pytest.mark.parametrize(
    "changed",
    [
        {"v": 2},
        {"v": "1"},
        {"sign": bytes(31)},
        {"wrap": bytes(33)},
        {"random": b""},
        {"random": None},
        {"padding": bytes(RECORD_BYTES_MAX)},
    ],
    ids=str,
)
def test_a_record_that_is_not_of_this_version_or_shape_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        parse_genesis(*signed(fields(**changed)))


def test_a_genesis_signed_by_another_root_is_refused() -> None:
    with pytest.raises(FormatError, match="signature"):
        parse_genesis(*signed(fields(), RootKey(bytes(16))))


def test_a_signature_over_the_bare_record_is_refused() -> None:
    with pytest.raises(FormatError, match="signature"):
        parse_genesis(GENESIS.record, ROOT.signing().sign(GENESIS.record))


def test_no_bit_of_a_genesis_can_be_flipped() -> None:
    for bit in range(len(GENESIS.record) * 8):
        damaged = bytearray(GENESIS.record)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            parse_genesis(bytes(damaged), GENESIS.signature)


@given(st.binary(max_size=300), st.binary(max_size=70))
@example(b"\x81\xa1x" + b"\x91" * 3000 + b"\0", b"")
@example(b"\x84\xa1v\x01\xa4sign\xc4\x20" + bytes(32), bytes(64))
@example(msgspec.msgpack.encode(fields(sign=b"\xff" * 32)), bytes(64))
@example(b"\x81\xa1\xff\x01", b"")
def test_any_bytes_are_a_genesis_or_a_format_error(record: bytes, signature: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert isinstance(parse_genesis(record, signature), Genesis)
