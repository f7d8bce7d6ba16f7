"""What lies in the store, garbage, and devices nobody waits for: `dittofs cache`, `devices retire`."""

from itertools import islice
from typing import Final

import trio

from dittofs.chunks.amount import Amount as Chunks
from dittofs.chunks.compaction import PackShare
from dittofs.chunks.pack import pack_name
from dittofs.chunks.store import ChunkStore
from dittofs.control.faults import Refusal
from dittofs.control.storage import (
    Amount,
    Awaited,
    CacheReport,
    CacheRequest,
    GarbageRound,
    PackReport,
    RetireRequest,
    RetireResult,
    Swept,
)
from dittofs.errors import ConfigError, DittoError
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.node import Node
from dittofs.replication.garbage_status import GarbageStatus
from dittofs.shared_volume import SharedVolume
from mountd.checking import Elsewhere
from mountd.parting import require_read_elsewhere
from mountd.reports import Reports

SAMPLED_CHUNKS: Final = 512
COUNTING_S: Final = 60.0


class StorageDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node, reports: Reports) -> None:
        self._node = node
        self._reports = reports

    async def cache(self, request: CacheRequest) -> CacheReport:
        """See `Service.cache`."""
        opened = self._node.require_open(request.volume)
        collector = opened.collector
        before, freed = collector.status().swept, 0
        if request.collect and not request.is_dry:
            await collector.collect()
            freed = await opened.cache_limit.step()
        status = collector.status()
        replica = opened.volume.replica
        measured = await collector.measure()
        store = replica.chunks
        shares = await replica.run_blocking(store.garbage.shares)
        statistics = store.statistics()
        summary = opened.volume.summary()
        plain, sealed, sampled = 0, 0, 0
        if request.is_detailed:
            sampled, plain, sealed = await replica.run_blocking(_sample, store)
        return CacheReport(
            volume=opened.name,
            live=_amount(measured.live),
            past=_amount(measured.past),
            garbage=_amount(measured.garbage),
            content_bytes=summary.content_bytes,
            here_bytes=-1 if summary.bytes_here is None else summary.bytes_here,
            pack_bytes=statistics.pack_bytes,
            pack_count=statistics.packs,
            index_bytes=statistics.index_bytes,
            dead_bytes=sum(share.garbage_bytes for share in shares.values()),
            unknown=measured.unknown,
            round=self._round(opened, status),
            swept=_swept(status),
            problem=status.problem,
            owed=tuple(f"{self._name(opened, device)}: {why}" for device, why in status.owed),
            is_swept_now=status.swept != before,
            freed_bytes=freed,
            over_bytes=opened.cache_limit.over_bytes,
            packs=tuple(_pack(share) for share in shares.values()) if request.is_detailed else (),
            sampled_chunks=sampled,
            sampled_plain_bytes=plain,
            sampled_sealed_bytes=sealed,
        )

    def _round(self, opened: SharedVolume, status: GarbageStatus) -> GarbageRound | None:
        if status.round is None:
            return None
        seen = {DeviceId(bytes.fromhex(one.id)): one for one in self._reports.members(opened)}
        awaited = []
        for one in status.outstanding:
            member = seen.get(one.device)
            is_online = member is not None and member.is_online
            awaited.append(
                Awaited(
                    name=self._name(opened, one.device),
                    id=one.device.hex(),
                    since_ns=status.round.begun,
                    last_seen_ns=0 if member is None or is_online else member.last_seen_ns,
                    is_online=is_online,
                )
            )
        return GarbageRound(
            begun_ns=status.round.begun,
            grace_ends_ns=status.grace_ends,
            found=Amount(status.round.chunks, status.round.bytes),
            awaited=tuple(awaited),
        )

    def _name(self, opened: SharedVolume, device: DeviceId) -> str:
        return opened.membership.name(device) or device.hex()[:8]

    async def retire(self, request: RetireRequest) -> RetireResult:
        """See `Service.retire`."""
        opened = self._node.require_open(request.volume)
        own = DeviceId(self._node.device_id)
        if request.action == "rejoin":
            is_changed = await opened.retirement.rejoin()
            return RetireResult(self._name(opened, own), own.hex(), is_changed)
        try:
            member = opened.find_member(request.device)
        except ConfigError as error:
            raise Refusal("not_found", f"{error}. Nothing was done", "dittofs devices") from error
        if member.device == own:
            raise Refusal(
                "usage", "a device does not retire itself", "To end its part in the volume:  dittofs leave"
            )
        seen = {one.id: one for one in self._reports.members(opened)}[member.device.hex()]
        if seen.is_online and not request.is_forced:
            raise Refusal(
                "refused",
                f"{member.name} is connected: it will answer, and then nobody waits for it",
                "To retire it all the same:  --force",
            )
        alone = await require_read_elsewhere(
            opened,
            [member],
            "That takes the device to connect once. Retire it all the same:  --force",
            is_forced=request.is_forced,
        )
        is_changed = await opened.retirement.retire(member.device, seen.last_seen_ns)
        return RetireResult(
            member.name,
            member.device.hex(),
            is_changed,
            last_seen_ns=seen.last_seen_ns,
            only_there=alone.files,
            only_there_bytes=alone.bytes,
        )


def elsewhere_of(opened: SharedVolume) -> Elsewhere:
    """What `check` may know of the other devices of a volume."""
    custody = opened.peers.custody

    def nobody_has(root: bytes) -> bool:
        lonely = custody.find(root)
        return lonely is not None and not lonely.holders and not custody.is_counting

    async def counted() -> None:
        with trio.move_on_after(COUNTING_S):
            while custody.is_counting:
                await custody.changed.wait()

    peers = opened.peers.status()
    absent = [one.name for one in peers if not one.is_connected and one.role >= Role.READER]
    return Elsewhere(len(opened.membership.members()) <= 1, absent, nobody_has, counted)


def _amount(chunks: Chunks) -> Amount:
    return Amount(chunks.chunks, chunks.bytes)


def _swept(status: GarbageStatus) -> Swept | None:
    last = status.swept
    return None if last is None else Swept(last.at, Amount(last.chunks, last.bytes), last.room)


def _pack(share: PackShare) -> PackReport:
    return PackReport(pack_name(share.number), share.size, share.live_chunks, share.live_bytes)


def _sample(store: ChunkStore) -> tuple[int, int, int]:
    """Blocking: of some chunks how many, their bytes, and the room they take."""
    count = plain = sealed = 0
    for kind, chunk in islice(store.ids(), SAMPLED_CHUNKS):
        try:
            plain += len(store.get(kind, chunk))
            sealed += len(store.sealed(kind, chunk))
            count += 1
        except DittoError:
            continue  # `check` tells of it
    return count, plain, sealed
