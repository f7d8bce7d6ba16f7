"""A peer that falls silent: another link is tried long before the silent one is given up."""

from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.replication.liveness import DOUBT_S, PING_S, SILENCE_S
from dittofs.sync import messages as wire
from tests.unit.replication.pair import attacked, until


async def test_a_silent_peer_is_in_doubt_until_it_is_heard_or_its_link_ends(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (peer, target):
        await peer.open()
        session = target.peers.session(peer.device.id)
        assert session is not None
        doubts: list[float] = []
        target.peers.on_doubt = lambda: doubts.append(autojump_clock.current_time())
        begun = autojump_clock.current_time()
        await until(lambda: doubts, PING_S + 2 * DOUBT_S)
        assert session.liveness.is_in_doubt
        await peer.say(wire.Digest(target.rig.volume.replica.root_digest(), 0))
        await until(lambda: not session.liveness.is_in_doubt, 0.1)
        await until(lambda: not session.is_open, 2 * (PING_S + SILENCE_S))
        assert autojump_clock.current_time() - begun > SILENCE_S
        assert "nothing was heard" in session.why_ended


async def test_a_peer_that_is_asked_is_in_doubt_a_second_later(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (peer, target):
        await peer.open()
        session = target.peers.session(peer.device.id)
        assert session is not None
        session.liveness.ask()
        begun = autojump_clock.current_time()
        await until(lambda: session.liveness.is_in_doubt, PING_S)
        assert autojump_clock.current_time() - begun < 2 * DOUBT_S
