"""Files whose bytes are on another device are read as if they were here, or the reader is told why not."""

import errno
import os
import random

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.content import ContentReader
from dittofs.chunks.seal import ChunkKind
from dittofs.errors import ChunkUnavailable, Damaged, DittoError
from dittofs.ids import ChunkId
from dittofs.local_disk import LocalDisk
from dittofs.volume.fetching import READ_PATIENCE_S
from dittofs.volume.source import NoSource
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

BIG = random.Random(4).randbytes(3 << 20)


async def shared(pair: Pair, path: str, data: bytes) -> None:
    """`a` has a file; `b` knows of it and has none of its bytes."""
    await pair.a.write(path, data)
    await pair.a.publish()
    pair.carry()


def reader_at(rig: Rig, path: str) -> ContentReader:
    shown = rig.volume.state.shown(rig.walk(path))
    return ContentReader(rig.volume.replica.chunks, shown.root, shown.size)


@pytest.mark.parametrize("size", [1, 60_000, 70_000, 3 << 20])
async def test_a_file_that_is_elsewhere_reads_as_it_was_written(pair: Pair, size: int) -> None:
    await shared(pair, "f", BIG[:size])
    assert pair.b.stat("f").size == size
    assert await pair.b.fetch("f") == BIG[:size]
    calls = len(pair.from_a.fetched)
    assert pair.b.read("f") == BIG[:size]
    assert len(pair.from_a.fetched) == calls


async def test_a_read_fetches_what_it_needs_and_the_data_in_one_call(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    assert await pair.b.fetch("f", 1_000_000, 300_000) == BIG[1_000_000:1_300_000]
    calls = pair.from_a.fetched
    assert [{kind for kind, _ in call} for call in calls] == [{ChunkKind.MANIFEST}, {ChunkKind.DATA}]
    needed = {chunk for _, _, chunk in reader_at(pair.b, "f").chunks(1_000_000, 1_300_000)}
    assert {chunk for _, chunk in calls[-1]} == needed
    assert await pair.b.fetch("f", 500_000, 700_000) == BIG[500_000:1_200_000]
    assert not needed & {chunk for _, chunk in pair.from_a.fetched[-1]}, "what is here is not fetched again"


async def test_a_read_that_waits_holds_nobody_up(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    await pair.b.write("g", b"here")
    pair.from_a.hold()
    found: list[bytes] = []

    async def read() -> None:
        found.append(await pair.b.fetch("f", 0, 10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await pair.from_a.is_asked.wait()
        assert pair.b.read("g") == b"here"
        assert not found
        pair.from_a.let_go()
    assert found == [BIG[:10]]


async def test_what_does_not_come_ends_in_etimedout(pair: Pair, autojump_clock: MockClock) -> None:
    await shared(pair, "f", BIG)
    pair.from_a.hold()
    begin = autojump_clock.current_time()
    with pytest.raises(ChunkUnavailable) as raised:
        await pair.b.fetch("f")
    assert raised.value.errno == errno.ETIMEDOUT
    assert autojump_clock.current_time() - begin <= READ_PATIENCE_S


async def test_a_source_that_lies_does_not_keep_a_reader_for_ever(pair: Pair) -> None:
    await shared(pair, "f", BIG)

    class Liar(NoSource):
        async def fetch(self, _root: bytes, _wanted: object) -> None:
            await trio.lowlevel.checkpoint()

    class Other:
        fetch = Liar().fetch
        prefetch = Liar().prefetch

        def is_alone(self) -> bool:
            return False

    pair.b.volume.state.source = Other()
    with trio.fail_after(5), pytest.raises(ChunkUnavailable):
        await pair.b.fetch("f")


async def test_without_another_device_a_read_fails_at_once(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    pair.b.volume.state.source = NoSource()
    with pytest.raises(DittoError) as raised:
        pair.b.read("f")
    assert raised.value.errno == errno.EIO


async def test_a_reader_never_gets_parts_of_two_versions(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    other = random.Random(9).randbytes(len(BIG))
    pair.from_a.hold()
    found: list[bytes] = []

    async def read() -> None:
        found.append(await pair.b.fetch("f"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await pair.from_a.is_asked.wait()
        await pair.a.write("f", other)
        await pair.a.publish()
        pair.carry()
        pair.from_a.let_go()
    assert found == [BIG]
    assert await pair.b.fetch("f") == other


async def test_staged_bytes_and_bytes_elsewhere_are_read_together(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    handle = pair.b.open_file("f", os.O_RDWR)
    await pair.b.write_at(handle, 1_000_000, b"#" * 1000)
    assert not pair.from_a.fetched, "a write fetches nothing"
    wanted = BIG[:1_000_000] + b"#" * 1000 + BIG[1_001_000:]
    assert pair.b.volume.files.read(handle.inode, 1_000_000, 1000) == b"#" * 1000
    assert await pair.b.fetch("f", 999_000, 3000) == wanted[999_000:1_002_000]
    pair.b.close_file(handle)
    again = pair.b.open_file("f", os.O_RDWR)
    await pair.b.write_at(again, 5, b"!")
    assert await pair.b.fetch("f") == BIG[:5] + b"!" + wanted[6:]
    pair.b.close_file(again)


async def test_cutting_a_file_fetches_nothing_and_what_grows_back_is_zero(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    pair.b.truncate("f", 1_000)
    pair.b.truncate("f", 2_000)
    assert not pair.from_a.fetched
    assert await pair.b.fetch("f") == BIG[:1_000] + bytes(1_000)


async def test_replacing_a_file_fetches_nothing_even_to_publish_it(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    await pair.b.write("f", BIG[::-1])
    await pair.b.publish()
    assert not pair.from_a.fetched
    assert pair.b.read("f") == BIG[::-1]
    assert not len(pair.b.volume.state.contents)


async def test_renaming_removing_and_linking_fetch_nothing(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    await shared(pair, "g", BIG[:70_000])
    await pair.b.rename("f", "h")
    pair.b.link("h", "i")
    await pair.b.unlink("g")
    pair.b.chmod("h", 0o600)
    assert not pair.from_a.fetched


def damage_packs(rig: Rig) -> None:
    """One byte in every sealed frame's middle is another one."""
    assert isinstance(rig.disk, LocalDisk)
    for name in rig.disk.listdir("chunks"):
        if name.endswith(".pack"):
            file = rig.disk.open(f"chunks/{name}")
            size = file.size()
            for place in range(2000, size, 20_000):
                byte = file.read(place, 1)
                file.write(place, bytes([byte[0] ^ 1]))
            file.close()


async def test_what_is_damaged_here_is_fetched_again(pair: Pair) -> None:
    await pair.a.write("f", BIG)
    await pair.settle()
    assert await pair.b.fetch("f") == BIG
    pair.b.abandon()
    damage_packs(pair.b)
    pair.b.open()
    pair.connect()
    assert await pair.b.fetch("f") == BIG
    assert pair.from_a.fetched
    assert pair.b.read("f") == BIG


async def test_what_is_damaged_everywhere_is_eio_and_never_other_bytes(pair: Pair) -> None:
    await pair.a.write("f", BIG)
    await pair.settle()
    assert await pair.b.fetch("f") == BIG
    pair.b.abandon()
    damage_packs(pair.b)
    pair.b.open()
    pair.connect()
    pair.from_a.is_gone = True
    with pytest.raises(Damaged) as raised:
        await pair.b.fetch("f")
    assert raised.value.errno == errno.EIO


async def test_a_long_sequential_read_is_fetched_ahead_and_a_random_one_is_not(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    await shared(pair, "g", BIG[::-1])
    for path, offsets in (("f", range(0, 2 << 20, 128 << 10)), ("g", range(2 << 20, 0, -(512 << 10)))):
        handle = pair.b.open_file(path)
        for offset in offsets:
            answer = pair.b.volume.files.read(handle.inode, offset, 128 << 10, handle.ahead)
            assert answer == b"" or len(answer if isinstance(answer, bytes) else await answer)
        pair.b.close_file(handle)
        if path == "f":
            asked = {chunk for _, chunk in pair.from_a.prefetched}
            assert asked
            pair.from_a.prefetched.clear()
    assert not pair.from_a.prefetched


async def test_a_large_attribute_is_fetched(pair: Pair) -> None:
    value = os.urandom(20_000)
    await pair.a.write("f", b"x")
    await pair.a.publish()
    setting = pair.a.volume.attributes.set_xattr(pair.a.walk("f"), b"user.large", value)
    assert setting is not None
    await setting
    pair.carry()
    answer = pair.b.volume.attributes.get_xattr(pair.b.walk("f"), b"user.large")
    assert not isinstance(answer, bytes)
    assert await answer == value
    assert pair.b.volume.attributes.get_xattr(pair.b.walk("f"), b"user.large") == value


async def test_the_same_chunk_id_names_the_same_bytes_on_both(pair: Pair) -> None:
    await shared(pair, "f", BIG[:60_000])
    root = pair.b.volume.state.shown(pair.b.walk("f")).root
    assert pair.a.volume.replica.chunks.has(ChunkKind.DATA, ChunkId(root[1:]))
    assert not pair.b.volume.replica.chunks.has(ChunkKind.DATA, ChunkId(root[1:]))
