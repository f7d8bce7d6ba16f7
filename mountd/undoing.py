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
from dittofs.errors import ConfigError
from dittofs.history.undo import Window
from dittofs.history.undoing import labels, slots_of, undo
from dittofs.ids import Stamp
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from dittofs.tree.record import STAMP_END
from dittofs.volume.braking import accept, held_of, reject
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
        device = _device(opened, request.device)
        until = STAMP_END if request.until_ns < 0 else request.until_ns
        window = Window(slots_of(opened.volume, device), Stamp(request.since_ns), Stamp(until))
        is_reachable = bool(opened.peers.open_sessions)
        names = components(path_bytes(request))
        is_any = False
        steps = undo(
            opened.volume,
            device,
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
        yield UndoDone(opened.name, device, request.dry_run, is_reachable)

    async def brake(self, request: BrakeRequest) -> AsyncGenerator[BrakeItem, None]:
        """See `Service.brake`."""
        opened = self._node.require_open(request.volume)
        device = request.device and _device(opened, request.device, is_held=True)
        batches = tuple(held(opened, device, with_paths=request.paths))
        for batch in batches:
            yield batch
        if request.action != "list" and not request.dry_run and batches:
            if request.action == "reject":
                _require_writer(opened)
            total = len(held_of(opened.volume.replica, device))
            decide = accept if request.action == "accept" else reject
            told = time.monotonic()
            done = decide(opened.volume.replica, device)
            async with aclosing(done):
                async for count in done:
                    if time.monotonic() - told > PROGRESS_S:
                        told = time.monotonic()
                        yield BrakeProgress(count, total)
            replica = opened.volume.replica
            await replica.run_blocking(replica.journal.sync)
        yield BrakeDone(opened.name, request.action, batches, request.dry_run)


def held(opened: SharedVolume, device: str = "", *, with_paths: bool = False) -> Iterator[HeldBatch]:
    """What the brake holds in a volume, device by device."""
    tree, called = opened.volume.replica.tree, opened.volume.replica.writers.called
    for one in tree.brake.holds.tally():
        if device in ("", called(one.device)):
            paths: tuple[str, ...] = ()
            if with_paths:
                found = (
                    tree.names(inode)[:1] for inode in held_of(opened.volume.replica, called(one.device))
                )
                named = itertools.islice((names[0] for names in found if names), PATHS_MAX)
                state = opened.volume.state
                paths = tuple(
                    sorted(
                        (state.path(above) + entry.name).decode(errors="replace") for above, entry in named
                    )
                )
            yield HeldBatch(
                opened.name,
                called(one.device),
                one.removed,
                one.rewritten,
                one.directories,
                one.bytes,
                one.first,
                one.last,
                paths,
            )


def _require_writer(opened: SharedVolume) -> None:
    if gone := outside(opened, "forbidden"):
        raise gone
    reason = opened.volume.replica.not_allowed
    if reason is not None:
        mend = f"Run it on a device that may write:  dittofs devices {shlex.quote(opened.name)}"
        raise Refusal("forbidden", f"{reason}; nothing was changed", mend)


def label_of(opened: SharedVolume, text: str) -> str:
    """What the device is called that `text` means: that name, or the beginning of its id.

    Empty if nobody is called that.
    """
    if not text or text in labels(opened.volume):
        return text
    try:
        return opened.find_member(text).name
    except ConfigError:
        return ""


def unknown_device(opened: SharedVolume, text: str) -> Refusal:
    """What is said of a device that nobody has heard of."""
    there = ", ".join(labels(opened.volume)) or "none"
    what = f'no device has written here that is called "{text}"; there are: {there}. Nothing was done'
    return Refusal("not_found", what, "dittofs devices")


def _device(opened: SharedVolume, text: str, *, is_held: bool = False) -> str:
    """As `label_of`; refuses ("not_found") who has not written here, or of whom nothing is held."""
    known = labels(opened.volume)
    if is_held:
        replica = opened.volume.replica
        known = [replica.writers.called(one.device) for one in replica.tree.brake.holds.tally()]
    name = text if text in known else label_of(opened, text)
    if name in known:
        return name
    if not is_held:
        raise unknown_device(opened, text)
    there = ", ".join(known) or "none"
    what = f'nothing is held of a device called "{text}"; there are: {there}. Nothing was done'
    raise Refusal("not_found", what, f"dittofs brake list {shlex.quote(opened.name)}")
