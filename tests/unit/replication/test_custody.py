"""Who holds what is counted for contents that files have now, not for those they had a moment ago."""

import random

import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.sync import messages as wire
from mountd.reports import custody_of
from tests.unit.replication.pair import Attacker, connect, sides, until


async def test_a_content_that_was_replaced_before_anybody_looked_is_not_counted(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, _):
        custody = a.peers.custody
        await until(lambda: not custody.is_counting)
        for text in (b"first", b"second", b"third"):
            await a.write("file", text)
        await until(lambda: not custody.is_counting)
        assert (custody.tally().only_here, custody.tally().only_here_bytes) == (1, 5)
        await a.write("file", b"fourth")
        await a.rig.unlink("file")
        await a.rig.publish()
        await until(lambda: not custody.is_counting)
        assert custody.tally().only_here == 0


async def test_a_device_that_tells_another_it_has_a_content_counts_it_as_here_itself(
    autojump_clock: MockClock,
) -> None:
    """Its chunks came one by one, for other contents or readers, and nobody looked at the whole again."""
    data = random.Random(2).randbytes(3 << 20)  # several chunks
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"on-demand")
        async with trio.open_nursery() as connected:
            connect(connected, a, b)
            await until(lambda: a.rig.volume.replica.root_digest() == b.rig.volume.replica.root_digest())
            await b.write("large", data)
            await until(lambda: a.rig.volume.replica.root_digest() == b.rig.volume.replica.root_digest())
            connected.cancel_scope.cancel()
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"2")
        tally = a.peers.custody.tally
        await until(lambda: (tally().only_elsewhere, tally().missing) in ((1, 0), (0, 1)))
        (lonely,) = a.peers.custody.lonely()

        asking = Attacker(a, b.device)
        nursery.start_soon(asking.serve)
        await asking.open()
        await until(lambda: not a.peers.custody.is_counting)
        theirs = b.rig.volume.replica.chunks
        a.rig.volume.replica.chunks.put([(kind, theirs.get(kind, chunk)) for kind, chunk in theirs.ids()])
        told = a.peers.custody.told
        await asking.say(wire.Ask(), wire.encode_roots([lonely.root]))
        _, body = await asking.hear_a(wire.Holds)
        assert wire.decode_roots(body) == [lonely.root]
        assert (tally().only_elsewhere, tally().missing) == (0, 0)
        assert a.peers.custody.told == told + 1, "it is said once"
        nursery.cancel_scope.cancel()


async def test_who_did_not_hear_what_went_is_noted_by_a_writer_that_has_told_nobody_anything_yet(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b):
        custody, journal = a.peers.custody, a.rig.volume.replica.journal
        before = custody.behind.nonce_for(b.device.id)
        with journal.transaction():
            journal.put_local("custody", b"writer", b"another")  # as after a writer that was given up
        custody.behind.note([b.device.id])
        assert custody.behind.nonce_for(b.device.id) != before


async def test_whose_disk_is_nearly_full_is_sent_nothing_more_and_that_is_said_until_there_is_room(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        b.peers.keeping._free_bytes = lambda: 1 << 20
        connect(nursery, a, b)
        data = random.Random(2).randbytes(3 << 20)
        await a.write("large", data)
        await until(lambda: a.peers.keeping.full == [b.device.id])
        assert a.peers.custody.tally().only_here == 1
        assert not b.peers.keeping.bytes_wanted
        a.peers.pace.note(0.0, 2 * len(data))
        a.peers.pace.note(1.0, len(data))
        told = custody_of(a.rig.volume, a.peers)
        assert (told.unsent, told.sending_to, told.time_left_s) == (1, (), -1.0)
        b.peers.keeping._free_bytes = lambda: 1 << 40
        await until(lambda: not a.peers.custody.tally().only_here, 200)
        assert not a.peers.keeping.full
        await a.write("more", data[::-1])
        assert custody_of(a.rig.volume, a.peers).sending_to == ("device 2",)
        nursery.cancel_scope.cancel()


async def test_what_was_asked_for_before_a_disk_was_full_does_not_show_that_there_is_room(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        peer = Attacker(a, b.device)
        nursery.start_soon(peer.serve)
        await peer.open()
        await a.write("early", b"early")
        _, body = await peer.hear_a(wire.Keep)
        ((early, _),) = wire.decode_sized_roots(body)
        await a.write("late", b"late")
        _, body = await peer.hear_a(wire.Keep)
        ((late, _),) = wire.decode_sized_roots(body)
        await peer.say(wire.Released(is_full=True), wire.encode_roots([late]))
        await until(lambda: a.peers.keeping.full == [b.device.id])
        await peer.say(wire.Holds(1), wire.encode_roots([early]))
        await until(lambda: a.peers.custody.tally().only_here == 1)
        assert a.peers.keeping.full == [b.device.id]
        _, body = await peer.hear_a(wire.Keep)
        assert [root for root, _ in wire.decode_sized_roots(body)] == [late]
        assert a.peers.keeping.full == [b.device.id]
        await peer.say(wire.Holds(2), wire.encode_roots([late]))
        await until(lambda: not a.peers.custody.tally().only_here)
        assert not a.peers.keeping.full
        nursery.cancel_scope.cancel()
