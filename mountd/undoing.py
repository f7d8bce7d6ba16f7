"""`dittofs undo` and `dittofs brake`, answered."""

import itertools
import shlex
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

from dittofs.control.faults import Refusal
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.control.undoing import (
    BrakeDone,
    BrakeItem,
    BrakeProgress,
    BrakeRequest,
    HeldBatch,
    UndoDone,
    UndoItem,
    UndoRequest,
    UndoStep,
)
from dittofs.history.undo import Window
from dittofs.history.undoing import slots_of, undo
from dittofs.ids import Stamp
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from dittofs.tree.record import STAMP_END
from dittofs.volume.braking import accept, held_of, reject
from mountd.authors import author, authors_of, held_author
from mountd.known_paths import require_known
from mountd.outsider import outside

PATHS_MAX: Final = 100
PROGRESS_S: Final = 0.5


class UndoDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def undo(self, request: UndoRequest) -> AsyncGenerator[UndoItem, None]:
        """See `Service.undo`."""
        opened = self._node.require_open(request.volume)
        if not request.dry_run:
            _require_writer(opened)
        whose = author(opened, request.device)
        until = STAMP_END if request.until_ns < 0 else request.until_ns
        window = Window(slots_of(opened.volume, whose), Stamp(request.since_ns), Stamp(until))
        is_reachable = bool(opened.peers.open_sessions)
        names = components(path_bytes(request))
        is_any = False
        steps = undo(
            opened.volume,
            whose,
            window,
            under=b"/".join(names),
            dry_run=request.dry_run,
            may_fetch=is_reachable,
        )
        async with aclosing(steps):
            async for step in steps:
                is_any = True
                yield UndoStep(
                    step.kind,
                    size=step.size,
                    missing=step.missing,
                    is_directory=step.is_directory,
                    reason=step.reason,
                    **path_fields(step.path),
                )
        if not is_any:
            require_known(opened.volume, names)
        called = opened.volume.replica.writers.called(whose)
        yield UndoDone(opened.name, called, request.dry_run, is_reachable)

    async def brake(self, request: BrakeRequest) -> AsyncGenerator[BrakeItem, None]:
        """See `Service.brake`."""
        opened = self._node.require_open(request.volume)
        whose = request.device and held_author(opened, request.device)
        batches = tuple(held(opened, whose, with_paths=request.paths))
        for batch in batches:
            yield batch
        if request.action != "list" and not request.dry_run and batches:
            if request.action == "reject":
                _require_writer(opened)
            total = len(held_of(opened.volume.replica, whose))
            decide = accept if request.action == "accept" else reject
            told = time.monotonic()
            done = decide(opened.volume.replica, whose)
            async with aclosing(done):
                async for count in done:
                    if time.monotonic() - told > PROGRESS_S:
                        told = time.monotonic()
                        yield BrakeProgress(count, total)
            replica = opened.volume.replica
            await replica.run_blocking(replica.journal.sync)
        yield BrakeDone(opened.name, request.action, batches, request.dry_run)


def held(opened: SharedVolume, whose: str = "", *, with_paths: bool = False) -> Iterator[HeldBatch]:
    """What the brake holds in a volume, device by device; of one, by its key, or of all."""
    replica = opened.volume.replica
    batches = [one for one in replica.tree.brake.holds.tally() if whose in ("", one.device)]
    authors = authors_of(opened) if batches else None
    for one in batches:
        assert authors is not None
        yield HeldBatch(
            opened.name,
            replica.writers.called(one.device),
            one.removed,
            one.rewritten,
            one.directories,
            one.bytes,
            one.first,
            one.last,
            _paths(opened, one.device) if with_paths else (),
            authors.known_as(one.device),
        )


def _paths(opened: SharedVolume, whose: str) -> tuple[str, ...]:
    """Where the first of what is held of a device lies."""
    tree, state = opened.volume.replica.tree, opened.volume.state
    found = (tree.names(inode)[:1] for inode in held_of(opened.volume.replica, whose))
    named = itertools.islice((names[0] for names in found if names), PATHS_MAX)
    paths = ((state.path(above) + entry.name).decode(errors="replace") for above, entry in named)
    return tuple(sorted(paths))


def _require_writer(opened: SharedVolume) -> None:
    if gone := outside(opened, "forbidden"):
        raise gone
    reason = opened.volume.replica.not_allowed
    if reason is not None:
        mend = f"Run it on a device that may write:  dittofs devices {shlex.quote(opened.name)}"
        raise Refusal("forbidden", f"{reason}; nothing was changed", mend)
