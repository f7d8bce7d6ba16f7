"""Marking: everything that this replica names, at one instant, though it is in use meanwhile.

What the volume comes to name while it is gone through is marked too. Where it is not known here what a
content consists of, that is fetched; without it nothing may be swept.
"""

from collections.abc import Sequence
from typing import Final

import structlog
import trio

from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.manifest import LEVEL_MAX
from dittofs.chunks.marking import Marker, Named, Unknown, named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk
from dittofs.errors import ChunkUnavailable, DiskError, DiskFull, DittoError
from dittofs.replication import garbage_rounds as rounds
from dittofs.replication.custody import WHOLE
from dittofs.replication.fetcher import NobodyHasIt
from dittofs.replication.parts import Retained
from dittofs.replication.peers import Peers
from dittofs.tree.entry import Change

log = structlog.get_logger()

LISTING_CHUNKS_MAX: Final = 100_000  # of snapshots, fetched one by one
NAMED_AT_ONCE: Final = 64  # looked at between two requests of others
MANIFESTS_AT_ONCE: Final = 32  # walked in one hop to a thread
NODES_AT_ONCE: Final = 512


class Incomplete(DittoError):
    """It is not known what contents consist of that the volume names: nothing may be swept."""


class Marking:
    """Of one replica. One mark at a time."""

    def __init__(self, peers: Peers, retained: Retained) -> None:
        self._peers = peers
        self._replica = peers.replica
        self._retained = retained
        self._came: list[Named] | None = None
        self._live: set[Named] = set()
        peers.replica.listeners.append(self._on_change)

    def _on_change(self, change: Change) -> None:
        if self._came is not None:
            self._came += self._retained.came(change)

    async def mark(self, marks: IdFilter, *, with_promised: bool = True) -> list[Unknown]:
        """Mark all that is named, and what was promised since the round began.

        At the end, without an await in between, what is named at that instant. Returns the manifest nodes
        that are not here, each with what it is part of. Incomplete if what names something cannot be read.
        """
        await self._have_snapshots()
        marker = Marker(self._replica.chunks, marks)
        self._came = []
        unknown: list[Unknown] = []
        live: set[Named] = set()
        try:
            manifests: list[Named] = []
            for number, (named, is_live) in enumerate(self._retained.named(), 1):
                if named.kind is not ChunkKind.MANIFEST:
                    marks.add(named.chunk)
                elif not marker.knows(named) or (is_live and named not in live):
                    manifests.append(named)
                    if is_live:
                        live.add(named)
                if len(manifests) >= MANIFESTS_AT_ONCE:
                    unknown += await self._replica.run_blocking(marker.mark, manifests)
                    manifests = []
                if number % NAMED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            if with_promised:
                manifests += [root for root, _ in self._whole_rows() if self._is_promised(root)]
            while True:
                if manifests:
                    unknown += await self._replica.run_blocking(marker.mark, manifests)
                manifests, self._came = [*self._came, *self._retained.pending()], []
                manifests = [one for one in manifests if not marker.knows(one)]
                if not manifests:
                    break
        except DittoError as error:
            if isinstance(error, DiskFull | DiskError):
                raise
            raise Incomplete(f"what the volume names cannot be read: {error}; run `dittofs check`") from error
        finally:
            self._came = None
        self._live = live
        return unknown

    async def _have_snapshots(self) -> None:
        """Fetch the listings of snapshots that others made: before that it is not known what they keep.

        A listing that no device has, as all of them said, holds nothing up: nobody can ever read it.
        """
        self._retained.lost_listings.clear()
        for _ in range(LISTING_CHUNKS_MAX):
            try:
                await self._replica.run_blocking(self._retained.look_at_snapshots)
            except AbsentChunk as absent:
                try:
                    await self._peers.fetcher.fetch(b"", [(absent.kind, absent.chunk)], is_bulk=True)
                except ChunkUnavailable as error:
                    if isinstance(error, NobodyHasIt) and self._has_asked_all():
                        log.warning("a snapshot's listing is on no device", chunk=absent.chunk.hex())
                        self._retained.lost_listings.add(absent.chunk)
                        continue
                    raise Incomplete(f"the listing of a snapshot is not here: {error}") from None
            else:
                return

    def _is_promised(self, root: Named) -> bool:
        return self._replica.chunks.garbage.was_claimed(root.chunk)

    def _whole_rows(self) -> list[tuple[Named, bytes]]:
        rows = self._replica.journal.scan_local(WHOLE, b"")
        return [(named, root) for root, _ in rows if (named := named_root(root)) is not None]

    async def resolve(self, unknown: Sequence[Unknown], marks: IdFilter) -> None:
        """Fetch the nodes that are not here, and mark what they name. Incomplete if one cannot be had.

        A version of the past, no part of which can be had though all devices were asked, holds nothing up:
        nobody can ever read it.
        """
        marker = Marker(self._replica.chunks, marks)
        left = list(unknown)
        for _ in range(LEVEL_MAX + 1):
            await self._fetch_nodes(left)
            left = await self._replica.run_blocking(marker.mark, [one.root for one in left])
            if not left:
                return
        blocking = [one for one in left if one.root in self._live or not self._has_asked_all()]
        if blocking:
            count = len({one.root for one in blocking})
            raise Incomplete(
                f"{count} contents that the volume names are made of chunks which are not known here, and no "
                "connected device could tell"
            )

    async def _fetch_nodes(self, unknown: Sequence[Unknown]) -> None:
        for start in range(0, len(unknown), NODES_AT_ONCE):
            some = unknown[start : start + NODES_AT_ONCE]
            wanted = [(ChunkKind.MANIFEST, one.node) for one in some]
            try:
                await self._peers.fetcher.fetch(b"", list(dict.fromkeys(wanted)), is_bulk=True)
            except ChunkUnavailable:
                for one in dict.fromkeys(wanted):
                    try:
                        await self._peers.fetcher.fetch(b"", [one], is_bulk=True)
                    except ChunkUnavailable:
                        if not self._peers.open_sessions:
                            return

    def _has_asked_all(self) -> bool:
        gone = rounds.retired(self._replica.tree.settings())
        connected = {session.device for session in self._peers.open_sessions}
        return connected >= {one for one in self._peers.others if one not in gone}
