"""The stream of changes: what fails for one change, or for one peer, holds up nothing else."""

import sys

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DiskError
from dittofs.identity.records import Role
from dittofs.ids import ChunkId
from dittofs.replication import stream
from dittofs.replication.outbox import NotReading
from dittofs.sync import messages as wire
from tests.unit.replication.pair import attacked, connect, sides, until


async def test_a_change_is_sent_without_its_content_where_that_cannot_be_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ChunkStore.sealed

    def sealed(store: ChunkStore, kind: ChunkKind, chunk: ChunkId) -> bytes:
        if sys._getframe(1).f_globals["__name__"] == stream.__name__:  # a publication reads it too
            raise DiskError("the disk is tired")
        return read(store, kind, chunk)

    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        connect(nursery, a, b)
        await until(lambda: a.peers.open_sessions and b.peers.open_sessions)
        monkeypatch.setattr(ChunkStore, "sealed", sealed)
        begun = trio.current_time()
        await a.write("file", b"content")
        await a.peers.stream.flushed()
        await until(lambda: b.rig.listing("") == ["file"])
        assert trio.current_time() < begun + 1
        nursery.cancel_scope.cancel()


async def test_a_peer_that_does_not_read_ends_its_own_session_alone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with attacked(Role.WRITER) as (peer, target):
        await peer.open()
        session = target.peers.session(peer.device.id)
        assert session is not None
        put = session.outbox.put

        def full(message: wire.Message, body: bytes = b"", *, is_bulk: bool = False) -> None:
            if isinstance(message, wire.Group):
                raise NotReading("full")
            put(message, body, is_bulk=is_bulk)

        monkeypatch.setattr(session.outbox, "put", full)
        begun = trio.current_time()
        await target.write("file", b"content")
        await target.peers.stream.flushed()
        await until(lambda: not target.peers.open_sessions)
        assert trio.current_time() < begun + 1
        await target.write("other", b"content")
        await target.peers.stream.flushed()
        assert trio.current_time() < begun + 1


@pytest.mark.logs_warning("a part of replication failed")
async def test_nobody_waits_for_ever_for_a_change_that_could_not_be_offered(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sides() as (a,):
        stream = a.peers.stream

        with monkeypatch.context() as patch:
            patch.setattr(stream, "_listeners", lambda: 1 / 0)
            await a.write("file", b"content")
            with trio.fail_after(60):
                await stream.flushed()
        await a.write("file", b"other content")
        with trio.fail_after(60):
            await stream.flushed()


async def test_a_peer_that_says_pull_again_and_again_takes_no_memory(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (peer, target):
        await peer.open()
        for sequence in range(1, 200):
            await peer.say(wire.Stale(sequence))
        await wait_all_tasks_blocked()
        session = target.peers.session(peer.device.id)
        assert session is not None
        assert session.live.received == 199
        assert len(session.live._kept) == 1
