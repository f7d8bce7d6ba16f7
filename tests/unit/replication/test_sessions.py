"""Two replicas that talk: what one has, the other gets, and nothing is lost when links come and go."""

import os
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dittofs.blocking import run_inline
from dittofs.errors import ChunkUnavailable
from dittofs.history.live_content import LiveContents
from dittofs.identity.records import Role
from dittofs.replication.fetcher import ALONE_PATIENCE_S, RETURN_PATIENCE_S
from tests.unit.replication.pair import Side, connect, sides, until


async def settled(*some: Side) -> None:
    """Return when all replicas are equal."""
    await until(lambda: len({side.rig.volume.replica.root_digest() for side in some}) == 1)
    await until(lambda: not any(side.peers.custody.is_counting for side in some))


async def content(side: Side, path: str) -> bytes:
    handle = side.rig.open_file(path)
    try:
        size = side.rig.volume.state.stat(handle.inode).size
        data = side.rig.volume.files.read(handle.inode, 0, size)
        return data if isinstance(data, bytes) else await data
    finally:
        side.rig.volume.files.release(handle)


async def test_what_is_there_before_the_link_and_after_it_reaches_the_other_side(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("before", b"1" * 100)
        connect(nursery, a, b)
        await settled(a, b)
        await b.write("after", b"2" * 100)
        await settled(a, b)
        assert a.rig.listing("") == b.rig.listing("") == ["after", "before"]
        assert await content(b, "before") == b"1" * 100
        assert await content(a, "after") == b"2" * 100
        nursery.cancel_scope.cancel()


async def test_what_was_changed_apart_is_on_both_sides_after_the_link_returns(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("file", b"base")
        cut, _ = connect(nursery, a, b)
        await settled(a, b)
        cut.close()
        await until(lambda: not (a.peers.open_sessions or b.peers.open_sessions), 30)
        await a.write("file", b"of a")
        await b.write("file", b"of b!")
        a.rig.mkdir("made by a")
        connect(nursery, b, a)
        await settled(a, b)
        assert a.rig.listing("") == b.rig.listing("")
        assert {await content(a, name) for name in a.rig.listing("") if name.startswith("file")} == {
            b"of a",
            b"of b!",
        }
        nursery.cancel_scope.cancel()


async def test_a_change_reaches_who_is_connected_only_through_another(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        connect(nursery, a, b)
        connect(nursery, b, c)
        await settled(a, b, c)
        await a.write("from a", b"x" * 5000)
        await c.write("from c", b"y" * 5000)
        await settled(a, b, c)
        assert await content(c, "from a") == b"x" * 5000
        assert await content(a, "from c") == b"y" * 5000
        nursery.cancel_scope.cancel()


async def test_content_is_known_to_be_safe_only_when_the_other_side_holds_all_of_it(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("large", bytes(range(256)) * 4000)
        await settled(a)
        assert a.peers.custody.tally().only_here == 1
        connect(nursery, a, b)
        await settled(a, b)
        await until(lambda: not a.peers.custody.tally().unsent)
        assert b.rig.read("large") == bytes(range(256)) * 4000  # without asking anybody
        nursery.cancel_scope.cancel()


async def test_on_demand_nothing_but_names_is_sent_and_status_says_so(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"on-demand")
        await a.write("large", bytes(range(256)) * 4000)
        connect(nursery, a, b)
        await settled(a, b)
        await trio.sleep(60)
        assert a.peers.custody.tally().only_here == 1
        assert b.peers.custody.tally().only_elsewhere == 1
        assert await content(b, "large") == bytes(range(256)) * 4000
        nursery.cancel_scope.cancel()


async def test_a_reader_sees_what_writers_do_and_cannot_write(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.READER) as (a, b), trio.open_nursery() as nursery:
        await a.write("file", b"1")
        connect(nursery, a, b)
        await settled(a, b)
        assert await content(b, "file") == b"1"
        nursery.cancel_scope.cancel()


async def test_a_store_that_was_set_back_or_lost_a_chunk_is_asked_anew(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("large", bytes(range(256)) * 4000)
        cut, _ = connect(nursery, a, b)
        await settled(a, b)
        await until(lambda: not a.peers.custody.tally().unsent)
        cut.close()
        await until(lambda: not a.peers.open_sessions)
        custody, nonce = a.peers.custody, b.peers.custody.nonce
        custody.met(b.device.id, nonce, b.peers.custody.told)
        await until(lambda: not custody.is_counting)
        assert custody.tally().only_here == 0
        for other, told in ((nonce, 0), (b"another", 1000)):
            custody.holds(b.device.id, [one.root for one in custody.lonely()], 1000)
            custody.met(b.device.id, other.ljust(16, b"-"), told)
            await until(lambda: not custody.is_counting)
            assert custody.tally().only_here == 1
        nursery.cancel_scope.cancel()


async def test_a_read_waits_a_moment_for_content_that_the_device_between_is_still_getting(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        connect(nursery, a, b)
        connect(nursery, b, c)
        await settled(a, b, c)
        data = bytes(range(256)) * 4096
        await c.write("big", data)
        await until(lambda: a.rig.listing("") == ["big"])
        assert await content(a, "big") == data
        nursery.cancel_scope.cancel()


async def test_a_read_waits_a_moment_for_the_device_that_has_it_and_no_longer(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        data = bytes(range(256)) * 4096
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"on-demand")
        cut, _ = connect(nursery, a, b)
        await settled(a, b)
        await a.write("big", data)
        await until(lambda: b.rig.listing("") == ["big"])
        cut.close()
        await until(lambda: not (a.peers.open_sessions or b.peers.open_sessions), 30)
        for patience_s in (RETURN_PATIENCE_S, ALONE_PATIENCE_S):  # it was here a moment ago; it is long gone
            begun = trio.current_time()
            with pytest.raises(ChunkUnavailable):
                await content(b, "big")
            assert trio.current_time() - begun <= patience_s + 0.1
            await trio.sleep(RETURN_PATIENCE_S)
        nursery.start_soon(_connect_later, nursery, a, b)
        assert await content(b, "big") == data
        nursery.cancel_scope.cancel()


async def _connect_later(nursery: trio.Nursery, a: Side, b: Side) -> None:
    await trio.sleep(ALONE_PATIENCE_S / 2)
    connect(nursery, a, b)


async def test_what_was_read_whole_is_held_here_and_others_hear_of_it(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"on-demand")
        await a.write("large", bytes(range(256)) * 4000)
        connect(nursery, a, b)
        await settled(a, b)
        assert a.peers.custody.tally().only_here == 1
        assert await content(b, "large") == bytes(range(256)) * 4000
        await until(lambda: not a.peers.custody.tally().only_here)
        assert b.peers.custody.tally().only_elsewhere == 0
        nursery.cancel_scope.cancel()


async def test_an_edit_of_a_file_that_is_elsewhere_comes_to_be_whole_on_as_many_devices_as_asked(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"on-demand")
        await a.write("large", bytes(range(256)) * 20_000)
        connect(nursery, a, b)
        await settled(a, b)
        handle = b.rig.open_file("large", os.O_RDWR)
        await b.rig.write_at(handle, 2_000_000, b"changed here")
        b.rig.close_file(handle)
        await b.rig.publish()
        await settled(a, b)
        with b.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"2")
        await settled(a, b)
        await until(lambda: not a.peers.custody.tally().missing + a.peers.custody.tally().unsent, 300)
        await until(lambda: not b.peers.custody.tally().missing + b.peers.custody.tally().unsent, 300)
        expected = bytearray(bytes(range(256)) * 20_000)
        expected[2_000_000:2_000_012] = b"changed here"
        assert a.rig.read("large") == b.rig.read("large") == expected
        nursery.cancel_scope.cancel()


async def test_what_becomes_whole_while_it_is_looked_at_is_not_taken_to_be_absent(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"on-demand")
        await a.write("large", bytes(range(256)) * 4000)
        connect(nursery, a, b)
        await settled(a, b)
        ((_, root, size),) = LiveContents(b.rig.volume.replica).content_roots()
        looked, goes_on = trio.Event(), trio.Event()

        async def slowly(function: Any, *arguments: Any) -> Any:
            answer = await run_inline(function, *arguments)
            looked.set()
            await goes_on.wait()
            return answer

        b.rig.volume.replica.run_blocking = slowly  # type: ignore[assignment]
        b.peers.custody.recount()
        await looked.wait()
        b.rig.volume.replica.run_blocking = run_inline
        assert await content(b, "large") == bytes(range(256)) * 4000
        b.peers.custody.here([root])
        goes_on.set()
        await until(lambda: not b.peers.custody.is_counting)
        assert size
        assert b.peers.custody.tally().only_elsewhere == 0
        nursery.cancel_scope.cancel()
