"""What pycrdt does that the tree is built around: if one of these fails, read the design again."""

import random
import signal

import pytest
from pycrdt import Doc, Map

from tests.unit.tree.documents import (
    applied_elsewhere,
    change,
    content,
    document,
    garbage_struct,
    nested_arrays,
    number,
)


def test_of_two_writers_of_one_key_the_higher_client_wins_not_the_later() -> None:
    high, low = document(6), document(5)
    change(high, {"k": b"earlier"})
    change(low, {"k": b"first"})
    change(low, {"k": b"later"})
    low.apply_update(high.get_update())
    assert content(low) == {"k": b"earlier"}


def test_one_of_two_nested_maps_made_at_once_is_lost() -> None:
    docs: list[Doc[Map[object]]] = [Doc(client_id=5), Doc(client_id=6)]
    for name, doc in zip("ab", docs, strict=True):
        doc.get("m", type=Map)["k"] = Map({name: 1})
    docs[0].apply_update(docs[1].get_update())
    assert docs[0].get("m", type=Map).to_py() == {"k": {"b": 1.0}}


def test_a_client_reused_after_a_lost_tail_diverges_behind_equal_vectors() -> None:
    writer, peer = document(5), document(6)
    peer.apply_update(change(writer, {"x": b"1"}))
    saved = writer.get_update()
    peer.apply_update(change(writer, {"k": b"lost"}))
    again = document(5, saved)
    peer.apply_update(change(again, {"z": b"new"}))
    again.apply_update(peer.get_update(again.get_state()))
    assert again.get_state() == peer.get_state()
    assert content(again) == {"x": b"1", "z": b"new"}
    assert content(peer) == {"x": b"1", "k": b"lost"}
    peer.apply_update(change(again, {"z": b"newer"}))
    assert content(peer) == {"x": b"1", "k": b"newer"}, "a write to z appears as k"


def test_updates_out_of_order_give_other_content_and_a_difference_heals_it() -> None:
    wrong = 0
    for seed in range(20):
        rng = random.Random(seed)
        docs = [document(client) for client in (5, 6, 7)]
        updates = []
        for step in range(50):
            doc = rng.choice(docs)
            key = f"{rng.randrange(8)}:{doc.client_id}"
            gone = [other for other in sorted(content(doc)) if other != key and rng.random() < 0.3]
            updates.append(change(doc, {key: bytes([step])}, gone))
            for other in docs:
                if other is not doc:
                    other.apply_update(updates[-1])
        shuffled = document(9, *rng.sample(updates, len(updates)))
        wrong += content(shuffled) != content(docs[0])
        shuffled.apply_update(docs[0].get_update(shuffled.get_state()))
        assert content(shuffled) == content(docs[0])
    assert wrong >= 10


def test_a_deletion_does_not_move_the_state_vector() -> None:
    doc = document(5)
    change(doc, {"k": b"1"})
    before = doc.get_state()
    change(doc, {}, ["k"])
    assert doc.get_state() == before


def test_overwrites_that_interleave_are_kept_for_ever_and_others_merge() -> None:
    one, two = document(5), document(5)
    for _ in range(1_000):
        change(one, {"p": b"x"})
        change(two, {"p": b"x"})
        change(two, {"q": b"x"})
    assert len(one.get_update()) < 100
    assert len(two.get_update()) > 9_000


def test_a_difference_carries_every_deletion_there_ever_was() -> None:
    doc = document(5)
    for _ in range(1_000):
        change(doc, {"p": b"x"})
        change(doc, {f"q{_}": b"x"})
    assert len(doc.get_update(doc.get_state())) > 1_000


def test_an_exception_does_not_roll_a_transaction_back() -> None:
    doc = document(5)
    values = doc.get("m", type=Map)
    with pytest.raises(ZeroDivisionError), doc.transaction():
        values["k"] = b"1"
        raise ZeroDivisionError
    assert content(doc) == {"k": b"1"}


def test_whole_numbers_come_back_as_floats_and_large_ones_panic_past_exception() -> None:
    doc: Doc[Map[object]] = Doc(client_id=5)
    values = doc.get("m", type=Map)
    values["k"] = 1
    assert isinstance(values["k"], float)
    with pytest.raises(BaseException) as caught:
        values["k"] = 1 << 64
    assert not isinstance(caught.value, Exception)


def test_a_key_cannot_hold_an_escaped_byte() -> None:
    with pytest.raises(UnicodeEncodeError):
        change(document(5), {"\udc80": b""})


def test_nested_arrays_kill_the_process() -> None:
    assert applied_elsewhere(nested_arrays(200_000)).returncode == -signal.SIGSEGV


def test_a_garbage_struct_of_ten_bytes_silences_a_writer() -> None:
    killer = garbage_struct(5, 1 << 30)
    assert len(killer) < 20
    victim = document(9, killer)
    assert victim.get_state() == b"\x01\x05" + number(1 << 30)
    victim.apply_update(change(document(5), {"k": b"unheard"}))
    assert content(victim) == {}


def test_a_clock_at_the_end_of_its_range_panics_past_exception() -> None:
    killer = b"\x01\x02\x05" + number((1 << 32) - 1) + b"\x00\x05\x00\x05\x00"
    with pytest.raises(BaseException) as caught:
        document(9, killer)
    assert not isinstance(caught.value, Exception)


def test_a_difference_against_a_state_the_receiver_has_lost_shows_what_its_vector_does_not_cover() -> None:
    writer, peer = document(5), document(6)
    peer.apply_update(change(writer, {"x": b"1"}))
    on_disk = peer.get_update()
    peer.apply_update(change(writer, {"y": b"2"}))
    vector = peer.get_state()
    change(writer, {"z": b"3"})
    difference = writer.get_update(vector)
    restarted = document(7, on_disk, difference)
    assert content(restarted) == {"x": b"1", "z": b"3"}
    assert restarted.get_state() == b"\x01\x05\x01"


def test_most_single_bit_flips_of_an_update_are_accepted() -> None:
    writer = document(5)
    update = change(writer, {"A" * 16 + ":AAAAAAAF": bytes(range(100))})
    altered = 0
    for bit in range(8 * len(update)):
        flipped = bytearray(update)
        flipped[bit // 8] ^= 1 << bit % 8
        doc = document(9)
        try:
            doc.apply_update(bytes(flipped))
        except BaseException:  # noqa: BLE001, S112 - a panic is no Exception
            continue
        altered += doc.get_update() != update
    assert altered > 8 * len(update) // 2


def test_a_write_that_replaces_another_does_not_carry_its_key() -> None:
    doc = document(5)
    change(doc, {"key": b"1"})
    assert b"key" not in change(doc, {"key": b"2"})
