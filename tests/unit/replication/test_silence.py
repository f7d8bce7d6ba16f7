"""A peer that falls silent: another link is tried long before the silent one is given up."""

import pytest
import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.replication.errors import ProtocolError
from dittofs.replication.liveness import DOUBT_S, PING_S, PINGS_MAX, SILENCE_S, Liveness
from dittofs.replication.outbox import Outbox
from dittofs.sync import messages as wire
from tests.unit.identity.devices import LAPTOP
from tests.unit.replication.pair import MemoryLink, attacked, until


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


async def test_a_peer_that_goes_on_talking_and_answers_no_ping_makes_nothing_grow(
    autojump_clock: MockClock,
) -> None:
    stream, _ = trio.testing.memory_stream_pair()
    sent: list[int] = []

    def send(message: wire.Message) -> None:
        assert isinstance(message, wire.Ping)
        sent.append(message.number)

    liveness = Liveness(MemoryLink(stream, LAPTOP.id, is_dialer=True), Outbox(), send)
    for _ in range(3 * PINGS_MAX):
        liveness.ask()
        liveness.heard()
    assert len(liveness._pings) <= PINGS_MAX < len(sent)
    liveness.answered(sent[0])  # late, and forgotten: no fault of the peer
    assert not liveness.is_measured
    liveness.answered(sent[-1])
    assert liveness.is_measured
    for number in (sent[-1], sent[-1] + 1, 0):
        with pytest.raises(ProtocolError):
            liveness.answered(number)
    assert await liveness.probe(0.1) is None
