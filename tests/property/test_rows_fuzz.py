"""Whatever lies in local rows, in `.dittoignore` or in an ACL: a value, or one clear error."""

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.ids import InodeId
from dittofs.volume import acl
from dittofs.volume.ignore import IgnoreRules
from dittofs.volume.rows import (
    ContentRow,
    Increment,
    LayerRow,
    LocalEntry,
    Row,
    Taken,
    content_key,
    decode,
    encode,
    ref_of_key,
)

SOUND = (
    LocalEntry(
        inode=InodeId("A" * 16),
        kind=1,
        names=[(InodeId("B" * 16), b"name")],
        mode=0o644,
        owner=(1, 2, "user", "group"),
        birth=1,
        mtime=2,
        stamp=3,
        target=b"target",
        xattrs={b"user.a": b"value"},
    ),
    ContentRow(
        face=7,
        base_root=b"root",
        base_size=5,
        replaces=[("slot", 1)],
        rank=9,
        layers=[
            LayerRow(
                layer="layer",
                mtime=1,
                stamp=2,
                is_filed=True,
                is_closed=False,
                is_appended=True,
                durable_sequence=1,
                increments=2,
            )
        ],
        takes=Taken(mode=0o600, owner=None, xattrs={b"user.b": b""}),
    ),
    Increment(size=10, cut=3, inline=[(0, b"bytes")], filed=[(5, 10)]),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.binary(max_size=8),
    st.text(max_size=4),
)
pairs = st.lists(st.lists(leaves, max_size=4), max_size=3)
values = st.one_of(
    leaves, st.lists(leaves, max_size=4), pairs, st.dictionaries(st.binary(max_size=4), leaves)
)


def read(value: bytes) -> None:
    """Each kind: a row that is stored as it was read, or FormatError."""
    read_as(LocalEntry, value)
    read_as(ContentRow, value)
    read_as(Increment, value)


def read_as(kind: type[Row], value: bytes) -> None:
    try:
        row = decode(kind, value)
    except FormatError as error:
        assert kind.__name__ in str(error)
    else:
        assert isinstance(row, kind)
        assert decode(kind, encode(row)) == row


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_local_row_or_a_format_error(value: bytes) -> None:
    read(value)


@settings(max_examples=200, deadline=None)
@given(st.lists(values, max_size=16))
def test_any_array_is_a_local_row_or_a_format_error(fields: list[object]) -> None:
    for first in ([], [1]):
        read(msgspec.msgpack.encode([*first, *fields]))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SOUND), st.data())
def test_a_local_row_with_changed_bytes_is_a_row_or_a_format_error(
    row: LocalEntry | ContentRow | Increment, data: st.DataObject
) -> None:
    raw = bytearray(encode(row))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(raw))
    read(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


def test_a_row_of_another_format_is_refused_by_name() -> None:
    entry, content, increment = (msgspec.structs.replace(row, format=2) for row in SOUND)
    with pytest.raises(FormatError, match="LocalEntry has format 2, not 1"):
        decode(LocalEntry, encode(entry))
    with pytest.raises(FormatError, match="ContentRow has format 2, not 1"):
        decode(ContentRow, encode(content))
    with pytest.raises(FormatError, match="Increment has format 2, not 1"):
        decode(Increment, encode(increment))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text("AZaz09-_/", max_size=30).map(str.encode))
def test_any_key_names_a_content_or_is_a_format_error(key: bytes) -> None:
    try:
        ref = ref_of_key(key)
    except FormatError:
        return
    assert ref_of_key(content_key(ref)) == ref


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(st.text("ab/*?[]!\\#- .^\n", max_size=12), max_size=6).map("\n".join)
    | st.binary(max_size=100).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=3),
    st.booleans(),
)
@example("[[]", [b"\x01"], False)
def test_any_text_is_rules_that_judge_any_name_or_a_format_error(
    text: str, parts: list[bytes], is_directory: bool
) -> None:
    assume(not any(b"/" in part or b"\0" in part for part in parts))
    try:
        rules = IgnoreRules(text)
    except FormatError as error:
        assert ".dittoignore line" in str(error)
        return
    assert rules.matches(b"/".join(parts), is_directory=is_directory) in (True, False)
    assert rules.matches(b".dittoignore", is_directory=False) is False


def acls() -> st.SearchStrategy[bytes]:
    entry = st.builds(
        acl.AclEntry, st.sampled_from([1, 2, 4, 8, 16, 32, 3, 0]), st.integers(0, 8), st.integers(0, 1 << 31)
    )
    return st.lists(entry, max_size=8).map(acl.serialise)


@settings(max_examples=300, deadline=None)
@example(bytes.fromhex("02000000 01000000 00000000 04000000 00000000 20000000 00000000 00000000 00000000"))
@given(st.binary(max_size=80) | acls() | acls().flatmap(lambda raw: st.binary(max_size=9).map(raw.__add__)))
def test_any_value_is_an_acl_that_can_be_used_or_a_format_error(value: bytes) -> None:
    try:
        parsed = acl.parse(value)
    except FormatError:
        return
    assert acl.serialise(parsed) == value
    if parsed:
        mode = acl.mode_of(parsed, 0o4000)
        assert 0o4000 <= mode <= 0o4777
        assert acl.mode_of(acl.with_mode(parsed, 0o751), 0) == 0o751
        inherited, access = acl.inherit(parsed, 0o666)
        assert inherited & ~0o666 == 0
        assert access is None or acl.parse(acl.serialise(access)) == access
