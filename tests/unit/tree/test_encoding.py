"""The record's format: known answers, canonical bytes, and nothing but FormatError for what is no record."""

import dataclasses
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.ids import InodeId, Number, Slot, Stamp
from dittofs.tree.encoding import decode, encode
from dittofs.tree.join import join, join_all
from dittofs.tree.record import (
    Attribute,
    Forward,
    Kind,
    Owner,
    Ownership,
    Place,
    Record,
    Register,
    Version,
)

A, B = Slot("AAAAAAAB"), Slot("zzzzzzzz")
PARENT = InodeId("AAAAAAAAAAAAAAAA")
OTHER = InodeId("abcdefghijklmnop")
AT = Stamp(1_795_000_000_000_000_000)

FILE = Record(
    Kind.FILE,
    {A: 1},
    place=Place(AT, A, 1, PARENT, b"f.txt", None),
    mode=Register(AT, A, 0o644),
    birth=AT - 1000,
    versions=(Version((A, 1), b"\1" + b"r" * 32, 5, AT - 500, b"n" * 32, AT, Number(0), AT, ()),),
)
FULL = Record(
    Kind.DIRECTORY,
    {A: 7, B: 9},
    place=Place(AT, B, 3, OTHER, "名".encode(), (PARENT, b"before")),
    mode=Register(Stamp(AT + 1), A, 0o2755),
    owner=Ownership(Stamp(AT + 2), B, Owner(1000, 100, "user", "")),
    mtime=Register(Stamp(AT - 3), A, -5),
    birth=-1,
    versions=(
        Version((A, 2), b"", 0, (1 << 63) - 1, b"", Stamp(3), Number(77), Stamp(4), ((B, 1), (A, 1))),
        Version((B, 9), b"x", 1, 0, b"", AT, Number(0), AT, ()),
    ),
    names={A: 1, B: 2},
    removed=Stamp(AT + 9),
    content={B: 4},
    xattrs={b"user.a": Attribute(AT, A, b"1"), b"user.b": Attribute(AT, B, None)},
    forwards=(Forward(OTHER, Slot("__------"), 5, Stamp(AT + 4), {A: 2, Slot("________"): 1}),),
    rdev=0x0801,
    changed=Stamp(AT + 100),
    unknown={64: [5, b"slotid", "later"], 130: {"k": [6, b"slotid", None]}},
)
LINK = Record(Kind.LINK, {A: 2}, place=Place(AT, A, 2, PARENT, b"g", None), names={A: 2}, removed=AT)

VECTORS = {
    "file": (
        FILE,
        "8601010292c406000000000001010395cf18e91efd5bd380000001c40c000000000000000000000000c405662e747874"
        "04930000cd01a407d1fc180891980001c421017272727272727272727272727272727272727272727272727272727272"
        "72727205d1fe0cc4206e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e0000",
    ),
    "link": (
        LINK,
        "8401040292c406000000000001020395cf18e91efd5bd380000002c40c000000000000000000000000c401670993000002",
    ),
    "full": (
        FULL,
        "de001001020294c40600000000000107c406cf3cf3cf3cf3090397cf18e91efd5bd380000103c40c69b71d79f8218a39"
        "259a7a29c403e5908dc40c000000000000000000000000c4066265666f726504930100cd05ed05960201cd03e864a475"
        "736572a00693fd00fb07d3e716e102a42c7fff08929a0002c4000091cf7fffffffffffffffc400d3e716e102a42c8003"
        "4dd3e716e102a42c80049401010001980109c4017801d3e716e102a42c8000c4000000099509000101020a9201040b82"
        "c406757365722e61930000c40131c406757365722e62930001c00c9195c40c69b71d79f8218a39259a7a29c406ffffbe"
        "fbefbe050494c40600000000000102c406ffffffffffff010dcd08010e64409305c406736c6f746964a56c61746572cc"
        "8281a16b9306c406736c6f746964c0",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_records_have_the_bytes_that_the_reference_states(name: str) -> None:
    """docs/reference/wire.md, "Records": whoever changes these changes the format."""
    record, expected = VECTORS[name]
    assert encode(record).hex() == expected
    assert decode(bytes.fromhex(expected)) == record


@pytest.mark.parametrize("record", [FILE, FULL, LINK], ids=["file", "full", "link"])
def test_what_is_encoded_is_decoded_and_encoded_alike(record: Record) -> None:
    assert decode(encode(record)) == record
    assert encode(decode(encode(record))) == encode(record)


def fields_of(record: Record) -> dict[object, object]:
    fields = msgspec.msgpack.decode(encode(record))
    assert isinstance(fields, dict)
    return fields


BROKEN: dict[str, dict[object, object]] = {
    "no kind": {1: None},
    "an unknown kind": {1: 9},
    "no context": {2: None},
    "a context that is not sorted": {2: [b"zzzzzz", 9, b"aaaaaa", 7]},
    "a context with a slot of another length": {2: [b"short", 7]},
    "a context that counts from 0": {2: [b"\0" * 6, 0]},
    "a place with a slot it has not seen": {3: [AT, 2, 1, b"\0" * 12, b"n"]},
    "a place with a later change than it has seen": {3: [AT, 0, 8, b"\0" * 12, b"n"]},
    "a place of impossible time": {3: [1 << 62, 0, 1, b"\0" * 12, b"n"]},
    "a name with a slash": {3: [AT, 0, 1, b"\0" * 12, b"a/b"]},
    "a name with a NUL": {3: [AT, 0, 1, b"\0" * 12, b"a\0b"]},
    "an empty name": {3: [AT, 0, 1, b"\0" * 12, b""]},
    "a name of two dots": {3: [AT, 0, 1, b"\0" * 12, b".."]},
    "a name of 256 bytes": {3: [AT, 0, 1, b"\0" * 12, b"n" * 256]},
    "a name that is text": {3: [AT, 0, 1, b"\0" * 12, "text"]},
    "a negative slot number": {4: [0, -1, 0o644]},
    "a mode of thirteen bits": {4: [0, 0, 0o10000]},
    "a mode that is true": {4: [0, 0, True]},
    "an owner of number -1": {5: [0, 0, (1 << 32) - 1, 0, "", ""]},
    "two versions of one dot": {8: [[0, 1, b"", 0, 0, b"", 0, 0], [0, 1, b"x", 1, 0, b"", 0, 0]]},
    "a version of negative size": {8: [[0, 1, b"", -1, 0, b"", 0, 0]]},
    "a version of a number with bit 63": {8: [[0, 1, b"", 0, 0, b"", 0, 1 << 63]]},
    "a descent of sixteen": {8: [[0, 1, b"", 0, 0, b"", 0, 0, 0, [0, 1] * 16]]},
    "a tombstone ahead of the context": {10: [0, 8]},
    "an odd tombstone": {10: [0]},
    "an attribute without a name": {11: {b"": [0, 0, b""]}},
    "an attribute that is text": {11: {b"n": [0, 0, "text"]}},
    "a forward to no inode": {12: [[b"short", b"\0" * 6, 1, 0, []]]},
    "a later register of another shape": {64: "value"},
    "a later map of another shape": {128: [1, b"slotid", 2]},
    "a field beyond the last": {256: 1},
    "a field without a number": {"name": 1},
    "a known number of another shape": {20: 1},
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_no_writer_would_write_is_refused(what: str) -> None:
    fields = fields_of(FULL) | BROKEN[what]
    broken = msgspec.msgpack.encode({key: value for key, value in fields.items() if value is not None})
    with pytest.raises(FormatError):
        decode(broken)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc0",
        b"\x90",
        b"\x80",
        b"\x81\x01\x01",
        b"\x91" * 60_000 + b"\xc0",
        b"\x81\x40" + b"\x91" * 60_000 + b"\xc0",
        encode(FULL) + b"\0",
        encode(FULL)[:-1],
        b"\0" * (65 << 10),
    ],
)
def test_any_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        decode(raw)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes_give_a_record_or_a_format_error(raw: bytes) -> None:
    accept(raw)


def test_damaged_records_give_a_record_or_a_format_error() -> None:
    """And what is accepted can be written again."""
    random_source = random.Random(1)
    for record in (FILE, FULL, LINK):
        whole = encode(record)
        for _ in range(4_000):
            damaged = bytearray(whole)
            for _ in range(random_source.choice((1, 1, 2, 5))):
                damaged[random_source.randrange(len(damaged))] = random_source.randrange(256)
            accept(bytes(damaged))


def accept(raw: bytes) -> None:
    try:
        record = decode(raw)
    except FormatError:
        return
    again = encode(record)
    assert encode(decode(again)) == again
    assert join(record, record) == record


def test_a_record_over_64_kib_is_not_written() -> None:
    with pytest.raises(FormatError):
        encode(dataclasses.replace(FILE, xattrs={b"user.a": Attribute(AT, A, b"x" * (64 << 10))}))


def test_fields_of_later_formats_are_carried_through_a_join() -> None:
    later = dataclasses.replace(
        FILE,
        unknown={
            64: [9, b"slotid", "new"],
            70: [1, b"slotid", 1],
            130: {"k": [5, b"slotid", 1], "j": [1, b"", 0]},
        },
    )
    for joined in (join(FULL, later), join(later, FULL)):
        assert joined.unknown == {
            64: [9, b"slotid", "new"],
            70: [1, b"slotid", 1],
            130: {"k": [6, b"slotid", None], "j": [1, b"", 0]},
        }


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record that `decode` lets through, of a small world so that they meet."""
    context = draw(st.dictionaries(st.sampled_from([A, B]), st.integers(1, 3), min_size=1))
    slots = sorted(context)
    dots = st.sampled_from([(slot, n) for slot in slots for n in range(1, context[slot] + 1)])
    stamps = st.integers(0, 3).map(Stamp)
    names = st.sampled_from([b"a", b"b"])
    slot = st.sampled_from(slots)

    def part(dotted: list[tuple[Slot, int]]) -> dict[Slot, int]:
        return dict(dotted)

    subset = st.lists(dots, max_size=2).map(part)
    place = st.builds(
        lambda stamp, dot, parent, name, before: Place(stamp, dot[0], dot[1], parent, name, before),
        stamps,
        dots,
        st.sampled_from([PARENT, OTHER]),
        names,
        st.none() | st.tuples(st.sampled_from([PARENT, OTHER]), names),
    )
    version = st.builds(
        lambda dot, root, size, rank, path: Version(dot, root, size, 0, b"", rank, Number(0), rank, path),
        dots,
        st.sampled_from([b"x", b"y"]),
        st.integers(0, 1),
        stamps,
        st.lists(dots, max_size=2).map(tuple),
    )
    versions = draw(st.lists(version, max_size=3, unique_by=lambda one: one.dot))
    return Record(
        draw(st.sampled_from(list(Kind))),
        context,
        place=draw(st.none() | place),
        mode=draw(st.none() | st.builds(Register, stamps, slot, st.integers(0, 2))),
        owner=draw(st.none() | st.builds(Ownership, stamps, slot, st.none() | st.just(Owner(1, 2, "", "")))),
        mtime=draw(st.none() | st.builds(Register, stamps, slot, st.integers(-1, 1))),
        birth=draw(st.none() | st.integers(-2, 2)),
        versions=tuple(sorted(versions)),
        names=draw(subset),
        removed=draw(stamps),
        content=draw(subset),
        xattrs=draw(
            st.dictionaries(names, st.builds(Attribute, stamps, slot, st.none() | st.just(b"v")), max_size=2)
        ),
        forwards=tuple(
            sorted(
                draw(
                    st.lists(
                        st.builds(Forward, st.just(OTHER), slot, st.integers(1, 2), stamps, subset),
                        max_size=2,
                        unique_by=lambda one: one[:3],
                    )
                ),
                key=lambda one: one[:3],
            )
        ),
        rdev=draw(st.integers(0, 1)),
        changed=draw(stamps),
        unknown=draw(
            st.dictionaries(
                st.just(64), st.tuples(st.integers(0, 1), st.just(b"slotid"), st.integers(0, 1)).map(list)
            )
        ),
    )


@given(records(), records(), records())
@settings(max_examples=60, deadline=None)
def test_the_join_is_commutative_associative_and_idempotent(a: Record, b: Record, c: Record) -> None:
    assert encode(join(a, b)) == encode(join(b, a))
    assert encode(join(join(a, b), c)) == encode(join(a, join(b, c)))
    assert encode(join(a, a)) == encode(a)
    assert encode(join(join(a, b), b)) == encode(join(a, b))
    assert decode(encode(a)) == a
    assert encode(join_all([a, b, c])) == encode(join_all([c, a, b]))


def test_a_version_that_one_side_has_dropped_stays_dropped() -> None:
    seen = dataclasses.replace(FULL, versions=FULL.versions[:1])
    assert join(FULL, seen).versions == FULL.versions[:1]
    unseen = dataclasses.replace(seen, context={A: 7, B: 8})
    assert join(FULL, unseen).versions == FULL.versions
