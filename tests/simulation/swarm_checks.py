"""What must hold of a swarm: while it runs, and once everybody has met."""

import functools
import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkUnavailable, FSError
from dittofs.history.live_content import LiveContents
from dittofs.ids import ROOT
from dittofs.journal.journal import Journal
from dittofs.replication.behind import NONCE_BYTES, Behind
from dittofs.replication.custody import HOLD, KEEPER
from dittofs.replication.session import Session
from dittofs.replication.wholeness import whole
from dittofs.sync import messages as wire
from dittofs.tree import encoding
from dittofs.tree.entry import Change
from dittofs.tree.join import join_all
from dittofs.tree.record import META_SHARD, Kind, Record
from dittofs.tree.shard import FIRST_EPOCH, Epoch, Shard
from dittofs.tree.update import LIVE, decode, decode_state_vector
from dittofs.tree.view import view
from dittofs.volume.carried import put_back
from tests.property.tree_replicas import assert_same, observe
from tests.simulation.device import CAPACITY, SwarmDevice
from tests.simulation.ledger import Ledger, digest_of
from tests.simulation.programs import Programs

CHECKED: Final = 0.08
"""Of the instants at which something must be durable: a look copies a disk."""
GROUPS_KEPT: Final = 60
"""Changes that are watched for being seen in part."""


def shown(device: SwarmDevice) -> dict[str, tuple[str, bytes, int]]:
    """Path -> what every replica must show alike: kind, root of the content or target, mode."""
    tree = device.volume.replica.tree
    found: dict[str, tuple[str, bytes, int]] = {}
    ahead = [(ROOT, "")]
    while ahead:
        directory, path = ahead.pop()
        for entry in tree.listing(directory):
            called = path + entry.name.decode()
            attributes = tree.stat(entry.ref)
            assert attributes is not None, f"{called} is listed and not there"
            root = attributes.version.root if attributes.version else b""
            found[called] = (entry.kind.name, root, attributes.mode)
            if entry.kind is Kind.DIRECTORY:
                ahead.append((entry.inode, called + "/"))
    return found


def records(device: SwarmDevice) -> dict[str, Record]:
    """The joined records, from what the journal holds."""
    replica = device.volume.replica
    found: dict[str, Record] = {}
    for number, state in enumerate(replica.states()):
        if number != META_SHARD and state != (FIRST_EPOCH, b"\0"):
            epoch, snapshot, updates = replica.journal.load(number)
            shard = Shard.load(Epoch(*epoch), snapshot, updates, 2)
            for key in shard.records():
                found[key] = join_all(map(encoding.decode, shard.get_slots(key).values()))
    return found


def check_alike(devices: Sequence[SwarmDevice]) -> None:
    """All have seen the same, show the same, and show what a pure function of the records shows."""
    first = devices[0]
    expected = shown(first)
    known = records(first)
    for device in devices[1:]:
        assert device.volume.replica.digests() == first.volume.replica.digests(), "states differ"
        seen = shown(device)
        different = {path for path in {*seen, *expected} if seen.get(path) != expected.get(path)}
        assert not different, f"devices {first.number} and {device.number} show different: {different}"
    for device in devices:
        tree = device.volume.replica.tree

        found = records(device)
        assert found == known, "records differ"
        pure = view(found, device.volume.replica.writers.label)
        assert_same(observe(tree), pure)
        tree.unload()
        assert_same(observe(tree), pure)


def check_kept(devices: Sequence[SwarmDevice], ledger: Ledger) -> None:
    """What was closed is there, unless somebody who saw it replaced or removed it; and nothing else is."""
    for device in devices:
        ledger.gather(device.volume.replica.chunks)
    first = devices[0]
    live = ledger.live(first.volume.replica)
    missing = {
        name: one
        for name, one in ledger.closed.items()
        if one.is_sure and name not in live and name not in ledger.superseded
    }
    if missing:
        history = set().union(*(ledger.history(device.volume.replica) for device in devices))
        lost = [f"{one} ({'in history' if name in history else 'nowhere'})" for name, one in missing.items()]
        raise AssertionError(f"nobody removed: {lost}")
    torn = live - ledger.held.keys()
    assert not torn, f"nobody wrote {torn}"
    # Of an edit of what was elsewhere each device may hold a part; together they must have all of it.
    together = Ledger(ledger.keys)
    for device in devices:
        together.gather(device.volume.replica.chunks)
    try:
        for inode, root, size in LiveContents(first.volume.replica).content_roots():
            closed = ledger.closed.get(ledger.digest(root, size))
            assert closed is None or not closed.is_sure or together.has(root, size), (
                f"{closed} of {inode} is not whole on all devices together"
            )
    finally:
        together.close()


def check_recovered(device: SwarmDevice, programs: Programs, ledger: Ledger) -> None:
    """What a crash leaves of unpublished content is what the file held; after a power cut maybe a mixture.

    Of writes in place that nobody closed or synced since POSIX does not say which are on the platter.
    """
    for content in device.volume.state.contents:
        for layer in content.layers:
            data = programs.bytes_of(layer)
            if data and digest_of(data) not in ledger.held:
                assert device.is_power_cut, f"{device.number} recovers what nobody wrote"
                assert ledger.is_mixture(data), f"{device.number} recovers what nobody wrote there"
                ledger.note(data)


def check_custody(device: SwarmDevice, others: Sequence[SwarmDevice], chance: random.Random) -> None:
    """What a device believes another holds is whole there, and is so after a power cut at this instant."""
    journal = device.volume.replica.journal
    contents = {root: size for _, root, size in LiveContents(device.volume.replica).content_roots()}
    for other in others:
        theirs = other.device.id
        believed = [key[32:] for key, _ in journal.scan_local(HOLD, theirs) if key[32:] in contents]
        if not believed or other is device:
            continue
        nonce = (journal.get_local(KEEPER, theirs) or b"")[:NONCE_BYTES]
        if _nonce_told(other, device) != nonce:
            continue  # it has said that nothing is to be believed; this device has not met it since
        lost = _lost_by_power_cut(other, [(root, contents[root]) for root in believed], chance)
        false = [root.hex()[:12] for root in lost]
        assert not false, f"{device.number} believes that {other.number} holds {false}"


def _nonce_told(other: SwarmDevice, device: SwarmDevice) -> bytes:
    """What another device would tell this one next, that stands for all it said; also while it is down."""
    if other.is_up:
        return other.peers.custody.behind.nonce_for(device.device.id)
    journal = Journal.open(other.disk.fork(), "journal.db")
    try:
        nonce = journal.get_local("custody", b"") or b""
        return Behind(journal, lambda: nonce).nonce_for(device.device.id)
    finally:
        journal.abandon()


class Groups:
    """Whether what one change did elsewhere is seen as a whole. Told of every change of every device."""

    def __init__(self) -> None:
        self._recent: deque[list[tuple[int, Epoch, dict[int, int]]]] = deque(maxlen=GROUPS_KEPT)

    def follow(self, device: SwarmDevice) -> None:
        """From now on, until its process ends."""
        device.volume.replica.listeners.append(functools.partial(self._changed, device))

    def _changed(self, device: SwarmDevice, change: Change) -> None:
        if device.is_dead:
            return
        states = device.volume.replica.tree.exchange
        if not change.via and not change.is_round:
            ends: dict[int, tuple[Epoch, dict[int, int]]] = {}
            for number, epoch, update in change.updates:
                ranges = {
                    client: end for client, (_, end) in decode(update, None, limits=LIVE).ranges.items()
                }
                ends[number] = epoch, {**ends.get(number, (epoch, {}))[1], **ranges}
            self._recent.append([(number, *one) for number, one in ends.items()])
            return
        known = states.states()
        for group in self._recent:
            seen = {
                all(vector.get(client, 0) >= end for client, end in ends.items())
                for number, epoch, ends in group
                if known[number].epoch == epoch
                and (vector := decode_state_vector(known[number].vector)) is not None
            }
            same = all(known[number].epoch == epoch for number, epoch, _ in group)
            assert len(seen) < 2 or not same, f"{device.number} shows a part of a change"


def watch_publications(device: SwarmDevice, chance: random.Random) -> None:
    """Look, at some of the instants at which a version enters the tree, whether its chunks are durable."""
    replica = device.volume.replica
    contents = LiveContents(replica)

    def changed(change: Change) -> None:
        if device.is_dead or change.via or change.is_round or chance.random() > CHECKED:
            return
        here = [
            (root, size)
            for _, root, size in contents.roots_of(change)[0]
            if whole(replica.chunks, [(root, size)])[0]
        ]
        carrying = replica.journal  # what it carries is durable when the change is
        lost = (
            [root.hex()[:12] for root in _lost_by_power_cut(device, here, chance, carrying)] if here else []
        )
        assert not lost, f"{device.number} publishes {lost}, and a power cut would take it"

    replica.listeners.append(changed)


def watch_holds(device: SwarmDevice, chance: random.Random) -> None:
    """Look, at some of the instants at which it says so, whether what a device holds would survive there."""
    told = device.peers.custody.on_here

    def tell(roots: Sequence[bytes]) -> None:
        if not device.is_dead and chance.random() < CHECKED:
            contents = {root: size for _, root, size in LiveContents(device.volume.replica).content_roots()}
            some = [(root, contents[root]) for root in roots if root in contents]
            lost = [root.hex()[:12] for root in _lost_by_power_cut(device, some, chance)] if some else []
            assert not lost, f"{device.number} says that it holds {lost}, and a power cut would take it"
        told(roots)

    device.peers.custody.on_here = tell


def _lost_by_power_cut(
    device: SwarmDevice,
    contents: Sequence[tuple[bytes, int]],
    chance: random.Random,
    carrying: Journal | None = None,
) -> list[bytes]:
    """Which of these contents would not be whole on a device's disk after a power cut now.

    `carrying`: a journal whose carried chunks count as there.
    """
    disk = device.disk.fork()
    disk.crash(chance.randrange(1 << 30))
    disk.capacity = CAPACITY  # on a full disk what is carried waits in the journal until there is room
    store = ChunkStore.open(disk, "chunks", device.ledger.keys, entropy=bytes)
    try:
        if carrying is not None:
            put_back(carrying, store)
        there = whole(store, contents)
    finally:
        store.close()
    return [root for (root, _), is_there in zip(contents, there, strict=True) if not is_there]


def watch_acknowledgements(device: SwarmDevice, chance: random.Random) -> None:
    """Look, at some of the instants at which it acknowledges, whether what it has would survive there."""
    opened = device.peers.opened

    def watched(session: Session) -> None:
        send = session.send

        def sent(message: wire.Message, body: bytes | memoryview = b"") -> None:
            if isinstance(message, wire.Ack) and not device.is_dead and chance.random() < CHECKED:
                _check_durable(device, chance)
            send(message, body)

        session.send = sent  # type: ignore[method-assign]
        opened(session)

    device.peers.opened = watched  # type: ignore[method-assign]


def _check_durable(device: SwarmDevice, chance: random.Random) -> None:
    """Everything a device has taken in is in its journal after a power cut now."""
    disk = device.disk.fork()
    disk.crash(chance.randrange(1 << 30))
    journal = Journal.open(disk, "journal.db")
    try:
        for number, state in enumerate(device.volume.replica.states()):
            if state != (FIRST_EPOCH, b"\0"):
                epoch, snapshot, updates = journal.load(number)
                there = Shard.load(Epoch(*epoch), snapshot, updates, 2).known
                is_there = Epoch(*epoch) == state.epoch and there == decode_state_vector(state.vector)
                assert is_there, f"{device.number} acknowledges what a power cut would take of {number}"
    finally:
        journal.abandon()


async def check_readable(device: SwarmDevice, ledger: Ledger) -> None:
    """Every file can be read, fetched where it must be, and is what somebody wrote."""
    for path, (kind, _, _) in shown(device).items():
        if kind != "FILE":
            continue
        try:
            data = await device.fetch(path)
        except (FSError, ChunkUnavailable) as error:
            version = device.walk(path)
            if version.ref in device.volume.publisher.waiting:
                continue  # an edit of what is nowhere any more: what is published lies below it, unread
            shown_now = device.volume.state.newest(version)
            closed = ledger.closed.get(ledger.digest(shown_now.root, shown_now.size))
            assert closed is None or not closed.is_sure, f"{path} of {closed} cannot be read: {error}"
            continue
        if data:
            assert digest_of(data) in ledger.held, f"{path} reads as nobody wrote it"
