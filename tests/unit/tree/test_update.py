"""The decoder: what it reads, and everything it refuses."""

import time
import tracemalloc

import pytest

from dittofs.errors import FormatError
from dittofs.tree.update import (
    CLIENT_MAX,
    CLOCK_MAX,
    LIVE,
    RECORD_BYTES_MAX,
    STATE,
    DecodedUpdate,
    Deletion,
    Limits,
    StateVector,
    Write,
    client_of,
    decode,
    decode_state_vector,
    encode_state_vector,
    is_record_key,
    slot_of,
)
from tests.unit.tree.documents import change, document, garbage_struct, nested_arrays, number, text

INODE = "AAECAwQFBgcICQoL"
CLIENT = 0x010203040506
KEY = f"{INODE}:AQIDBAUG"


def first(value: bytes = b"v", key: str = KEY, *, client: int = CLIENT, clock: int = 0) -> bytes:
    return one(item(value, key), client=client, clock=clock)


def item(value: bytes = b"v", key: str = KEY) -> bytes:
    return b"\x28\x01\x01m" + text(key.encode()) + b"\x01t" + text(value)


def following(origin: int, value: bytes = b"v", *, client: int = CLIENT) -> bytes:
    return b"\xa8" + number(client) + number(origin) + b"\x01t" + text(value)


def gone_run(origin: int, length: int, *, client: int = CLIENT) -> bytes:
    return b"\xa1" + number(client) + number(origin) + number(length)


def one(*structs: bytes, client: int = CLIENT, clock: int = 0, deletions: bytes = b"\x00") -> bytes:
    """An update with the structs of one client."""
    head = b"\x01" + number(len(structs)) + number(client) + number(clock)
    return head + b"".join(structs) + deletions


def deleted(*ranges: tuple[int, int], client: int = CLIENT) -> bytes:
    return (
        b"\x01"
        + number(client)
        + number(len(ranges))
        + b"".join(number(clock) + number(length) for clock, length in ranges)
    )


def refused(
    update: bytes, known: StateVector | None = None, *, limits: Limits = LIVE, because: str | None = None
) -> None:
    with pytest.raises(FormatError, match=because):
        decode(update, known, limits=limits)


# Known answers, written out by hand from the description in docs/reference/wire.md.
VECTORS: list[tuple[str, DecodedUpdate]] = [
    (
        "0101868a9098a0200028 01016d19 41414543417751464267634943516f4c3a4151494442415547 017403 6f6e65 00",
        DecodedUpdate(b"", (Write(CLIENT, 0, 1, -1, KEY, b"one"),), (), {CLIENT: (0, 1)}),
    ),
    (
        "0101868a9098a02001a8 868a9098a02000 017403 74776f 01868a9098a020010001",
        DecodedUpdate(
            b"", (Write(CLIENT, 1, 1, 0, None, b"two"),), (Deletion(CLIENT, 0, 1),), {CLIENT: (1, 2)}
        ),
    ),
    (
        "01020100 2101016d09 6c6162656c2f613a67 03 a8010201740178 010101 0003",
        DecodedUpdate(
            b"",
            (Write(1, 0, 3, -1, "label/a:g", None), Write(1, 3, 1, 2, "label/a:g", b"x")),
            (Deletion(1, 0, 3),),
            {1: (0, 4)},
        ),
    ),
]


@pytest.mark.parametrize(("vector", "answer"), VECTORS)
def test_known_updates_are_read_as_written_down(vector: str, answer: DecodedUpdate) -> None:
    raw = bytes.fromhex(vector)
    decoded = decode(raw, None)
    assert (decoded.writes, decoded.deletions, decoded.ranges) == (
        answer.writes,
        answer.deletions,
        answer.ranges,
    )
    assert decoded.raw == raw


def test_the_library_writes_the_known_updates() -> None:
    doc = document(CLIENT)
    assert change(doc, {KEY: b"one"}) == bytes.fromhex(VECTORS[0][0])
    assert change(doc, {KEY: b"two"}) == bytes.fromhex(VECTORS[1][0])
    genesis = document(1)
    for value in (b"1", b"2", b"3", b"x"):
        change(genesis, {"label/a:g": value})
    assert genesis.get_update() == bytes.fromhex(VECTORS[2][0])


def test_an_empty_update_says_nothing() -> None:
    assert decode(b"\x00\x00", {}) == DecodedUpdate(b"\x00\x00", (), (), {})


def test_every_cut_of_an_update_is_refused() -> None:
    update = one(item(), following(0, b"long" * 50), deletions=deleted((0, 1)))
    decode(update, None)
    for length in range(len(update)):
        refused(update[:length])
    refused(update + b"\x00", because="followed by")


@pytest.mark.parametrize(
    "key",
    [
        "",
        ":AQIDBAUG",
        "AQIDBAUG",
        f"{INODE}",
        f"{INODE}:g",
        f"{INODE}:AQIDBAUH",
        f"{INODE}:AQIDBAUG\n",
        f"{INODE[1:]}:AQIDBAUG",
        f"{INODE}x:AQIDBAUG",
        f"{INODE}.:AQIDBAUG",
        f"{INODE}.a/b:AQIDBAUG",
        f"{INODE[:-1]}+:AQIDBAUG",
        f"{INODE}\n:AQIDBAUG",
        "Label:AQIDBAUG",
        "label\x00:AQIDBAUG",
        "lab:el:AQIDBAUG",
        "l" * 201 + ":AQIDBAUG",
        "é:AQIDBAUG",
    ],
)
def test_a_key_that_is_malformed_or_of_another_slot_is_refused(key: str) -> None:
    refused(first(key=key), because="key")


@pytest.mark.parametrize(
    "record", [INODE, f"{INODE}.{INODE}", f"{INODE}.x", "label/a", "settings", "a.b-c_d/0"]
)
def test_the_keys_of_records_links_and_settings_are_read(record: str) -> None:
    assert is_record_key(record)
    assert decode(first(key=f"{record}:AQIDBAUG"), None).writes[0].key == f"{record}:AQIDBAUG"


def test_only_the_genesis_client_writes_in_slot_g() -> None:
    assert decode(first(key=f"{INODE}:g", client=1), None).writes[0].client == 1
    refused(first(key=f"{INODE}:AAAAAAAB", client=1), because="key")
    refused(first(key=f"{INODE}:g", client=2), because="key")


@pytest.mark.parametrize(
    "struct",
    [
        b"\x28\x01\x01n" + text(KEY.encode()) + b"\x01t\x01v",  # another root type
        b"\x28\x01\x02mm" + text(KEY.encode()) + b"\x01t\x01v",
        b"\x28\x00" + number(CLIENT) + b"\x00" + text(KEY.encode()) + b"\x01t\x01v",  # inside another item
        b"\x08\x01\x01m\x01t\x01v",  # no key: an element of an array
        item()[:4] + text(KEY.encode()) + b"\x02t\x01vt\x01v",  # two values
        item()[:4] + text(KEY.encode()) + b"\x00",  # no value
        item()[:4] + text(KEY.encode()) + b"\x01w\x01v",  # a string
        item()[:4] + text(KEY.encode()) + b"\x01\x7d\x01",  # a number
        b"\x23\x01\x01m" + text(KEY.encode()) + b"\x01v",  # binary
        b"\x24\x01\x01m" + text(KEY.encode()) + b"\x01v",  # text
        b"\x27\x01\x01m" + text(KEY.encode()) + b"\x01",  # a nested map
        b"\x29\x01\x01m" + text(KEY.encode()) + b"\x01a\x76\x00",  # a document
        b"\x68\x01\x01m" + text(KEY.encode()) + b"\x01t\x01v",  # a right origin
        b"\x88" + number(CLIENT) + b"\x00\x01t\x01v",  # an origin, but in no key
        b"\x2b\x01\x01m" + text(KEY.encode()) + b"\x00",  # a move
    ],
)
def test_a_struct_that_no_shard_makes_is_refused(struct: bytes) -> None:
    refused(one(struct, clock=1))


def test_nested_arrays_are_refused() -> None:
    for depth in (1, 30_000, 400_000):
        refused(nested_arrays(depth))


def test_garbage_and_skip_structs_are_refused_whatever_their_length() -> None:
    for length in (0, 1, 1 << 31, (1 << 32) - 1, 1 << 55):
        refused(garbage_struct(5, length), because="garbage")
        refused(one(b"\x0a" + number(length)), because="skip")


def test_a_run_cannot_outgrow_the_operations_allowed_at_once() -> None:
    run = one(item(), gone_run(0, LIVE.clocks - 1))
    assert decode(run, {}).ranges == {CLIENT: (0, LIVE.clocks)}
    refused(one(item(), gone_run(0, LIVE.clocks)), {}, because="takes a client")
    refused(one(item(), gone_run(0, CLOCK_MAX)), None, limits=STATE, because="takes a client")
    refused(one(item(), gone_run(0, 0)), because="empty run")


def test_a_clock_past_the_counter_of_the_library_is_refused() -> None:
    refused(one(following(7), clock=CLOCK_MAX), None, because="takes a client")
    refused(one(following(7), clock=(1 << 32) - 1), {CLIENT: (1 << 32) - 1}, because="takes a client")


def test_operations_leave_no_gap_after_those_known() -> None:
    decode(one(following(2), clock=3), {CLIENT: 3})
    decode(one(following(2), clock=3), {CLIENT: 9})
    refused(one(following(2), clock=3), {CLIENT: 2}, because="starts at operation 3")
    refused(first(clock=1), {}, because="starts at operation 1")


def test_an_operation_replaces_only_its_own_clients_earlier_one() -> None:
    refused(one(following(3), clock=3), because="earlier one")
    refused(one(following(4), clock=3), because="earlier one")
    refused(one(following(0, client=CLIENT + 1), clock=3), because="own client")


def test_two_operations_cannot_replace_the_same_one() -> None:
    refused(one(item(), following(0), following(0)), because="last operation")
    refused(one(item(), gone_run(0, 5), following(3)), because="last operation")


def test_the_key_of_an_operation_is_found_through_those_it_replaces() -> None:
    other = f"{INODE}.link:AQIDBAUG"
    decoded = decode(one(item(), item(key=other), following(1), gone_run(0, 4), following(6)), None)
    assert [write.key for write in decoded.writes] == [KEY, other, other, KEY, KEY]


def test_nothing_is_deleted_that_nobody_wrote() -> None:
    decode(one(item(), deletions=deleted((0, 1))), {})
    decode(b"\x00" + deleted((3, 2)), {CLIENT: 5})
    refused(one(item(), deletions=deleted((1, 1))), {}, because="nobody has written")
    refused(b"\x00" + deleted((3, 3)), {CLIENT: 5}, because="nobody has written")
    refused(b"\x00" + deleted((0, 1), client=77), {CLIENT: 5}, because="nobody has written")
    refused(b"\x00" + deleted((0, 0)), because="nothing")
    refused(b"\x00" + deleted((CLOCK_MAX, 1)), because="nobody has written")


def test_nothing_is_deleted_twice() -> None:
    decode(b"\x00" + deleted((0, 2), (2, 1), (5, 1)), None)
    refused(b"\x00" + deleted((0, 2), (1, 2)), because="the same again")
    refused(b"\x00" + deleted((5, 1), (0, 2)), because="the same again")


def test_a_client_is_named_once_and_is_one() -> None:
    body = first()[1:-1]
    refused(b"\x02" + body + body + b"\x00", because="named twice")
    refused(first(client=CLIENT)[:-1] + b"\x02" + deleted((0, 1))[1:] * 2, because="named twice")
    for client in (0, CLIENT_MAX + 1, 1 << 53):
        refused(one(gone_run(0, 1, client=client), client=client, clock=1), because="no client")
        refused(b"\x00" + deleted((0, 1), client=client), because="no client")
    refused(b"\x01\x00\x05\x00\x00", because="no or too many")
    refused(b"\x00\x01\x05\x00", because="no or too many")


def test_sizes_are_bounded_at_the_limit_and_not_before() -> None:
    decode(first(bytes(RECORD_BYTES_MAX)), None)
    refused(first(bytes(RECORD_BYTES_MAX + 1)), because="record of")
    big = one(*[item(bytes(60_000), f"k{index}:AQIDBAUG") for index in range(18)])
    assert len(big) > LIVE.bytes
    refused(big, because="bytes")
    decode(big, None, limits=STATE)
    many = [item(b"", f"k{index}:AQIDBAUG") for index in range(LIVE.operations + 1)]
    decode(one(*many[1:]), None)
    refused(one(*many), None, limits=Limits(1 << 20, LIVE.operations, 1 << 20), because="too many")
    ranges = [(2 * index, 1) for index in range(LIVE.operations + 1)]
    decode(b"\x00" + deleted(*ranges[1:]), None)
    refused(b"\x00" + deleted(*ranges), because="too many")


@pytest.mark.parametrize(
    "update",
    [
        number(1 << 55),
        b"\x01" + number(1 << 55) + b"\x05\x00",
        b"\x01\x01\x05" + number(1 << 55),
        one(item()[:4] + number(1 << 55)),
        one(item()[:4] + text(KEY.encode()) + b"\x01t" + number(1 << 55)),
        b"\x00" + number(1 << 55),
        b"\x00\x01\x05" + number(1 << 55),
        b"\xff" * 40,
        b"\x80" * (1 << 20),
        b"\x80\x00\x00",
    ],
)
def test_a_count_is_not_believed(update: bytes) -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    refused(update)
    assert time.perf_counter() - begun < 1
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_number_has_one_encoding() -> None:
    update = first()
    assert update.startswith(b"\x01\x01")
    refused(b"\x81\x00" + update[1:], because="more bytes than it needs")


def test_slots_and_clients_name_each_other() -> None:
    assert slot_of(1) == "g"
    assert slot_of(CLIENT) == "AQIDBAUG"
    assert client_of(slot_of(1)) == 1
    assert client_of(slot_of(CLIENT)) == CLIENT


def test_a_state_vector_is_encoded_in_one_way() -> None:
    assert encode_state_vector({CLIENT: 300, 1: 5}) == bytes.fromhex("02 0105 868a9098a020ac02")
    assert decode_state_vector(encode_state_vector({CLIENT: 300, 1: 5})) == {1: 5, CLIENT: 300}
    assert encode_state_vector({}) == b"\x00"


def test_a_state_vector_is_the_librarys() -> None:
    doc = document(CLIENT)
    change(doc, {KEY: b"1"})
    assert doc.get_state() == encode_state_vector({CLIENT: 1})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x01\x05",
        b"\x01\x05\x01\x00",
        b"\x02\x05\x01\x05\x01",
        b"\x01\x00\x01",
        b"\x01\x05\x00",
        b"\x01\x05" + number(CLOCK_MAX + 1),
        b"\x01" + number(CLIENT_MAX + 1) + b"\x01",
        b"\x81\x00\x05\x01",
        number(1 << 55),
        number((1 << 16) + 1) + b"\x05\x01",
        b"\xff" * 30,
    ],
)
def test_a_malformed_state_vector_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_state_vector(data)
