"""The brake: what one device removes or rewrites in a mass is shown as it was, until somebody decides.

It is a filter of the view, never a hole in a document: documents, journal and acknowledgements go on as
always, and only the index is given other records of the held inodes (holds.py) than the documents have. So
the index stays a pure function of the documents and of what is held. Nothing that is done here is ever held.

Every destruction is noted at a cost that does not grow, with what was shown before; if so many meet in one
window of time, by the clock of whoever made them, all of the window are taken back in the index.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.tree import encoding
from dittofs.tree.documents import Documents
from dittofs.tree.effects import effects_of
from dittofs.tree.entry import Effect
from dittofs.tree.epochs import renamed
from dittofs.tree.hlc import Clock
from dittofs.tree.holds import Hold, Holds, decoded, encoded
from dittofs.tree.join import join_all
from dittofs.tree.losses import Loss, content_of, is_over, loss_of, records_of
from dittofs.tree.placement import Placement
from dittofs.tree.record import NEVER, Kind, Record, key_of, shard_of
from dittofs.tree.rows import Inode, Rows
from dittofs.tree.rules import meaning_of
from dittofs.tree.setting_back import difference_back, set_back
from dittofs.tree.writing import Writing

WHO: Final = "another device"
"""Of a held inode of which nothing else is known any more."""
UNTOUCHED: Final = 0
"""A time that moves no directory's own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a volume one device may remove or rewrite before it is held."""

    is_on: bool = True
    share: float = 0.25
    """Of the files of the volume."""
    files_max: int = 1_000
    """So many are held whatever their share."""
    files_min: int = 20
    """Fewer are never held, however small the volume is."""
    window_ns: int = 60 * 1_000_000_000

    def of(self, files: int) -> int:
        """How many files are too many where there are `files`."""
        return min(self.files_max, max(self.files_min, math.ceil(self.share * files)))


@dataclass(slots=True)
class _Recent:
    """Of one device."""

    losses: dict[InodeId, Loss] = field(default_factory=dict)
    held: list[Stamp] = field(default_factory=list)
    """When it made the latest of those that are held: they still count."""


@dataclass(frozen=True, slots=True)
class HeldNow:
    """An inode that was taken back in the index just now."""

    before: Inode
    after: Inode
    is_fresh: bool
    """`before` is what it was before the present delivery, whose effects on it nobody sees."""


class Brake:
    """See the module. Part of a `Tree`; what it changes is undone with the store's transaction."""

    def __init__(
        self,
        rows: Rows,
        documents: Documents,
        placement: Placement,
        clock: Clock,
        holds: Holds,
        *,
        key: Callable[[Slot], str],
        label: Callable[[Slot], str],
        is_own: Callable[[Slot], bool],
    ) -> None:
        self.limits = Limits(is_on=False)
        self.was_shown: Callable[[InodeId, bytes, int], bool] = lambda _inode, _root, _size: False
        """Whether a content (root, size) of an inode was replaced before: going back to it is no loss."""
        self.holds = holds
        self._rows = rows
        self._documents = documents
        self._placement = placement
        self._clock = clock
        self._key = key
        self._label = label
        self._is_own = is_own
        self._recent: dict[str, _Recent] | None = None
        self._noted: dict[InodeId, str] = {}
        """Of each inode in a window the device."""
        self._due: set[str] = set()
        """Devices with losses in the present delivery."""

    def forget(self) -> None:
        """Drop what is cached: the store was rolled back."""
        self.holds.forget()
        self._recent = None
        self._noted.clear()
        self._due.clear()

    # -- what arrives from elsewhere

    def note(self, before: Inode, after: Inode, writer: Slot) -> None:
        """The records of an inode that is not held changed by a delivery; by `writer`, as far as is known."""
        loss = loss_of(before, after, writer)
        whose = self._noted.get(before.id)
        if whose is not None:
            is_as_it_was = content_of(after) == self._of(whose).losses[before.id].content is not None
            if is_as_it_was or (loss is None and self._key(writer) != whose):
                self.changed(before.id)
        if loss is None or (whose is not None and before.id not in self._noted):
            return
        slot, stamp, is_removal = loss
        if self._is_own(slot) or not self.limits.is_on:
            self.changed(before.id)
            return
        device = self._key(slot)
        if self._noted.get(before.id, device) != device:
            self.changed(before.id)  # what several devices did to it is nobody's batch
            return
        losses = self._of(device).losses
        known = losses.get(before.id)
        if known is None or stamp - known.first > self.limits.window_ns:
            is_directory = after.record is not None and after.record.kind is Kind.DIRECTORY
            known = Loss(
                slot,
                stamp,
                stamp,
                is_removal,
                is_directory,
                encoded(records_of(before)),
                content_of(before),
                False,
                before,
            )
            losses[before.id] = known
        else:
            known.stamp, known.is_removal = max(stamp, known.stamp), is_removal
            known.is_looked_up = False
        self._noted[before.id] = device
        self._due.add(device)

    def changed(self, inode: InodeId) -> None:
        """Somebody else changed an inode, or it was changed here: it is not part of a batch."""
        device = self._noted.pop(inode, None)
        if device is not None:
            self._of(device).losses.pop(inode, None)

    def follow(self, inode: InodeId, records: Mapping[str, Record]) -> dict[str, Record] | None:
        """The documents say something else of a held inode: that is not shown.

        Returns all its records, by link, if nothing is lost by them any more: it is not held from now on.
        """
        hold = self.holds.get(inode)
        assert hold is not None
        fresh = msgspec.structs.replace(hold, known={**hold.known, **encoded(records)})
        if self._is_over(inode, fresh):
            self._let_go(inode, hold)
            return decoded(fresh.known)
        if fresh != hold:
            self.holds.put(inode, fresh)
        return None

    def over(self) -> list[InodeId]:
        """The held inodes of which nothing is lost any more by what the documents had last."""
        found = ((inode, self.holds.get(inode)) for inode in list(self.holds.all))
        return [inode for inode, hold in found if hold is not None and self._is_over(inode, hold)]

    def _is_over(self, inode: InodeId, hold: Hold) -> bool:
        known = decoded(hold.known)
        now = meaning_of(known.pop(""), known, self._rows.has_seen)
        # Who writes to a file that was removed has it as it was. What was rewritten may be lost to him, too.
        is_known_removal = hold.is_removal and hold.device != WHO
        return is_over(
            self._rows.inode(inode).meaning,
            now,
            lambda slot: is_known_removal and not self._is_by(hold.device, slot),
        )

    def _is_by(self, device: str, slot: Slot) -> bool:
        # A row from before its writer said which device it is of has the label.
        return not self._is_own(slot) and device in (self._key(slot), self._label(slot))

    def settle(self) -> list[HeldNow]:
        """A delivery has been taken: take back what was too much, in the index."""
        held: list[HeldNow] = []
        for device in sorted(self._due):
            recent = self._of(device)
            for inode in self._excess(recent):
                held.append(self._hold(inode, device, recent.losses.pop(inode)))
                del self._noted[inode]
            self._expire(recent)
        self._due.clear()
        return held

    def _of(self, device: str) -> _Recent:
        if self._recent is None:
            self._recent = {}
            for whose, stamp in self.holds.all.values():
                self._recent.setdefault(whose, _Recent()).held.append(stamp)
        return self._recent.setdefault(device, _Recent())

    def _excess(self, recent: _Recent) -> list[InodeId]:
        """What lies in a window with too many files."""
        line, limit = self._line(recent)
        if not line:
            return []
        for inode, loss in list(recent.losses.items()):
            if not loss.is_looked_up:
                loss.is_looked_up = True
                content = None if loss.is_removal else content_of(self._rows.inode(inode))
                if content is not None and self.was_shown(inode, *content):
                    self.changed(inode)
        line, limit = self._line(recent)
        excess: list[InodeId] = []
        left, count, taken = 0, 0, 0
        for right, (stamp, _, is_file) in enumerate(line):
            count += is_file
            while stamp - line[left][0] > self.limits.window_ns:
                count -= line[left][2]
                left += 1
            if count >= limit:
                excess += [inode for _, inode, _ in line[max(left, taken) : right + 1] if inode is not None]
                taken = right + 1
        return excess

    def _line(self, recent: _Recent) -> tuple[list[tuple[Stamp, InodeId | None, bool]], int]:
        """When what was lost, and whether it was a file, in order; empty if it cannot be too much."""
        gone = sum(loss.is_removal and not loss.is_directory for loss in recent.losses.values())
        limit = self.limits.of(self._rows.totals.files + gone)
        files = sum(not loss.is_directory for loss in recent.losses.values())
        if files + len(recent.held) < limit:
            return [], limit
        line: list[tuple[Stamp, InodeId | None, bool]] = [
            *((stamp, None, True) for stamp in recent.held),
            *((loss.stamp, inode, not loss.is_directory) for inode, loss in recent.losses.items()),
        ]
        line.sort(key=lambda one: (one[0], one[1] or ""))
        return line, limit

    def _expire(self, recent: _Recent) -> None:
        """Forget what no later loss can share a window with, as long as clocks agree."""
        latest = max((loss.stamp for loss in recent.losses.values()), default=NEVER)
        now = max(latest, *recent.held) if recent.held else latest
        for inode, loss in list(recent.losses.items()):
            loss.before = None
            if now - loss.stamp > self.limits.window_ns:
                del recent.losses[inode]
                self._noted.pop(inode, None)
        recent.held = sorted(recent.held)[-self.limits.files_max :]

    def _hold(self, inode: InodeId, device: str, loss: Loss) -> HeldNow:
        rows = self._rows
        found = rows.inode(inode)
        assert found.record is not None
        known = {"": found.record, **found.links}
        was = decoded(loss.shown) if loss.before is None else records_of(loss.before)
        shown = {
            # As if it had seen all, so that no save onto it becomes incomplete by its being held.
            link: replace(record, context=dict(known[link].context))
            for link, record in was.items()
        }
        for forward in known[""].forwards:
            if forward not in shown[""].forwards:
                rows.set_awaiting(forward.target, inode, False)
        shown = {**known, **shown}
        raw = encoded(shown)
        if not loss.is_directory:
            self._of(device).held.append(loss.stamp)
        before, after = self._placement.update(inode, shown, raw, UNTOUCHED)
        meaning = after.meaning
        size = meaning.main.version.size if meaning is not None and meaning.main is not None else 0
        what = (device, loss.slot, loss.stamp, loss.is_removal, loss.is_directory, size)
        self.holds.put(inode, Hold(*what, raw, encoded(known)))
        return HeldNow(loss.before or before, after, loss.before is not None)

    # -- deciding

    def release(self, inode: InodeId, now: int) -> Iterator[Effect]:
        """Show an inode as the documents have it."""
        hold = self.holds.get(inode)
        if hold is None:
            return
        records = self.truth(inode, hold)
        self._let_go(inode, hold)
        before, after = self._placement.update(inode, records, encoded(records), now)
        stamp = max(record.latest for record in records.values())
        changed = [(before, after), *self._placement.take_awaited()]
        for one, other in changed:
            yield from effects_of(one, other, stamp, Slot(hold.slot))

    def _let_go(self, inode: InodeId, hold: Hold) -> None:
        """It is not held from now on, and does not count any more."""
        self.holds.delete(inode)
        if self._recent is not None and hold.device in self._recent and not hold.is_directory:
            held = self._recent[hold.device].held
            if hold.stamp in held:
                held.remove(Stamp(hold.stamp))

    def take_back(self, writing: Writing, inode: InodeId) -> None:
        """Make an inode again what is shown of it, for everybody; what others than the device did stays."""
        hold = self.holds.get(inode)
        if hold is None:
            return
        shown = self._rows.inode(inode)
        writing.tell(self.release(inode, UNTOUCHED))
        now = self._rows.inode(inode)
        back = difference_back(shown, now, lambda slot: self._is_by(hold.device, slot))
        if not back.is_nothing:
            set_back(writing, inode, back, self._clock.tick())

    def truth(self, inode: InodeId, hold: Hold | None = None) -> dict[str, Record]:
        """The joined records of a held inode, by link; those last known if the documents have none."""
        hold = hold or self.holds.get(inode)
        assert hold is not None
        shard = self._documents.shard(shard_of(inode))
        records = {}
        for link, raw in hold.known.items():
            values = shard.get_slots(key_of(inode, link)).values()
            records[link] = (
                join_all(map(encoding.decode, values))
                if values
                else encoding.decode(raw, encoding.JOINED_BYTES_MAX)
            )
        return records

    def hold_again(self, inode: InodeId) -> bool:
        """The row of a held inode was lost: make it of what the index shows. False: it hides nothing."""
        self.holds.forget()
        found = self._rows.inode(inode)
        if found.record is None:
            return False
        shown = {"": found.record, **found.links}
        raw = encoded(shown)
        hold = Hold(WHO, self._documents.slot, found.latest, True, False, 0, raw, raw)
        known = self.truth(inode, hold)
        if encoded(known) == raw:
            return False
        is_directory = found.record.kind is Kind.DIRECTORY
        self.holds.put(inode, msgspec.structs.replace(hold, is_directory=is_directory, known=encoded(known)))
        return True

    # -- an index made anew, a writer called otherwise

    def by_shard(self) -> dict[int, dict[InodeId, dict[str, Record]]]:
        """What is shown of every held inode."""
        found: dict[int, dict[InodeId, dict[str, Record]]] = {}
        for inode, shown in self.holds.shown():
            found.setdefault(shard_of(inode), {})[inode] = shown
        return found

    def rename(self, names: Mapping[Slot, Slot]) -> None:
        """Slots are called otherwise from now on."""
        for inode in list(self.holds.all):
            hold = self.holds.get(inode)
            assert hold is not None
            shown, known = (
                encoded({link: renamed(one, names) for link, one in decoded(raw).items()})
                for raw in (hold.shown, hold.known)
            )
            slot = names.get(Slot(hold.slot), Slot(hold.slot))
            self.holds.put(inode, msgspec.structs.replace(hold, slot=slot, shown=shown, known=known))

    def speaking_of(self, needles: Iterable[bytes]) -> set[InodeId]:
        """The held inodes whose records hold one of `needles`."""
        wanted = list(needles)
        found = set()
        for inode in self.holds.all:
            hold = self.holds.get(inode)
            raw = [*hold.known.values(), *hold.shown.values()] if hold is not None else []
            if any(needle in one for needle in wanted for one in raw):
                found.add(inode)
        return found
