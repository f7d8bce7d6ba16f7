"""Sharing out what several devices fetch: who is asked for what, and when nobody may be."""

from typing import Final

from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId
from dittofs.replication.have_sets import HaveSets, encode_bits

COUNT: Final = 300
LEAF: Final = ChunkId(b"L" * 32)
CHUNKS: Final = [ChunkId(number.to_bytes(4, "big") * 8) for number in range(COUNT)]
ALL: Final = encode_bits((1 << COUNT) - 1, COUNT)
NONE: Final = encode_bits(0, COUNT)
ALDER, BIRCH, CEDAR, DOGWOOD = (DeviceId(letter * 32) for letter in (b"\xa1", b"\xb2", b"\xc3", b"\xd4"))


def wanting(device: DeviceId) -> HaveSets:
    """A device that has nothing of a leaf and wants all of it."""
    sets = HaveSets(device)
    sets.follow(LEAF, CHUNKS, CHUNKS)
    for chunk in CHUNKS:
        sets.want(chunk)
    return sets


def planned(
    sets: HaveSets, device: DeviceId, *others: DeviceId, unsaid: frozenset[DeviceId] = frozenset()
) -> list[ChunkId]:
    return list(sets.next_for(device, others=others, unsaid=unsaid))


def test_devices_that_fetch_the_same_begin_with_shares_that_have_nothing_in_common() -> None:
    receivers = [BIRCH, CEDAR, DOGWOOD]
    begun: list[ChunkId] = []
    for one in receivers:
        sets = wanting(one)
        others = [other for other in receivers if other != one]
        sets.told(ALDER, LEAF, ALL, is_fetching=False)
        for other in others:
            sets.told(other, LEAF, NONE, is_fetching=True)
        order = planned(sets, ALDER, *others)
        assert sorted(order) == CHUNKS, "what nobody else gets is had in the end"
        begun += order[: COUNT // 5]
    assert len(set(begun)) == len(begun)


def test_a_device_is_not_asked_for_what_it_lacks_while_another_has_it() -> None:
    sets = wanting(BIRCH)
    sets.told(ALDER, LEAF, ALL, is_fetching=False)
    sets.told(CEDAR, LEAF, encode_bits(0b101, COUNT), is_fetching=True)
    assert set(planned(sets, CEDAR, ALDER)) == {CHUNKS[0], CHUNKS[2]}


def test_whoever_has_all_of_it_is_asked_last_for_what_others_have_got() -> None:
    sets = wanting(BIRCH)
    sets.told(ALDER, LEAF, ALL, is_fetching=False)
    sets.told(CEDAR, LEAF, encode_bits(0b101, COUNT), is_fetching=True)
    assert set(planned(sets, ALDER, CEDAR)[-2:]) == {CHUNKS[0], CHUNKS[2]}


def test_what_nobody_is_known_to_have_is_asked_of_everybody() -> None:
    sets = wanting(BIRCH)
    sets.told(CEDAR, LEAF, NONE, is_fetching=True)
    sets.told(DOGWOOD, LEAF, NONE, is_fetching=True)
    assert set(planned(sets, CEDAR, DOGWOOD)) == set(CHUNKS)


def test_an_answer_that_may_still_come_is_waited_for_and_silence_is_not_waited_for_for_ever() -> None:
    sets = wanting(BIRCH)
    sets.told(CEDAR, LEAF, NONE, is_fetching=True)
    assert planned(sets, CEDAR, ALDER) == []
    assert planned(sets, ALDER, CEDAR) == []
    assert set(planned(sets, ALDER, CEDAR, unsaid=frozenset({ALDER}))) == set(CHUNKS)
    assert planned(sets, CEDAR, ALDER, unsaid=frozenset({ALDER})) == []


def test_a_single_source_is_asked_in_the_order_of_the_file() -> None:
    sets = wanting(BIRCH)
    assert planned(sets, ALDER, unsaid=frozenset({ALDER})) == CHUNKS


def test_what_a_device_told_and_does_not_have_is_asked_of_it_no_more() -> None:
    sets = wanting(BIRCH)
    sets.told(ALDER, LEAF, ALL, is_fetching=False)
    sets.told(CEDAR, LEAF, ALL, is_fetching=False)
    sets.lacks(ALDER, CHUNKS[7])
    assert CHUNKS[7] not in planned(sets, ALDER, CEDAR)
    assert CHUNKS[7] in planned(sets, CEDAR, ALDER)


def test_of_a_last_resort_is_asked_what_no_other_has() -> None:
    sets = wanting(BIRCH)
    sets.told(ALDER, LEAF, ALL, is_fetching=False)
    sets.told(CEDAR, LEAF, encode_bits((1 << COUNT) - 1 ^ 0b11, COUNT), is_fetching=False)
    found = list(sets.next_for(ALDER, others=[CEDAR], unsaid=set(), is_last_resort=True))
    assert set(found) == {CHUNKS[0], CHUNKS[1]}


def test_only_those_that_fetch_it_too_and_lack_some_of_it_are_told_what_came() -> None:
    sets = wanting(BIRCH)
    sets.told(ALDER, LEAF, ALL, is_fetching=False)
    sets.told(CEDAR, LEAF, NONE, is_fetching=True)
    sets.told(DOGWOOD, LEAF, ALL, is_fetching=True)
    sets.came(CHUNKS[9])
    assert sets.news() == [(LEAF, [CEDAR])]
    assert sets.news() == []
    assert sets.bits(LEAF) == encode_bits(1 << 9, COUNT)


def test_bits_beyond_a_leaf_say_nothing() -> None:
    sets = wanting(BIRCH)
    assert sets.told(ALDER, LEAF, b"\xff" * 128, is_fetching=False) == CHUNKS
    assert sets.told(ALDER, ChunkId(b"?" * 32), b"\xff" * 128, is_fetching=True) == []


def test_what_is_followed_no_more_is_forgotten() -> None:
    sets = wanting(BIRCH)
    sets.unfollow(LEAF)
    assert sets.wanted_count == 0
    assert CHUNKS[0] not in sets
    assert sets.bits(LEAF) is None
