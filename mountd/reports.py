"""What `status` says: volumes, members and devices as of one instant, from memory and a look at the disk."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from dittofs import __version__
from dittofs.control.paths import path_fields
from dittofs.control.protocol import (
    BluetoothStatus,
    Custody,
    DeviceStatus,
    Finding,
    MemberStatus,
    NetworkStatus,
    Pending,
    RoleName,
    SignalStatus,
    StatusReport,
    VolumeStatus,
)
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.node import Node
from dittofs.rate_limits import Direction
from dittofs.replication.network import Network
from dittofs.replication.peer_status import PeerStatus
from dittofs.replication.peers import Peers
from dittofs.shared_volume import SharedVolume
from dittofs.volume.opening import suspected
from dittofs.volume.recovery import SALVAGED
from dittofs.volume.volume import Volume
from mountd.checking import REPAIR, STOPPED
from mountd.mounting import Mounting
from mountd.undoing import held

ROLE_NAMES: dict[Role, RoleName] = {
    Role.NONE: "none",
    Role.STORE: "store",
    Role.READER: "reader",
    Role.WRITER: "writer",
    Role.OWNER: "owner",
}
DAMAGE_MAX = 100


class Reports:
    """Of one node. Answers within a millisecond or two, whatever the size of its volumes."""

    def __init__(self, node: Node, mounting: Mounting) -> None:
        self._node = node
        self._mounting = mounting
        self._started = time.monotonic()
        self._last_seen_ns: dict[bytes, int] = {}
        self._online: set[tuple[str, bytes]] = set()  # as last told; a session that ends is told late

    def seen(self, volume: str, device: bytes, *, is_online: bool) -> None:
        """A device is online, or was until now."""
        self._last_seen_ns[device] = time.time_ns()
        (self._online.add if is_online else self._online.discard)((volume, device))

    def status(self) -> StatusReport:
        volumes = tuple(self.volume(name) for name in self._node.names())
        return StatusReport(
            version=__version__,
            pid=os.getpid(),
            uptime_s=time.monotonic() - self._started,
            memory_bytes=_resident_bytes(),
            volumes=volumes,
            devices=tuple(self._devices(volumes)),
            network=self._network(),
            limit_up=self._node.limits.allowances.rate(Direction.UP),
            limit_down=self._node.limits.allowances.rate(Direction.DOWN),
            limit_problems=self._node.limits.problems,
        )

    def _network(self) -> NetworkStatus | None:
        network = self._node.network
        if network is None or not (network.port or network.problem):
            return None
        return NetworkStatus(
            port=network.port,
            addresses=tuple(map(str, network.addresses())),
            problem=network.problem,
            uses_mdns=network.uses_mdns,
            signal=tuple(SignalStatus(str(url), why) for url, why in network.switchboard.problems()),
            bluetooth=_bluetooth(network),
        )

    def volume(self, name: str) -> VolumeStatus:
        """One volume."""
        record = self._node.record(name)
        mount = self._mounting.of_volume(name)
        where = path_fields(os.fsencode(mount.path if mount else record.path))
        opened = self._node.opened(name)
        if opened is None:
            failure = self._node.failure(name)
            return VolumeStatus(
                name=name,
                id=record.volume_id,
                state="failed" if failure else "unmounted",
                failure=failure,
                **where,
            )
        failure = "" if mount else self._mounting.failure(name)
        summary = opened.volume.summary()
        statistics = opened.volume.replica.chunks.statistics()
        return VolumeStatus(
            name=name,
            id=record.volume_id,
            state="mounted" if mount else "failed" if failure else "unmounted",
            failure=failure,
            options=tuple(record.options),
            files=summary.files,
            directories=summary.directories,
            bytes=summary.content_bytes,
            bytes_here=summary.bytes_here,
            stored_bytes=statistics.pack_bytes + statistics.index_bytes,
            history_bytes=opened.history_cost.bytes,
            conflicts=summary.conflicts,
            pending=Pending(files=summary.pending_files, bytes=summary.pending_bytes),
            read_only=summary.read_only or "",
            damage=tuple(findings(opened.volume, self._node.place(name)))[:DAMAGE_MAX],
            role=ROLE_NAMES[opened.role],
            copies=str(opened.copies),
            copies_rules=len(opened.peers.copies.rules),
            custody=custody_of(opened.volume, opened.peers),
            members=tuple(self.members(opened)),
            has_owner_key=opened.secrets.root is not None,
            held=tuple(held(opened)),
            has_untaken=opened.peers.untaken.is_some,
            pins=opened.pins.shown(),
            pins_missing=len(opened.pinning.missing),
            pins_missing_bytes=sum(opened.pinning.missing),
            pins_problem=opened.pinning.problem,
            disk_low=tuple(opened.membership.name(one) or one.hex()[:8] for one in opened.peers.keeping.full),
            cache_over_bytes=opened.cache_limit.over_bytes,
            untold=sum(one.untold for one in self._mounting.all_of_volume(name)),
            **where,
        )

    def members(self, opened: SharedVolume) -> Iterator[MemberStatus]:
        """The devices of a volume, this one first."""
        people = opened.membership.people
        for one in self._members(opened):
            device = bytes.fromhex(one.id)
            standing = people.standing(device)
            yield replace(
                one,
                user=people.user_of(device),
                role_by=standing.by.name.lower(),
                role_group=standing.group,
            )

    def _members(self, opened: SharedVolume) -> Iterator[MemberStatus]:
        own, limits = DeviceId(self._node.device_id), self._node.limits.allowances
        retired = opened.retirement.all
        yield MemberStatus(
            name=opened.membership.name(own) or self._node.label,
            id=own.hex(),
            role=ROLE_NAMES[opened.role],
            is_this=True,
            is_online=True,
            is_up_to_date=True,
            is_retired=own in retired,
        )
        for peer in opened.peers.status():
            yield MemberStatus(
                name=peer.name,
                id=peer.device.hex(),
                role=ROLE_NAMES[peer.role],
                is_online=peer.is_connected,
                path=peer.path,
                round_trip_s=peer.round_trip_s,
                is_up_to_date=peer.is_in_step,
                last_seen_ns=self._last_seen(opened.name, peer),
                bytes_sent=peer.bytes_sent,
                bytes_received=peer.bytes_received,
                rate_sent=peer.rate_sent,
                rate_received=peer.rate_received,
                is_retired=peer.device in retired,
                limit_up=limits.rate(Direction.UP, peer.device.hex()),
                limit_down=limits.rate(Direction.DOWN, peer.device.hex()),
            )

    def _last_seen(self, volume: str, peer: PeerStatus) -> int:
        if peer.is_connected or (volume, peer.device) in self._online:
            return time.time_ns()
        return self._last_seen_ns.get(peer.device, 0)

    def _devices(self, volumes: tuple[VolumeStatus, ...]) -> Iterator[DeviceStatus]:
        called = {member.name for volume in volumes for member in volume.members if member.is_this}
        name = called.pop() if len(called) == 1 else self._node.label
        yield DeviceStatus(name=name, id=self._node.device_id.hex(), is_this=True, is_online=True)
        others: dict[str, list[MemberStatus]] = {}
        for volume in volumes:
            for member in volume.members:
                if not member.is_this:
                    others.setdefault(member.id, []).append(member)
        for identity, seen in sorted(others.items(), key=lambda item: (item[1][0].name, item[0])):
            online = [one for one in seen if one.is_online]
            yield DeviceStatus(
                name=seen[0].name,
                id=identity,
                is_this=False,
                is_online=bool(online),
                path=online[0].path if online else "",
                round_trip_s=min((one.round_trip_s for one in online), default=0.0),
                is_up_to_date=len(online) == len(seen) and all(one.is_up_to_date for one in seen),
                last_seen_ns=max(one.last_seen_ns for one in seen),
            )


def custody_of(volume: Volume, peers: Peers) -> Custody:
    """Who holds what, as confirmed by now."""
    files = volume.replica.tree.counts().files
    unpublished, _ = volume.publisher.pending()
    if not peers.others:
        size = volume.replica.tree.counts().bytes
        missing = volume.holdings.missing or ()
        return Custody(
            only_here=files - len(missing),
            only_here_bytes=size - sum(missing),
            missing=len(missing),
            missing_bytes=sum(missing),
        )
    tally = peers.custody.tally()
    only_here = tally.only_here - tally.past - tally.past_on_demand
    lonely = only_here + tally.only_elsewhere + tally.missing
    connected = () if peers.copies.is_all_on_demand else [one for one in peers.status() if one.is_connected]
    full = peers.keeping.full
    takers = tuple(one.name for one in connected if one.device not in full)
    left_s = (peers.pace.time_left_s() if takers else None) if tally.unsent else 0.0
    return Custody(
        is_counting=tally.is_counting,
        safe=max(0, files - lonely - unpublished),  # of what is unpublished the newest is only here
        only_here=only_here,
        only_here_bytes=tally.only_here_bytes - tally.past_bytes - tally.past_on_demand_bytes,
        past=tally.past,
        past_bytes=tally.past_bytes,
        only_elsewhere=tally.only_elsewhere,
        only_elsewhere_bytes=tally.only_elsewhere_bytes,
        missing=tally.missing,
        missing_bytes=tally.missing_bytes,
        unsent=tally.unsent,
        unsent_bytes=tally.unsent_bytes,
        on_demand=tally.on_demand - tally.past_on_demand,
        on_demand_bytes=tally.on_demand_bytes - tally.past_on_demand_bytes,
        to_fetch_bytes=peers.keeping.bytes_wanted,
        sending_to=takers,
        time_left_s=-1.0 if left_s is None else left_s,
    )


def findings(volume: Volume, place: Path) -> Iterator[Finding]:
    """What of an open volume somebody has to look at. `place`: the directory of its state."""
    if (reason := suspected(volume.replica.disk)) is not None:
        detail = f"it is made anew of what can be read in it once it is not open any more: {reason}"
        yield Finding("damage", "journal", detail, mend=STOPPED)
    if volume.replica.read_only is None and not volume.room().blocks_free:
        yield Finding(
            "warning",
            "disk",
            "the disk has less room than is kept free for the volume's own needs: what is written is refused"
            " until there is more, and reading goes on",
            mend="free some room on it, or: dittofs cache stats",
        )
    for number, reason in volume.replica.documents.awaited.items():
        detail = f"document {number} of the tree is awaited from another device, and nothing can be changed: "
        yield Finding("damage", "journal", detail + reason, mend=REPAIR)
    for inode, lost in itertools.islice(volume.holdings.damaged, DAMAGE_MAX):
        found = volume.replica.tree.names(inode)[:1]
        path = b"".join(volume.state.path(above) + entry.name for above, entry in found)
        what = f"{lost} bytes of it are" if lost else "an attribute of it is"
        detail = f"{what} damaged on this device"
        yield Finding("damage", "file", detail, mend="dittofs check", **path_fields(path))
    if volume.publisher.problem is not None:
        yield Finding(
            "warning",
            "publication",
            f"closed files stay staged on this device, and are tried again: {volume.publisher.problem}",
            mend="see that the disk has room",
        )
    for reason in dict.fromkeys(volume.publisher.waiting.values()):
        yield Finding(
            "warning",
            "publication",
            f"edits stay staged until another device gives what they are based on: {reason}",
            mend="connect a device that has these files",
        )
    for reason in volume.publisher.stuck.values():
        yield Finding("damage", "file", f"staged, and cannot be published: {reason}", mend="dittofs check")
    for reason in volume.recovered.damaged:
        yield Finding("damage", "staging", reason, mend="dittofs check")
    if volume.recovered.salvaged:
        where = f"{place}/{SALVAGED}"
        yield Finding(
            "warning",
            "staging",
            f"{volume.recovered.salvaged} files of bytes that were never published, and whose names are lost",
            mend=f"look at them in {where}, then remove that directory",
        )
    for name in volume.recovered.set_beside:
        yield Finding(
            "warning",
            "file",
            "holds what was being written when the daemon died; the last whole version kept its name",
            mend="look at it, then rename or remove it",
            **path_fields(name),
        )


def _resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def names(opened: SharedVolume) -> int:
    """How many files and directories a volume has."""
    counts = opened.volume.replica.tree.counts()
    return counts.files + counts.directories


def _bluetooth(network: Network) -> BluetoothStatus | None:
    if network.nearby is None:
        return None
    used, problem = network.nearby.bluetooth.controller, network.nearby.bluetooth.problem
    if problem is None:
        return BluetoothStatus(problem="not tried yet")
    if used is None:
        return BluetoothStatus(problem=problem)
    return BluetoothStatus(used.path.rpartition("/")[2], used.address, problem)
