"""Undoing what one device did, as new operations, in groups of bounded size.

Which inodes it touched is read from the history; what is to be done with each is worked out (undo.py) in the
same step in which it is done, so that nothing comes in between. A crash leaves some of it done, which is a
valid state; to run it again does the rest, and nothing twice.
"""

import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Final

import trio

from dittofs.clock import DAY_NS
from dittofs.errors import ChunkMissing, ChunkUnavailable, Damaged, FormatError, FSError
from dittofs.history.undo import StepKind, Undoing, Window, undoing_of
from dittofs.history.versions import is_below
from dittofs.ids import LOST_FOUND, ROOT, InodeId, Slot
from dittofs.tree.entry import Entry
from dittofs.tree.record import Kind, NewVersion
from dittofs.volume.browsing import Browsing
from dittofs.volume.events import Past, PastName, whole_of
from dittofs.volume.naming import Naming, roots_of
from dittofs.volume.published import Published
from dittofs.volume.transaction import Transaction
from dittofs.volume.volume import Volume
from dittofs.volume.writers import writers_in

ROWS_PER_SLICE: Final = 256
INODES_PER_GROUP: Final = 16
"""One transaction, some milliseconds."""
CLOCKS_APART_NS: Final = DAY_NS
"""Rows applied here so long before the window are looked at too: another device's clock may be ahead."""
DEPTH_MAX: Final = 4_096
PARTS_MAX: Final = 1_024
"""So much of a content is looked for here: a few milliseconds."""
FILLED: Final = "something else is in it"
BEING_WRITTEN: Final = "it is being written on this device"
NOWHERE: Final = "its content is on no device that can be reached now"


@dataclass(frozen=True, slots=True)
class Step:
    """One inode that is, or would be, set back."""

    kind: StepKind
    path: bytes
    size: int
    missing: int
    """Bytes of that which are not on this device."""
    is_directory: bool
    reason: str = ""


def slots_of(volume: Volume, author: str) -> frozenset[Slot]:
    """The writers of one device, by `Writers.key`: another one of the same name is another."""
    replica = volume.replica
    writers = writers_in(replica.tree.settings())
    return frozenset(slot for slot in writers if replica.writers.key(slot) == author)


async def undo(
    volume: Volume, author: str, window: Window, *, under: bytes, dry_run: bool, may_fetch: bool
) -> AsyncGenerator[Step, None]:
    """Undo what one device did in the window below the path `under`; tell of each inode once it is done.

    `may_fetch`: another device is connected, from which contents can come that are not here. What others may
    sweep of what comes back is fetched first; what of that cannot be had is left as it is.
    """
    await volume.publisher.drain()
    run = _undo(volume, author, window, under=under, dry_run=dry_run, may_fetch=may_fetch)
    with volume.replica.naming.begun():
        async with aclosing(run) as found:
            async for step in found:
                yield step


async def _undo(
    volume: Volume, author: str, window: Window, *, under: bytes, dry_run: bool, may_fetch: bool
) -> AsyncGenerator[Step, None]:
    held = [
        inode
        for inode, (whose, at) in volume.replica.tree.brake.holds.all.items()
        if whose == author and window.since <= at <= window.until
    ]
    touched = await _touched(volume, window)
    undoing = _Undoing(volume, window, under, dry_run=dry_run, may_fetch=may_fetch)
    last: list[InodeId] = []
    for inodes, act in ((held, undoing.refuse), (touched, undoing.set_back), (last, undoing.unmake)):
        for start in range(0, len(inodes), INODES_PER_GROUP):
            if inodes is touched and not dry_run:
                await undoing.have(inodes[start : start + INODES_PER_GROUP])
            steps = undoing.group(inodes[start : start + INODES_PER_GROUP], act)
            await trio.lowlevel.checkpoint()
            for step in steps:
                yield step
        if inodes is touched:
            last.extend(undoing.made_by_it())


async def _touched(volume: Volume, window: Window) -> list[InodeId]:
    """The inodes that rows of the window speak of, in the order of the first of them."""
    found: dict[InodeId, None] = {}
    rows = volume.replica.journal.history.since(max(0, window.since - CLOCKS_APART_NS))
    for count, row in enumerate(rows, 1):
        if window.holds(row):
            found[row.inode] = None
        if not count % ROWS_PER_SLICE:
            await trio.lowlevel.checkpoint()
    return list(found)


Act = Callable[[Transaction | None, InodeId], Step | None]
"""Does one inode; without a transaction only says what it would do."""


class _Undoing:
    """One run."""

    def __init__(
        self, volume: Volume, window: Window, under: bytes, *, dry_run: bool, may_fetch: bool
    ) -> None:
        self._volume = volume
        self._tree = volume.replica.tree
        self._window = window
        self._under = under
        self._dry_run = dry_run
        self._may_fetch = may_fetch
        self._browsing = Browsing(volume)
        self._naming = Naming(volume.state)
        self._made: list[tuple[int, InodeId]] = []

    def made_by_it(self) -> list[InodeId]:
        """What the device made and is to go, the deepest first."""
        return [inode for _, inode in sorted(self._made, reverse=True)]

    async def have(self, inodes: Sequence[InodeId]) -> None:
        """Fetch what must be here before it is named again, as far as it can be had."""
        for inode in inodes:
            undoing = self._undoing(inode)
            if undoing is None or not is_below(self._path(undoing.where), self._under):
                continue
            with suppress(ChunkUnavailable):
                for root, size in _named_by(undoing):
                    await self._naming.have(inode, root, size)

    def group(self, inodes: Sequence[InodeId], act: Act) -> list[Step]:
        """A few inodes, in one transaction; what could not be done is told as left."""
        if self._dry_run:
            return [step for inode in inodes if (step := self._one(None, inode, act)) is not None]
        with self._volume.replica.change() as change:
            change.is_unasked = True
            return [step for inode in inodes if (step := self._one(change, inode, act)) is not None]

    def _one(self, change: Transaction | None, inode: InodeId, act: Act) -> Step | None:
        try:
            return act(change, inode)
        except FSError as error:  # it changed nothing (group.py)
            return self._step(Undoing("left", self._named(inode), reason=str(error)), inode)

    def refuse(self, change: Transaction | None, inode: InodeId) -> Step | None:
        """What the brake holds is not shown and in no history: it becomes again what is shown of it."""
        now = self._now(inode)
        where = None if now is None else next(iter(now.names.values()), None)
        size = now.contents[0].size if now is not None and now.contents else 0
        step = self._step(Undoing("refused", where, size), inode)
        if step is not None and change is not None:
            change.group.take_back(inode)
        return step

    def set_back(self, change: Transaction | None, inode: InodeId) -> Step | None:
        """Undo what the device did to one inode; what it made is only noted."""
        undoing = self._undoing(inode)
        if undoing is None:
            return None
        if undoing.kind == "trash":
            depth = len(self._path(undoing.where).split(b"/"))
            self._made.append((depth, inode))
            return None
        step = self._step(undoing, inode)
        if step is None or step.kind == "left":
            return step
        if change is not None:
            self._carry_out(change, inode, undoing)
        return step

    def unmake(self, change: Transaction | None, inode: InodeId) -> Step | None:
        """What the device made goes to the trash, unless something of others is in it."""
        undoing = self._undoing(inode)
        if undoing is None:
            return None
        if undoing.kind == "trash":
            if self._volume.state.contents.peek((inode, None)) is not None:
                undoing = replace(undoing, kind="left", reason=BEING_WRITTEN)
            elif self._tree.kind(inode) is Kind.DIRECTORY and not self._is_emptied(inode):
                undoing = replace(undoing, kind="left", reason=FILLED)
        step = self._step(undoing, inode)
        if step is None or step.kind == "left" or change is None:
            return step
        while found := self._tree.names(inode):
            directory, entry = found[0]
            self._remove(change, directory, entry)
        return step

    def _remove(self, change: Transaction, directory: InodeId, entry: Entry) -> None:
        remove = change.group.rmdir if entry.kind is Kind.DIRECTORY else change.group.unlink
        remove(directory, entry, stamp=self._tree.tick())

    def _is_emptied(self, directory: InodeId) -> bool:
        """Whether nothing is in a directory, or, as long as nothing is done, only what would go."""
        made = {inode for _, inode in self._made} if self._dry_run else set()
        return all(entry.inode in made for entry in self._tree.listing(directory)) and not (
            self._volume.state.local.names((directory,))
        )

    # -- one inode

    def _now(self, inode: InodeId) -> Past | None:
        raw = self._tree.whole(inode)
        return None if raw is None else whole_of(raw)

    def _undoing(self, inode: InodeId) -> Undoing | None:
        begin = self._window.since - CLOCKS_APART_NS
        rows = self._volume.replica.journal.history.of_inode(inode)
        return undoing_of(
            itertools.takewhile(lambda row: row.at >= begin, rows), self._now(inode), self._window
        )

    def _carry_out(self, change: Transaction, inode: InodeId, undoing: Undoing) -> None:
        stamp = self._tree.tick()
        if self._tree.kind(inode) is None and undoing.past is not None:
            self._make_again(change, inode, undoing.past)
            return
        back = undoing.back
        if back.contents:
            wanted = {(one.root, one.size) for one in back.contents}
            theirs = (one for one in self._tree.versions(inode) if one.dot[0] in self._window.slots)
            back = replace(back, replaces=frozenset(one.dot for one in theirs if one.content not in wanted))
        if not back.is_nothing:
            change.group.set_back(inode, back, stamp=stamp)
        for dropped in undoing.drops:
            for directory, entry in self._tree.names(inode):
                if entry.link == dropped.link and entry.dot is None:
                    change.group.unlink(directory, entry, stamp=self._tree.tick())
                    break

    def _make_again(self, change: Transaction, inode: InodeId, past: Past) -> None:
        """Of what was removed long ago nothing but the history may be left."""
        name = next(iter(past.names.values()))
        main = past.contents[0] if past.contents else None
        change.group.create(
            name.parent,
            name.name,
            past.kind,
            inode=inode,
            mode=past.mode or 0,
            owner=past.owner,
            birth=past.birth or 0,
            mtime=past.mtime if past.kind is Kind.DIRECTORY else None,
            version=None if main is None else NewVersion(main.root, main.size, main.mtime, main.node),
            rdev=past.rdev,
            xattrs=past.xattrs,
            stamp=self._tree.tick(),
            revives=True,
        )

    def _step(self, undoing: Undoing, inode: InodeId) -> Step | None:
        """What is told of it; None if it is not below the path that was asked for."""
        path = self._path(undoing.where)
        if not is_below(path, self._under):
            return None
        missing = self._missing(inode, undoing)
        kind, reason = undoing.kind, undoing.reason
        if missing and not self._may_fetch and kind == "content":
            kind, reason = "left", NOWHERE  # what is shown now can be read; what was cannot
        is_to_fetch = self._dry_run and self._may_fetch
        if not is_to_fetch and not all(self._naming.may_name(inode, root) for root, _ in _named_by(undoing)):
            kind, reason = "left", NOWHERE  # others may have swept it
        is_directory = self._tree.kind(inode) is Kind.DIRECTORY
        return Step(kind, path, undoing.size, missing, is_directory, reason)

    def _missing(self, inode: InodeId, undoing: Undoing) -> int:
        """How many bytes of what is to be shown again are not on this device."""
        if self._tree.kind(inode) is not Kind.FILE:
            return 0
        missing = 0
        for content in undoing.back.contents[:1]:
            try:
                parts = self._browsing.presence(Published(content.root, content.size, ()))
                missing = sum(one.length for one in itertools.islice(parts, PARTS_MAX) if not one.is_here)
            except (Damaged, FormatError, ChunkMissing):
                missing = content.size
        return missing

    def _named(self, inode: InodeId) -> PastName | None:
        now = self._now(inode)
        return None if now is None else next(iter(now.names.values()), None)

    def _path(self, where: PastName | None) -> bytes:
        """The path of a name, whether its directories live or not."""
        if where is None:
            return b"?"
        parts, at = [where.name], where.parent
        while at not in (ROOT, LOST_FOUND) and len(parts) < DEPTH_MAX:
            place = self._tree.place(at)
            if place is None:
                at = LOST_FOUND
                break
            at = place[0]
            parts.append(place[1])
        if at == LOST_FOUND:
            parts.append(b"lost+found")
        return b"/".join(reversed(parts))


def _named_by(undoing: Undoing) -> list[tuple[bytes, int]]:
    """Root and size of the contents that come back, of large attributes too."""
    if undoing.past is not None and undoing.past.kind is Kind.SYMLINK:
        return []
    contents = [(one.root, one.size) for one in undoing.back.contents]
    xattrs = {**undoing.back.xattrs, **(undoing.past.xattrs if undoing.past is not None else {})}
    return contents + [(root, 0) for root in roots_of(xattrs)]
