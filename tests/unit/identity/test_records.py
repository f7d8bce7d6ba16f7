"""Member records: their bytes, and that nothing else passes for them."""

import contextlib

import msgspec
import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.identity.keys import SECRET_BYTES
from dittofs.identity.publics import make_publics, parse_publics
from dittofs.identity.records import (
    PARENTS_MAX,
    PREVIOUS_MAX,
    RECORD_BYTES_MAX,
    WRAPS_MAX,
    Record,
    parse_record,
)
from dittofs.ids import VolumeId
from tests.unit.identity.devices import DESKTOP, LAPTOP

VOLUME = VolumeId(bytes(range(32)))
PUBLICS = make_publics(DESKTOP)
WRAP = [bytes(8), DESKTOP.id, b"sealed"]
GRANT = {
    "v": 1,
    "volume": VOLUME,
    "kind": 1,
    "signer": LAPTOP.id,
    "parents": [bytes(32)],
    "subject": DESKTOP.id,
    "publics": [PUBLICS.certificate, PUBLICS.wrapping, PUBLICS.proof],
    "role": 3,
    "name": "desktop",
    "wraps": [WRAP],
}
REMOVAL = {name: GRANT[name] for name in ("v", "volume", "kind", "signer", "parents", "subject")}
BARE = {name: GRANT[name] for name in ("v", "volume", "kind", "signer", "parents")}
GENERATION = {
    **BARE,
    "kind": 2,
    "wraps": [[b"", DESKTOP.id, b"sealed"]],
    "previous": [[bytes(8), bytes(60)]],
    "check": bytes(32),
}
WRAPS = {**BARE, "kind": 3, "wraps": [WRAP]}
FOLLOWER = {**GRANT, "role": 2, "inherits": True}
STANDING = {**BARE, "kind": 5, "role": 3, "name": "ada"}
USER = {**BARE, "kind": 6, "subject": DESKTOP.id, "name": "ada"}
GROUP = {**BARE, "kind": 7, "name": "ada", "group": "family", "inherits": True}
ORDER = [*GRANT, "previous", "check", "number", "group", "inherits"]


def record(fields: dict[str, object]) -> bytes:
    ordered = sorted(fields.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else 99)
    data = msgspec.msgpack.encode(dict(ordered))
    return data + LAPTOP.signing.sign(b"dittofs/1 member\0" + data)


@pytest.mark.parametrize("fields", [GRANT, REMOVAL, GENERATION, WRAPS, FOLLOWER, STANDING, USER, GROUP])
def test_a_record_of_each_kind_is_read_and_its_signature_holds(fields: dict[str, object]) -> None:
    signed = record(fields)
    parsed = parse_record(signed, VOLUME)
    parsed.verify(LAPTOP.signing.public_key())
    assert parsed.id == blake3(signed[:-64]).digest()
    assert parsed.signed == signed
    assert parsed.generation == (parsed.id[:8] if fields is GENERATION else b"")
    with pytest.raises(FormatError, match="signature"):
        parsed.verify(DESKTOP.signing.public_key())


def test_a_record_is_these_bytes() -> None:
    signed = record(REMOVAL)
    assert signed[:-64] == (
        b"\x86\xa1v\x01\xa6volume\xc4\x20" + VOLUME
        + b"\xa4kind\x01\xa6signer\xc4\x20" + LAPTOP.id
        + b"\xa7parents\x91\xc4\x20" + bytes(32)
        + b"\xa7subject\xc4\x20" + DESKTOP.id
    )  # fmt: skip
    assert signed.hex()[-128:] == (
        "c5c9728ee609bf975189e062b978d9850deb50f8ad4602a8bffcc1b4eb98217e"
        "0613017e509db013479c04b10632c4e567f537d9555ad701b5ed95afce6f4a0b"
    )


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        (GRANT, {"v": 2}),
        (GRANT, {"volume": bytes(32)}),
        (GRANT, {"kind": 0}),
        (GRANT, {"kind": 4}),
        (GRANT, {"role": 5}),
        (GRANT, {"role": -1}),
        (GRANT, {"role": 0}),
        (GRANT, {"signer": bytes(31)}),
        (GRANT, {"parents": [bytes(31)]}),
        (GRANT, {"parents": [bytes(32)] * 2}),
        (GRANT, {"parents": [n.to_bytes(32, "big") for n in range(PARENTS_MAX + 1)]}),
        (GRANT, {"subject": LAPTOP.id}),
        (GRANT, {"subject": VOLUME}),
        (GRANT, {"publics": None}),
        (GRANT, {"publics": [b"", PUBLICS.wrapping, PUBLICS.proof]}),
        (GRANT, {"publics": [PUBLICS.certificate, bytes(32), PUBLICS.proof]}),
        (GRANT, {"name": "x" * 256}),
        (GRANT, {"name": "a\x85b"}),
        (GRANT, {"wraps": [WRAP] * (WRAPS_MAX + 1)}),
        (GRANT, {"wraps": [[b"", DESKTOP.id, b"sealed"]]}),
        (GRANT, {"wraps": [[bytes(7), DESKTOP.id, b"sealed"]]}),
        (GRANT, {"wraps": [[bytes(8), bytes(31), b"sealed"]]}),
        (GRANT, {"wraps": [[bytes(8), DESKTOP.id, b""]]}),
        (GRANT, {"wraps": [[bytes(8), DESKTOP.id, bytes(257)]]}),
        (GRANT, {"wraps": [[*WRAP, 1]]}),
        (GRANT, {"check": bytes(32)}),
        (GRANT, {"previous": [[bytes(8), bytes(60)]]}),
        (GRANT, {"colour": "blue"}),
        (GRANT, {"check": b""}),  # a default is left out
        (REMOVAL, {"name": "x"}),
        (REMOVAL, {"wraps": [WRAP]}),
        (REMOVAL, {"subject": b""}),
        (REMOVAL, {"subject": VOLUME}),
        (GENERATION, {"check": bytes(31)}),
        (GENERATION, {"wraps": [WRAP]}),
        (GENERATION, {"subject": DESKTOP.id}),
        (GENERATION, {"previous": [[bytes(8), bytes(60)]] * (PREVIOUS_MAX + 1)}),
        (GENERATION, {"previous": [[bytes(7), bytes(60)]]}),
        (GENERATION, {"previous": [[bytes(8), bytes(257)]]}),
        (WRAPS, {"role": 1}),
        (WRAPS, {"name": "x"}),
        (WRAPS, {"check": bytes(32)}),
        (GRANT, {"kind": 8}),
        (GRANT, {"group": "family"}),
        (GRANT, {"inherits": True}),
        (REMOVAL, {"inherits": True}),
        (WRAPS, {"inherits": True}),
        (STANDING, {"role": 4}),
        (STANDING, {"role": 1}),
        (STANDING, {"inherits": True}),
        (STANDING, {"group": "family"}),
        (STANDING, {"subject": DESKTOP.id}),
        (STANDING, {"publics": GRANT["publics"]}),
        (STANDING, {"name": "a\nb"}),
        (STANDING, {"wraps": [WRAP]}),
        (STANDING, {"number": 1}),
        (USER, {"subject": VOLUME}),
        (USER, {"role": 2}),
        (USER, {"group": "family"}),
        (USER, {"inherits": True}),
        (GROUP, {"name": ""}),
        (GROUP, {"group": "x" * 256}),
        (GROUP, {"role": 2}),
        (GROUP, {"subject": DESKTOP.id}),
        (GROUP, {"check": bytes(32)}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_record_that_says_something_else_is_refused(
    fields: dict[str, object], changed: dict[str, object]
) -> None:
    with pytest.raises(FormatError):
        parse_record(record({**fields, **changed}), VOLUME)


def test_a_record_has_one_form() -> None:
    swapped = dict(reversed(REMOVAL.items()))
    data = msgspec.msgpack.encode(swapped)
    with pytest.raises(FormatError, match="one form"):
        parse_record(data + bytes(64), VOLUME)
    with pytest.raises(FormatError, match="at most"):
        parse_record(bytes(RECORD_BYTES_MAX + 1), VOLUME)


def test_no_bit_of_a_record_can_be_flipped() -> None:
    good = record(REMOVAL)
    for bit in range(len(good) * 8):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            parse_record(bytes(damaged), VOLUME).verify(LAPTOP.signing.public_key())


def test_only_the_device_itself_says_what_is_wrapped_to() -> None:
    other = make_publics(LAPTOP)
    with pytest.raises(FormatError, match="not proven"):
        parse_publics(PUBLICS.certificate, other.wrapping, other.proof)
    with pytest.raises(FormatError, match="wrong length"):
        parse_publics(PUBLICS.certificate, PUBLICS.wrapping, b"")
    assert parse_publics(PUBLICS.certificate, PUBLICS.wrapping, PUBLICS.proof).device == DESKTOP.id


@pytest.mark.parametrize("point", [0, 1, 2**255 - 19, 2**255 - 20, 2**255 - 18])
def test_a_key_that_nothing_can_be_wrapped_to_is_refused(point: int) -> None:
    wrapping = point.to_bytes(SECRET_BYTES, "little")
    proof = DESKTOP.signing.sign(b"dittofs/1 publics\0" + wrapping)
    with pytest.raises(FormatError, match="nothing can be wrapped"):
        parse_publics(PUBLICS.certificate, wrapping, proof)


@given(st.binary(max_size=300))
@example(b"\x91" * 4000)
@example(b"\x81\xa1v" + b"\x91" * 4000 + bytes(64))
@example(record(GRANT)[:-1])
def test_any_bytes_are_a_record_or_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert isinstance(parse_record(data, VOLUME), Record)


@given(st.data(), st.sampled_from([record(GRANT), record(GENERATION), record(WRAPS)]))
def test_a_damaged_record_is_a_record_or_a_format_error(data: st.DataObject, good: bytes) -> None:
    damaged = bytearray(good)
    for place in data.draw(st.lists(st.integers(0, len(good) - 65), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        parse_record(bytes(damaged), VOLUME)
