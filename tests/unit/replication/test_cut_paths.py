"""A path that is cut is left, and a machine that is slow is not taken for one that is gone."""

from contextlib import suppress
from typing import Final

import trio
from trio.testing import MockClock

from dittofs.chunks.seal import ChunkKind
from dittofs.errors import ChunkUnavailable
from dittofs.identity.records import Role
from dittofs.ids import ChunkId
from dittofs.replication.liveness import CUT_S, LOOK_S, SILENCE_S
from tests.unit.replication.pair import ToldPulse, attacked, connect, sides, until

LEFT_S: Final = 5.0
"""A path that is cut is to be left by then while somebody waits for what was asked of it."""


async def test_a_machine_that_answers_nothing_is_left_as_soon_as_its_kernel_is_silent(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (peer, target):
        peer.far.pulse = pulse = ToldPulse()
        await peer.open()
        session = target.peers.session(peer.device.id)
        assert session is not None
        await trio.sleep(SILENCE_S / 2)
        assert session.is_open
        pulse.silent_s = CUT_S
        session.liveness.ask()
        begun = autojump_clock.current_time()
        await until(lambda: not session.is_open, SILENCE_S)
        assert autojump_clock.current_time() - begun <= 2 * LOOK_S
        assert "answered nothing" in session.why_ended


async def test_a_program_that_stands_still_on_a_machine_that_answers_keeps_its_session_for_long(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (peer, target):
        peer.far.pulse = ToldPulse()
        await peer.open()
        session = target.peers.session(peer.device.id)
        assert session is not None
        await trio.sleep(2 * CUT_S)  # it answers no ping
        assert session.is_open
        assert session.liveness.is_in_doubt


async def test_a_path_of_which_nothing_is_known_is_left_within_five_seconds_while_a_chunk_is_awaited(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (peer, target), trio.open_nursery() as nursery:
        peer.far.pulse = ToldPulse(silent_s=None)
        await peer.open()
        session = target.peers.session(peer.device.id)
        assert session is not None
        begun = autojump_clock.current_time()

        async def reading() -> None:
            with suppress(ChunkUnavailable):
                await target.peers.fetcher.fetch(b"", [(ChunkKind.DATA, ChunkId(b"\x05" * 32))])

        nursery.start_soon(reading)
        await until(lambda: not session.is_open, SILENCE_S)
        assert autojump_clock.current_time() - begun <= LEFT_S
        assert "awaited" in session.why_ended
        nursery.cancel_scope.cancel()


async def test_a_path_of_which_nothing_is_known_stays_while_it_answers_pings_and_is_slow_to_serve(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (peer, target), trio.open_nursery() as nursery:
        peer.far.pulse = ToldPulse(silent_s=None)
        await peer.open()
        session = target.peers.session(peer.device.id)
        assert session is not None

        async def reading() -> None:
            with suppress(ChunkUnavailable):
                await target.peers.fetcher.fetch(b"", [(ChunkKind.DATA, ChunkId(b"\x05" * 32))])

        async def answering_pings() -> None:
            while True:
                await peer.hear()

        nursery.start_soon(reading)
        nursery.start_soon(answering_pings)
        await trio.sleep(2 * LEFT_S)
        assert session.is_open
        nursery.cancel_scope.cancel()


async def test_a_read_that_waits_while_its_path_is_cut_and_mended_is_answered(
    autojump_clock: MockClock,
) -> None:
    """Who waits for a chunk is not told that a link was lost: the next one brings it."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        (chunk,) = a.rig.volume.replica.chunks.put([(ChunkKind.DATA, b"thesis")])
        cut = connect(nursery, a, b)
        await until(lambda: a.peers.open_sessions and b.peers.open_sessions)
        for stream in cut:
            stream.close()
        await until(lambda: not b.peers.open_sessions)
        read = trio.Event()

        async def reading() -> None:
            await b.peers.fetcher.fetch(b"", [(ChunkKind.DATA, chunk)])
            read.set()

        nursery.start_soon(reading)
        await trio.sleep(4)  # until the path is back
        assert not read.is_set()
        connect(nursery, b, a)
        with trio.fail_after(5):
            await read.wait()
        nursery.cancel_scope.cancel()
