"""Devices with one volume in memory, and links between them, or with a test at the other end."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import trio.testing

from dittofs.disk import Disk
from dittofs.history.live_content import LiveContents
from dittofs.identity.granting import found_volume, grant
from dittofs.identity.keys import Device, DeviceId, VolumeSecrets, make_volume_secrets
from dittofs.identity.membership import Membership
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Role
from dittofs.links.link import Alpn, Link, LinkBroken, Pulse
from dittofs.replication import greeting
from dittofs.replication.members import Members
from dittofs.replication.peers import Peers
from dittofs.sync import messages as wire
from dittofs.sync.frame import FrameReader, frames
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig, SeededEntropy
from tests.unit.identity.devices import DESKTOP, LAPTOP, NAS, PHONE

SECRETS: VolumeSecrets = make_volume_secrets(SeededEntropy(7))


@dataclass
class ToldPulse:
    """What a kernel would say of the other machine; the test says it."""

    local_host: str = ""
    silent_s: float | None = 0.0
    """None: it knows nothing."""

    def unanswered_s(self) -> float | None:
        return self.silent_s


class MemoryLink:
    """A link over memory: no TLS, the ids are believed."""

    alpn = Alpn.SESSION
    certificate = b""

    def __init__(
        self, stream: trio.abc.Stream, peer: DeviceId, *, is_dialer: bool, description: str = "memory"
    ) -> None:
        self._stream = stream
        self.peer = peer
        self.is_dialer = is_dialer
        self.description = description
        self.pulse: Pulse = ToldPulse()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBroken("cut") from error

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBroken("cut") from error

    def exporter(self, label: str, length: int) -> bytes:
        return label.encode().ljust(length, b"\0")[:length]

    async def aclose(self) -> None:
        await self._stream.aclose()


def members_of(devices: Sequence[tuple[Device, Role]]) -> list[bytes]:
    """Records that make the first device the founder and give the others their roles."""
    founder = devices[0][0]
    membership = Membership(SECRETS.genesis)
    membership.add(found_volume(SECRETS, founder, "first"))
    for number, (device, role) in enumerate(devices[1:], 2):
        record = grant(membership, SECRETS, founder, make_publics(device), role, f"device {number}")
        membership.add([record])
    return list(membership.records.values())


class Side:
    """One device: a volume, and its sessions."""

    def __init__(
        self, device: Device, records: Sequence[bytes], label: str, disk: Disk, *, seed: int
    ) -> None:
        self.device = device
        self.port = 0
        """Where it says to listen; 0: nowhere."""
        self.rig = Rig(disk, seed=seed, label=label, machine=label)
        replica = self.rig.volume.replica
        self.members = Members(replica.journal, SECRETS.genesis)
        self.members.add(records)
        self.events: list[tuple[str, DeviceId]] = []
        self.peers = Peers(
            replica,
            LiveContents(replica),
            self.members,
            device=device.id,
            volume=SECRETS.volume_id,
            label=label,
            instance=seed.to_bytes(16, "big"),
            port=lambda: self.port,
            free_bytes=lambda: 1 << 40,
            on_event=lambda event, who: self.events.append((event, who)),
        )
        self.rig.volume.state.source = self.peers.fetcher

    async def write(self, path: str, data: bytes) -> None:
        await self.rig.write(path, data)
        await self.rig.publish()


@asynccontextmanager
async def sides(
    *roles: Role, seed: int = 1, disk: Callable[[], Disk] = SimulatedDisk
) -> AsyncIterator[list[Side]]:
    """Devices of one volume, the first its founder, their shared tasks running; not connected."""
    devices = list(zip((LAPTOP, DESKTOP, NAS, PHONE), (Role.OWNER, *roles), strict=False))
    records = members_of(devices)
    made = [
        Side(device, records, f"device {number + 1}", disk(), seed=seed * 100 + number)
        for number, (device, _) in enumerate(devices)
    ]
    async with trio.open_nursery() as nursery:
        for side in made:
            nursery.start_soon(side.peers.run)
        yield made
        nursery.cancel_scope.cancel()


def connect(nursery: trio.Nursery, dialler: Side, other: Side) -> tuple[trio.testing.MemorySendStream, ...]:
    """A link between two devices. Returns both sending ends: closing one cuts that direction."""
    near, far = trio.testing.memory_stream_pair()
    nursery.start_soon(_dialled, MemoryLink(near, other.device.id, is_dialer=True), dialler.peers)
    nursery.start_soon(_accepted, MemoryLink(far, dialler.device.id, is_dialer=False), other.peers)
    return near.send_stream, far.send_stream


async def _dialled(link: Link, peers: Peers) -> None:
    await greeting.dialled(link, peers)


async def _accepted(link: Link, peers: Peers) -> None:
    _, theirs, reader = await greeting.accepted(link, lambda _volume: peers)
    await greeting.answered(link, peers, theirs, reader)


class Attacker:
    """The other end of a link, spoken by a test as `device`, which need not keep to the protocol."""

    def __init__(self, target: Side, device: Device, path: str = "memory") -> None:
        near, far = trio.testing.memory_stream_pair()
        self.link = MemoryLink(near, target.device.id, is_dialer=True)
        self.target = target
        self.device = device
        self.far = MemoryLink(far, device.id, is_dialer=False, description=path)
        self._reader = FrameReader()
        self._messages: list[tuple[wire.AnyMessage, bytes]] = []
        self.why = ""

    async def serve(self) -> None:
        """The target's side of the link, until it ends."""
        _, theirs, reader = await greeting.accepted(self.far, lambda _volume: self.target.peers)
        self.why = await greeting.answered(self.far, self.target.peers, theirs, reader)

    async def say(self, message: wire.Message, body: bytes = b"", *, is_bulk: bool = False) -> None:
        for parts in frames(wire.encode_header(message), body, is_bulk=is_bulk):
            await self.link.send_all(b"".join(parts))

    async def hear(self) -> tuple[wire.AnyMessage, bytes]:
        """The next message that is no ping. LinkBroken when there will be none."""
        while True:
            while self._messages:
                message, body = self._messages.pop(0)
                if isinstance(message, wire.Ping):
                    await self.say(wire.Pong(message.number))
                    continue
                return message, body
            data = await self.link.receive_some()
            if not data:
                raise LinkBroken("the other side closed")
            for header, body in self._reader.feed(data):
                self._messages.append((wire.decode_header(header), body))

    async def hear_a(self, kind: type[wire.Message]) -> tuple[wire.AnyMessage, bytes]:
        while True:
            message, body = await self.hear()
            if isinstance(message, kind):
                return message, body

    async def greet(self, *, instance: bytes = b"\xee" * 16, is_beside: bool = False) -> None:
        """Come as far as the target's Ready, honestly."""
        peers = self.target.peers
        membership = self.target.members.membership
        digest = membership.digest()
        hello = wire.Hello(wire.VERSION, peers.volume, instance, b"\xcc" * 16, 0, digest, "x", 0, is_beside)
        await self.say(hello)
        await self.hear_a(wire.Hello)
        await self.hear_a(wire.Ready)

    async def open(self, *, instance: bytes = b"\xee" * 16) -> None:
        """Come as far as an open session, honestly."""
        peers = self.target.peers
        await self.greet(instance=instance)
        await self.say(wire.Ready(peers.replica.root_digest()))
        while peers.session(self.device.id) is None:
            await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def attacked(role: Role) -> AsyncIterator[tuple[Attacker, Side]]:
    """A founder, and a member of that role whose words the test chooses."""
    async with sides(role) as (target, victim), trio.open_nursery() as nursery:
        attacker = Attacker(target, victim.device)
        nursery.start_soon(attacker.serve)
        yield attacker, target
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], patience_s: float = 60.0) -> None:
    """Return when `condition` holds: seconds of a clock that jumps."""
    with trio.fail_after(patience_s):
        while not condition():  # noqa: ASYNC110 - it looks at many things, and no time passes
            await trio.sleep(0.01)


async def until_ended(attacker: Attacker) -> str:
    """Why the target ended the session."""
    with trio.fail_after(600):
        try:
            while True:
                await attacker.hear()
        except LinkBroken:
            await trio.testing.wait_all_tasks_blocked()
    return attacker.why


__all__ = ["Attacker", "Side", "attacked", "connect", "sides", "until", "until_ended"]
