"""Devices at the end of a slow line are told from those that do not answer."""

import trio
from trio.testing import MockClock, memory_stream_pair

from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.replication import greeting
from tests.unit.replication.pair import MemoryLink, Side, sides, until

ONE_WAY_S = 0.3


class FarLink(MemoryLink):
    """A link on which everything takes its time."""

    def __init__(self, stream: trio.abc.Stream, peer: DeviceId, *, is_dialer: bool) -> None:
        super().__init__(stream, peer, is_dialer=is_dialer)

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        data = await super().receive_some(max_bytes)
        await trio.sleep(ONE_WAY_S)
        return data


def connect_far(nursery: trio.Nursery, a: Side, b: Side) -> None:
    near, far = memory_stream_pair()

    async def dialled() -> None:
        await greeting.dialled(FarLink(near, b.device.id, is_dialer=True), a.peers)

    async def accepted() -> None:
        link = FarLink(far, a.device.id, is_dialer=False)
        _, theirs, reader = await greeting.accepted(link, lambda _volume: b.peers)
        await greeting.answered(link, b.peers, theirs, reader)

    nursery.start_soon(dialled)
    nursery.start_soon(accepted)


async def test_it_is_found_that_both_have_the_same_however_long_an_answer_takes(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        connect_far(nursery, a, b)
        await until(lambda: a.peers.open_sessions and b.peers.open_sessions)
        await a.write("of a", b"1")
        await b.write("of b", b"2")
        begun = trio.current_time()
        with trio.fail_after(20):
            await a.peers.in_step()
        assert a.rig.listing("") == b.rig.listing("") == ["of a", "of b"]
        a_found, since = False, trio.current_time()
        while not a_found:  # as commands do, which tell how far it is
            assert trio.current_time() < begun + 60
            with trio.move_on_after(ONE_WAY_S / 2) as scope:
                await a.peers.in_step(since)
            a_found = not scope.cancelled_caught
        nursery.cancel_scope.cancel()
