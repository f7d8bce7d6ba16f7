"""What of a volume lies on this device: `dittofs evict`, `pin`, `unpin`."""

import shlex
from collections.abc import Iterator
from typing import Final

import trio

from dittofs.control.faults import Refusal
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.control.placement import Kept, PlaceRequest, PlaceResult
from dittofs.errors import FSError
from dittofs.ids import InodeId
from dittofs.node import Node
from dittofs.replication.custody import Item
from dittofs.replication.targets import NOT_HERE
from dittofs.shared_volume import SharedVolume
from dittofs.tree.record import Kind
from dittofs.volume.browsing import Browsing, Seen
from mountd.outsider import outside

KEPT_MAX: Final = 100
SEEN_AT_ONCE: Final = 32  # looked at between two requests of others


class PlacementDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def place(self, request: PlaceRequest) -> PlaceResult:
        """See `Service.place`."""
        opened = self._node.require_open(request.volume)
        names = components(path_bytes(request))
        match request.action:
            case "evict":
                if gone := outside(opened):
                    raise gone
                return await self._evict(opened, names, request)
            case "pin":
                return await self._pin(opened, names, request)
            case "unpin":
                return await self._unpin(opened, names, request)

    async def _evict(
        self, opened: SharedVolume, names: tuple[bytes, ...], request: PlaceRequest
    ) -> PlaceResult:
        paths: dict[InodeId, bytes] = {}
        items: list[Item] = []
        kept: list[tuple[bytes, int, str]] = []
        sizes: dict[InodeId, int] = {}
        for seen in await _below(opened, names, request):
            if seen.inode in paths or seen.stat.kind is not Kind.FILE:
                continue
            paths[seen.inode] = seen.path
            why = opened.evicting.why_kept(seen.inode)
            if why:
                kept.append((seen.path, seen.stat.size, why))
                continue
            sizes[seen.inode] = max(0, seen.stat.size - seen.missing_bytes)
            versions = opened.volume.replica.tree.versions(seen.inode)
            items += [(seen.inode, one.root, one.size) for one in versions if one.size]
        if request.is_dry:
            refused = opened.evicting.refused(items, is_forced=request.is_forced)
            kept += [(paths[inode], length, why) for (inode, _, length), why in refused]
            may_go = {inode for inode, _, _ in items} - {inode for (inode, _, _), _ in refused}
            return _result(request, len(may_go), sum(sizes[inode] for inode in may_go), 0, kept)
        done = await opened.evicting.evict(items, is_forced=request.is_forced)
        kept += [(paths[inode], length, why) for (inode, _, length), why in done.kept if why != NOT_HERE]
        room = await opened.collector.make_room(is_tight=True) if done.gone else 0
        return _result(request, len({inode for inode, _, _ in done.gone}), done.bytes, room, kept)

    async def _pin(
        self, opened: SharedVolume, names: tuple[bytes, ...], request: PlaceRequest
    ) -> PlaceResult:
        is_fresh = opened.pins.put(_find(opened, names, request))
        await _pins_changed(opened)
        seen = {one.inode: one for one in await _below(opened, names, request) if one.stat.kind is Kind.FILE}
        missing = sum(one.missing_bytes for one in seen.values())
        return PlaceResult(opened.name, "pin", len(seen), missing, was_so=not is_fresh)

    async def _unpin(
        self, opened: SharedVolume, names: tuple[bytes, ...], request: PlaceRequest
    ) -> PlaceResult:
        inode = _find(opened, names, request)
        is_gone = opened.pins.remove(inode)
        await _pins_changed(opened)
        above = opened.pins.of(inode)
        path = b"" if above is None else opened.volume.state.path(above)
        shown = "" if above is None else path.decode(errors="replace").rstrip("/") or "the whole volume"
        return PlaceResult(opened.name, "unpin", was_so=not is_gone, pinned_above=shown)


async def _pins_changed(opened: SharedVolume) -> None:
    """Make it durable, and act on it."""
    replica = opened.volume.replica
    await replica.run_blocking(replica.journal.sync)
    opened.pinning.look_again()


def _find(opened: SharedVolume, names: tuple[bytes, ...], request: PlaceRequest) -> InodeId:
    try:
        return Browsing(opened.volume).find(names).id
    except FSError as error:
        volume = shlex.quote(f"{opened.name}:")
        mend = f"What is there:  dittofs list {volume}"
        if names == (opened.name.encode(),):
            mend = f"The whole volume:  dittofs {request.action} {volume}      {mend}"
        raise Refusal("not_found", f"{error}; nothing was done", mend) from error


async def _below(opened: SharedVolume, names: tuple[bytes, ...], request: PlaceRequest) -> list[Seen]:
    """What is at and below a path."""
    _find(opened, names, request)
    found: list[Seen] = []
    walk: Iterator[Seen] = Browsing(opened.volume).walk(names, recursive=True)
    for number, seen in enumerate(walk, 1):
        found.append(seen)
        if number % SEEN_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found


def _result(
    request: PlaceRequest, files: int, size: int, room: int, kept: list[tuple[bytes, int, str]]
) -> PlaceResult:
    return PlaceResult(
        request.volume,
        request.action,
        files,
        size,
        room,
        tuple(Kept(reason=why, **path_fields(path)) for path, _, why in kept[:KEPT_MAX]),
        len({path for path, _, _ in kept}),
        sum(length for _, length, _ in kept),
    )
