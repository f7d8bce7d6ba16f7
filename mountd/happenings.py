"""What happens in a volume, for whoever listens at the local API. Costs nothing while nobody does."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Final

import structlog

from dittofs.control.events import EventFeed
from dittofs.control.protocol import BrakeEvent, ConflictEvent, Custody, FilesEvent, ProgressEvent
from dittofs.identity.keys import DeviceId
from dittofs.shared_volume import SharedVolume
from dittofs.tree.entry import Change
from mountd.reports import custody_of
from mountd.undoing import held

log = structlog.get_logger()

PATHS_MAX: Final = 100
BRAKE_EVENTS_APART_S: Final = 1.0
"""Of one that is being held: of a new one is told at once."""


class Happenings:
    """Of all volumes."""

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed
        self._conflicts: dict[str, int] = {}
        self._custody: dict[str, Custody] = {}
        self._held: dict[str, dict[str, int]] = {}
        self._braked_at = 0.0

    def follow(self, opened: SharedVolume) -> None:
        """Tell of what happens in a volume, until it is closed."""
        self._conflicts[opened.name] = opened.volume.replica.tree.counts().conflicts
        opened.volume.replica.listeners.append(partial(self._changed, opened))
        opened.peers.on_progress = partial(self._progressed, opened)

    def _changed(self, opened: SharedVolume, change: Change) -> None:
        conflicts = opened.volume.replica.tree.counts().conflicts
        had, self._conflicts[opened.name] = self._conflicts[opened.name], conflicts
        self._braked(opened)
        if not self._feed.listeners:
            return
        count = len(change.names) + sum(effect.kind == "content" for effect in change.effects)
        if count:
            paths = dict.fromkeys(islice(_paths(opened, change), PATHS_MAX))
            device = opened.membership.name(DeviceId(change.via)) if change.via else ""
            shown = tuple(path.decode(errors="replace") for path in paths)
            self._feed.publish(FilesEvent(opened.name, device, count, shown))
        if conflicts > had:
            self._feed.publish(ConflictEvent(opened.name, conflicts))

    def _braked(self, opened: SharedVolume) -> None:
        had = self._held.get(opened.name, {})
        if not had and not opened.volume.replica.tree.brake.holds:
            return
        found = {one.known_as: one for one in held(opened)}
        counts = {name: one.removed + one.rewritten + one.directories for name, one in found.items()}
        self._held[opened.name] = counts
        now = time.monotonic()
        for name, count in counts.items():
            is_due = name not in had or now - self._braked_at > BRAKE_EVENTS_APART_S
            if name not in had:
                log.warning("the brake holds what a device removes or rewrites", device=name)
            if count > had.get(name, 0) and is_due:
                self._braked_at = now
                self._feed.publish(BrakeEvent(found[name]))

    def _progressed(self, opened: SharedVolume) -> None:
        if not self._feed.listeners:
            return
        custody = custody_of(opened.volume, opened.peers)
        if self._custody.get(opened.name) != custody:
            self._custody[opened.name] = custody
            self._feed.publish(ProgressEvent(opened.name, custody))


def _paths(opened: SharedVolume, change: Change) -> Iterator[bytes]:
    """Below the root, of names that show something else and of files with other content."""
    state = opened.volume.state
    for directory, name in change.names:
        yield state.path(directory) + name
    for effect in change.effects:
        if effect.kind == "content":
            for directory, entry in state.replica.tree.names(effect.inode)[:1]:
                yield state.path(directory) + entry.name
