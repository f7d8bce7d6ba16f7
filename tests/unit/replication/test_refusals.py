"""A link that is refused may be gone before it hears of it: whoever refuses goes on."""

import trio.testing
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.replication.outbox import Outbox
from dittofs.sync import messages as wire
from dittofs.sync.frame import FrameReader
from tests.unit.replication.pair import MemoryLink, sides


async def test_a_refused_link_that_is_gone_already_is_let_go_without_an_error(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (one, other):
        near, far = trio.testing.memory_stream_pair()
        link = MemoryLink(far, other.device.id, is_dialer=False)
        ours = one.peers.hello(other.device.id)
        theirs = wire.Hello(
            wire.VERSION + 1, ours.volume, ours.instance, ours.custody, ours.told, ours.members, "x", 0
        )
        await near.aclose()
        await far.send_stream.aclose()
        why = await one.peers.serve(link, FrameReader(), Outbox(), ours, theirs)
        assert "version" in why
