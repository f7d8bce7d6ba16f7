"""Decoder, shard and library agree on every history and every damaged update that is accepted."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.tree.shard import FIRST_EPOCH, Shard
from dittofs.tree.update import (
    LIVE,
    STATE,
    decode,
    decode_state_vector,
    encode_state_vector,
)
from tests.property.replicas import Replicas, Step, check, check_apply, library_content, steps

OBSERVER = 0x7777
INTERESTING = bytes((0, 1, 2, 3, 4, 5, 10, 0x21, 0x28, 0x40, 0x68, 0x88, 0xA1, 0xA8))


@given(steps, st.integers(1, 4))
@settings(deadline=None)
def test_a_shard_holds_what_the_library_says_through_every_history(history: list[Step], count: int) -> None:
    replicas = Replicas.of(count)
    replicas.run(history)
    replicas.settle()
    for shard in replicas.shards:
        assert shard.entries() == replicas.shards[0].entries()
        assert shard.state_vector() == replicas.shards[0].state_vector()
        restored = Shard.load(FIRST_EPOCH, shard.snapshot(), (), OBSERVER)
        check(restored)
        assert restored.entries() == shard.entries()


@given(steps, st.integers(2, 4))
@settings(deadline=None)
def test_every_update_a_shard_emits_is_accepted_on_its_own(history: list[Step], count: int) -> None:
    replicas = Replicas.of(count)
    replicas.run(history)
    for update in [*replicas.updates, *(shard.snapshot() for shard in replicas.shards)]:
        decode(update, None, limits=STATE)


@given(st.binary(max_size=200), st.one_of(st.none(), st.dictionaries(st.integers(1, 300), st.integers(1, 9))))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_an_update_or_a_format_error(data: bytes, known: dict[int, int] | None) -> None:
    for limits in (LIVE, STATE):
        try:
            assert decode(data, known, limits=limits).raw == data
        except FormatError:
            continue


@given(st.binary(max_size=60))
def test_any_bytes_are_a_state_vector_or_a_format_error(data: bytes) -> None:
    try:
        known = decode_state_vector(data)
    except FormatError:
        return
    assert decode_state_vector(encode_state_vector(known)) == known


@given(steps, st.integers(1, 4), st.integers(0, 1 << 32))
@settings(deadline=None, max_examples=300)
def test_a_damaged_update_is_refused_or_does_what_was_predicted(
    history: list[Step], count: int, seed: int
) -> None:
    replicas = Replicas.of(count)
    replicas.run(history)
    rng = random.Random(seed)
    whole = rng.choice(replicas.shards).snapshot()
    pool = [*replicas.updates, whole]
    for update in rng.choices(pool, k=20):
        damaged = damage(update, pool, rng)
        shard = Shard.load(FIRST_EPOCH, rng.choice((None, whole)), (), OBSERVER)
        try:
            decoded = decode(damaged, shard.known, limits=STATE)
            preview = shard.preview([decoded])
        except FormatError:
            continue
        if not preview.heads and not preview.clocks:  # then the shard spares the library; it must not matter
            before = shard.entries()
            shard._doc.apply_update(damaged)
            assert library_content(shard) == before
        check_apply(shard, damaged)
        shard.write({f"{'A' * 16}:{shard.slot}": b"on"}, list(shard.entries())[:2])
        check(shard)
        check(Shard.load(FIRST_EPOCH, shard.snapshot(), (), OBSERVER + 1))


def damage(update: bytes, pool: list[bytes], rng: random.Random) -> bytes:
    """One to three bit flips, cuts, insertions, splices with another update, or nudged numbers."""
    damaged = bytearray(update)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not damaged:
            break
        place = rng.randrange(len(damaged))
        match rng.randrange(8):
            case 0:
                damaged[place] ^= 1 << rng.randrange(8)
            case 1:
                damaged[place] = rng.randrange(256)
            case 2:
                del damaged[place : place + rng.randrange(1, 8)]
            case 3:
                damaged[place:place] = rng.randbytes(rng.randrange(1, 5))
            case 4:
                other = rng.choice(pool)
                start = rng.randrange(len(other))
                damaged[place : place + rng.randrange(30)] = other[start : start + rng.randrange(30)]
            case 5:
                damaged[place] = (damaged[place] + rng.choice((1, -1, 2, -2))) & 0xFF
            case 6:
                del damaged[place:]
            case _:
                damaged[place] = rng.choice(INTERESTING)
    return bytes(damaged)
