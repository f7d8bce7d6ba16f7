"""Rounds while the tree changes: what a puller is given is what the other had at one instant."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dittofs.identity.records import Role
from dittofs.ids import ROOT
from dittofs.replication import rounds
from dittofs.replication.comparing import COMPARE_PAUSE_S
from dittofs.replication.round import differing, pack_digests, pack_states, parse_states, wanted
from dittofs.sync import messages as wire
from dittofs.tree.record import shard_of
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Difference
from dittofs.volume.replica import Replica
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig
from tests.unit.replication.pair import Attacker, Side, attacked, until

Groups = list[tuple[wire.Group, bytes]]


async def _begin(peer: Attacker, puller: Replica) -> list[int]:
    """Ask for a round; the documents that are wanted."""
    await peer.say(wire.Pull(1), pack_digests(puller.digests()))
    _, body = await peer.hear_a(wire.States)
    return wanted(puller.tree, parse_states(wire.decode_states(body)))


async def _want(peer: Attacker, puller: Replica, numbers: list[int]) -> None:
    await peer.say(wire.Want(1), wire.encode_states(pack_states(numbers, puller.states())))


async def _rest(peer: Attacker, parts: list[Difference]) -> tuple[int, Groups]:
    """Hear parts until the end of the round: what it holds, and the groups that came meanwhile."""
    groups: Groups = []
    while True:
        message, body = await peer.hear()
        match message:
            case wire.Part(document=document, epoch=epoch, digest=digest, is_whole=is_whole):
                parts.append(Difference(document, Epoch(epoch, digest), body, is_whole))
            case wire.Group():
                groups.append((message, body))
            case wire.RoundEnd(through=through):
                return through, groups


def _puller() -> Replica:
    return Rig(SimulatedDisk(), seed=99, machine="puller").volume.replica


def _takes_a_round(server: Side, paths: list[str]) -> None:
    """Somebody made these directories in one change each; the server hears of it by a round."""
    other = Rig(SimulatedDisk(), seed=98, label="third", machine="third")
    for path in paths:
        other.mkdir(path)
    replica = server.rig.volume.replica
    states = enumerate(replica.states())
    found = (other.volume.replica.difference(number, state) for number, state in states)
    assert replica.receive_round([part for part in found if part is not None], b"o" * 32)


async def test_a_round_and_the_groups_behind_it_are_all_that_the_server_has(
    autojump_clock: MockClock,
) -> None:
    puller = _puller()
    async with attacked(Role.WRITER) as (peer, server):
        await server.write("before", b"1")
        await peer.open()
        numbers = await _begin(peer, puller)
        for number in range(20):  # in documents that were equal a moment ago, and in others
            await server.write(f"meanwhile {number}", b"2")
        await wait_all_tasks_blocked()
        await _want(peer, puller, numbers)
        parts: list[Difference] = []
        through, groups = await _rest(peer, parts)
        puller.receive_round(parts, server.device.id)
        for group, body in groups:
            if group.sequence > through:
                pieces = wire.split_body(
                    body, [one.length for one in group.updates] + [one.length for one in group.chunks]
                )
                updates = [
                    (one.document, Epoch(one.epoch, one.digest), piece)
                    for one, piece in zip(group.updates, pieces, strict=False)
                ]
                puller.receive(updates, server.device.id)
        assert puller.root_digest() == server.rig.volume.replica.root_digest()


async def test_what_the_server_learns_while_it_is_asked_is_given_whole_or_not_at_all(
    autojump_clock: MockClock,
) -> None:
    """A device that took a part of it would show that, and tell it to others as if it were whole."""
    puller = _puller()
    async with attacked(Role.WRITER) as (peer, server):
        await server.write("before", b"1")
        await peer.open()
        numbers = await _begin(peer, puller)
        # The first change of a writer is in the meta document, too: which is asked for. The others are not.
        _takes_a_round(server, [f"theirs {number}" for number in range(20)])
        await _want(peer, puller, numbers)
        parts: list[Difference] = []
        await _rest(peer, parts)
        puller.receive_round(parts, server.device.id)
        assert puller.root_digest() == server.rig.volume.replica.root_digest()


async def test_what_changes_while_a_long_round_is_given_is_in_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "SERVED_BYTES", 0)  # every document is long
    puller = _puller()
    async with attacked(Role.WRITER) as (peer, server):
        for number in range(8):
            await server.write(f"before {number}", b"1")
        await peer.open()
        await _want(peer, puller, await _begin(peer, puller))
        parts: list[Difference] = []
        message, body = await peer.hear_a(wire.Part)
        assert isinstance(message, wire.Part)
        epoch = Epoch(message.epoch, message.digest)
        parts.append(Difference(message.document, epoch, body, message.is_whole))
        _takes_a_round(server, [f"theirs {number}" for number in range(20)])
        for number in range(8):
            await server.write(f"before {number}", b"2")
        await _rest(peer, parts)
        assert len({part.document for part in parts}) < len(parts)  # one was given again, with the rest
        puller.receive_round(parts, server.device.id)
        assert puller.root_digest() == server.rig.volume.replica.root_digest()


def _compact(replica: Replica, number: int) -> None:
    with replica.journalled():
        taken = replica.tree.exchange.compact(number)
        assert taken is not None
        replica._append(taken)


async def test_who_compacted_hears_no_answer_before_the_changes_that_it_covers(
    autojump_clock: MockClock,
) -> None:
    """The giver has not followed into the fresh epoch yet, and never will if it goes away now."""
    giver = _puller()
    async with attacked(Role.WRITER) as (peer, server):
        await server.write("before", b"1")
        puller = server.rig.volume.replica
        given = (puller.difference(number, state) for number, state in enumerate(giver.states()))
        assert giver.receive_round([part for part in given if part is not None], server.device.id)
        entry = giver.tree.lookup(ROOT, b"before")
        assert entry is not None
        document = shard_of(entry.inode)
        _compact(puller, document)
        with giver.change() as transaction:
            transaction.group.rename(ROOT, entry, ROOT, b"after", over=None, stamp=giver.tree.tick())
        with giver.change() as transaction:
            transaction.group.set_setting("said/after", b"it")
        await peer.open()
        await peer.say(wire.Digest(giver.root_digest(), 0))
        pull, body = await peer.hear_a(wire.Pull)
        assert isinstance(pull, wire.Pull)
        states = giver.states()
        await peer.say(
            wire.States(pull.round), wire.encode_states(pack_states(differing(giver.digests(), body), states))
        )
        _, body = await peer.hear_a(wire.Want)
        theirs = parse_states(wire.decode_states(body))
        for number, state in theirs:
            part = giver.difference(number, state)
            if part is not None:
                header = wire.Part(pull.round, number, part.epoch.number, part.epoch.digest, part.is_whole)
                await peer.say(header, part.update, is_bulk=True)
        await peer.say(wire.RoundEnd(pull.round, 0, ()), is_bulk=True)
        await until(lambda: puller.tree.setting("said/after"))
        assert puller.tree.lookup(ROOT, b"after") is not None
        assert puller.tree.lookup(ROOT, b"before") is None


async def test_a_device_that_takes_a_first_round_piece_by_piece_gives_nothing_of_it(
    autojump_clock: MockClock,
) -> None:
    puller = _puller()
    async with attacked(Role.WRITER) as (peer, server):
        await server.write("before", b"1")
        await peer.open()
        numbers = await _begin(peer, puller)
        parts: list[Difference] = []
        with server.peers.filling.begun():
            await _want(peer, puller, numbers)
            with trio.move_on_after(3):
                await _rest(peer, parts)
            assert not parts
            await server.write("the last piece", b"2")
        await _rest(peer, parts)
        puller.receive_round(parts, server.device.id)
        assert puller.root_digest() == server.rig.volume.replica.root_digest()


async def test_a_peer_that_takes_nothing_is_not_asked_without_end(autojump_clock: MockClock) -> None:
    """Who waits until both have the same looks again and again, with a pause."""
    empty = _puller()
    async with attacked(Role.WRITER) as (peer, server), trio.open_nursery() as nursery:
        await server.write("f", b"1")
        await peer.open()
        await server.peers.stream.flushed()
        (session,) = server.peers.open_sessions
        session.live.acknowledged(session.live.sequence)
        nursery.start_soon(server.peers.in_step)
        begun = trio.current_time()
        for _ in range(100):
            pull, body = await peer.hear_a(wire.Pull)
            assert isinstance(pull, wire.Pull)
            documents = differing(empty.digests(), body)
            states = pack_states(documents, empty.states())
            await peer.say(wire.States(pull.round), wire.encode_states(states))
            await peer.hear_a(wire.Want)
            await peer.say(wire.RoundEnd(pull.round, 0, ()), is_bulk=True)
        assert trio.current_time() - begun > 99 * COMPARE_PAUSE_S / 2
        nursery.cancel_scope.cancel()
