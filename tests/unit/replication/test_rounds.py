"""Rounds while the tree changes: what a part was too early for is in a group that still counts."""

from trio.testing import MockClock, wait_all_tasks_blocked

from dittofs.identity.records import Role
from dittofs.replication.round import pack_digests, pack_states, parse_states, wanted
from dittofs.sync import messages as wire
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Difference
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig
from tests.unit.replication.pair import attacked


async def test_a_round_and_the_groups_behind_it_are_all_that_the_server_has(
    autojump_clock: MockClock,
) -> None:
    puller = Rig(SimulatedDisk(), seed=99, machine="puller").volume.replica
    async with attacked(Role.WRITER) as (peer, server):
        await server.write("before", b"1")
        await peer.open()
        await peer.say(wire.Pull(1), pack_digests(puller.digests()))
        told, body = await peer.hear_a(wire.States)
        assert isinstance(told, wire.States)
        theirs = parse_states(wire.decode_states(body))
        for number in range(20):  # in documents that were equal a moment ago, and in others
            await server.write(f"meanwhile {number}", b"2")
        await wait_all_tasks_blocked()
        ours = puller.states()
        numbers = wanted(ours, theirs)
        await peer.say(wire.Want(1), wire.encode_states(pack_states(numbers, ours)))
        parts, groups = [], []
        while True:
            message, body = await peer.hear()
            match message:
                case wire.Part(document=document, epoch=epoch, digest=digest, is_whole=is_whole):
                    parts.append(Difference(document, Epoch(epoch, digest), body, is_whole))
                case wire.Group():
                    groups.append((message, body))
                case wire.RoundEnd(through=through):
                    break
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
