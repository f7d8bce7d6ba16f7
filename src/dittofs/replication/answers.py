"""Answering others that want to sweep: they may, as far as this device is concerned (decision 0030).

An answer says: what you had when you asked is here, and whatever this device may yet publish needs no chunk
that only you hold and nothing you see names. So it waits for edits that build on what is not all here, and
for what was published here out of chunks that were not: somebody must be known to hold all of that.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import structlog
import trio

from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.marking import named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.clock import SECOND_NS
from dittofs.identity.keys import DeviceId
from dittofs.ids import InodeId
from dittofs.journal.answered import answered_at, note_answer
from dittofs.replication import garbage_rounds as rounds
from dittofs.replication.custody import HOLD, Custody
from dittofs.replication.parts import LocalReplica, Retained
from dittofs.replication.wholeness import whole
from dittofs.sync import messages as wire
from dittofs.tree.entry import Change

log = structlog.get_logger()

BORROWED: Final = "borrowed"  # root of a content published here that may be whole nowhere -> `Borrowed`
SETTLED_S: Final = 24 * 3600
"""After that nobody still hears of a version that was replaced at once: sessions end sooner."""
SLICE: Final = 256


class Borrowed(msgspec.Struct, array_like=True, frozen=True):
    """A content that was published here, perhaps out of chunks that were not."""

    size: int
    at: int
    """When, nanoseconds since 1970."""
    inode: InodeId
    bases: list[bytes]
    """What the file had before: who holds that lacks the least."""


_borrowed = msgspec.msgpack.Decoder(Borrowed)
Unsettled = tuple[bytes, Borrowed]


class Answers:
    """What this device owes to others that sweep."""

    def __init__(
        self,
        replica: LocalReplica,
        retained: Retained,
        custody: Custody,
        *,
        device: DeviceId,
        others: Callable[[], Sequence[DeviceId]],
        request: Callable[[DeviceId, Sequence[tuple[bytes, int]]], None],
    ) -> None:
        """`others`: the other members that may hold content. `request` one to hold these, and to say so."""
        self._replica = replica
        self._retained = retained
        self._custody = custody
        self._device = device
        self._others = others
        self._request = request
        self._fresh: set[tuple[DeviceId, bytes]] = set()
        """Who said since it asked us that it holds a content."""
        self._heard: dict[DeviceId, bytes] = {}
        self._whole: set[tuple[bytes, int]] = set()
        self.reasons: dict[DeviceId, str] = {}
        """Why a device has no answer yet."""
        replica.authored.append(self._note)
        custody.on_holds = self._holds

    def _note(self, change: Change) -> None:
        """Within the transaction of a change made here: remember what may be made of borrowed chunks."""
        if not self._others():
            return
        journal, now = self._replica.journal, self._replica.clock.now_ns()
        for inode, root, size, bases in self._retained.made(change):
            named = named_root(root)
            if named is None or (named.kind is ChunkKind.DATA and self._replica.chunks.claim(*named)):
                continue
            journal.put_local(BORROWED, root, rounds.encode(Borrowed(size, now, inode, list(bases))))

    def _holds(self, device: DeviceId, roots: Iterable[bytes]) -> None:
        self._fresh.update((device, root) for root in roots)

    def due(self) -> list[DeviceId]:
        """Who asked and has no answer."""
        settings = self._replica.tree.settings()
        answered = rounds.answers_of(settings, self._device)
        gone = rounds.retired(settings)
        return [
            other
            for other in self._others()
            if other not in gone
            and (name := rounds.round_of(settings, other))
            and name != answered.get(other, b"")
        ]

    def note_unasked(self) -> None:
        """Nobody waits for a device that may only read: should it ever write, what is gone is gone."""
        journal = self._replica.journal
        if answered_at(journal) < journal.history.last_at:
            with journal.transaction():
                note_answer(journal)

    async def give(self) -> None:
        """Answer those that can be answered now. `reasons` says why not."""
        due = self.due()
        self.reasons = {device: why for device, why in self.reasons.items() if device in due}
        if not due:
            self._fresh.clear()
            self._whole.clear()
            return
        settings = self._replica.tree.settings()
        for device in due:
            name = rounds.round_of(settings, device)
            if self._heard.get(device) != name:
                self._heard[device] = name
                self._fresh = {one for one in self._fresh if one[0] != device}
        unsettled = await self._unsettled()
        ready = [device for device in due if self._is_settled(device, unsettled)]
        if not ready:
            return
        await self._forget_holds(ready)
        await self._look_at_bases()
        # From here on nothing awaits: what is true now is what the answer says.
        why = self._why_not()
        if why:
            self.reasons.update(dict.fromkeys(due, why))
            return
        self._commit(ready)

    def _why_not(self) -> str:
        lacking = [one for one in self._retained.bases() if one not in self._whole]
        if lacking:
            return f"{len(lacking)} files that are being written are not all on this device"
        if self._retained.is_naming:
            return "a snapshot is taken here, or something is brought back"
        return "the brake holds changes" if self._retained.holds_back else ""

    def _commit(self, devices: Sequence[DeviceId]) -> None:
        settings = self._replica.tree.settings()
        members = set(self._others())
        known = rounds.answers_of(settings, self._device)
        answers = {one: name for one, name in known.items() if one in members}
        answers.update({one: rounds.round_of(settings, one) for one in devices})
        with self._replica.change() as change:
            change.group.set_setting(rounds.SEEN + self._device.hex(), rounds.encode(answers))
            note_answer(self._replica.journal)
        for device in devices:
            self.reasons.pop(device, None)
        log.info("others may sweep what nothing names", devices=len(devices))

    async def _look_at_bases(self) -> None:
        """Which contents that unpublished edits build on are here altogether."""
        unknown = [one for one in self._retained.bases() if one not in self._whole]
        found = await self._replica.run_blocking(whole, self._replica.chunks, unknown)
        self._whole.update(one for one, is_here in zip(unknown, found, strict=True) if is_here)

    async def forget_whole(self) -> None:
        """Before anything is swept here: what was published here and is whole here needs nobody else."""
        await self._unsettled()

    async def _unsettled(self) -> list[Unsettled]:
        """What was published here and is not whole here. What is whole by now is forgotten."""
        journal, chunks = self._replica.journal, self._replica.chunks
        rows = [(root, _borrowed.decode(value)) for root, value in journal.scan_local(BORROWED, b"")]
        left: list[Unsettled] = []
        for start in range(0, len(rows), SLICE):
            some = rows[start : start + SLICE]
            found = await self._replica.run_blocking(whole, chunks, [(root, one.size) for root, one in some])
            done = [root for (root, _), is_here in zip(some, found, strict=True) if is_here]
            if done:
                await self._replica.run_blocking(chunks.sync)
                with journal.transaction():
                    for root in done:
                        journal.delete_local(BORROWED, root)
            left += [one for one in some if one[0] not in done]
        return left

    def _is_settled(self, device: DeviceId, unsettled: Sequence[Unsettled]) -> bool:
        """Whether somebody is known to hold all of what was published here. If not, one is requested to.

        What the device itself that asks has said counts only if it said so since.
        """
        journal, now = self._replica.journal, self._replica.clock.now_ns()
        gone = rounds.retired(self._replica.tree.settings())
        others = [one for one in self._others() if one not in gone]
        wanted: dict[DeviceId, list[tuple[bytes, int]]] = {}
        for root, one in unsettled:
            if not self._retained.is_live(one.inode, root) and abs(now - one.at) > SETTLED_S * SECOND_NS:
                continue
            holders = {other for other in others if journal.get_local(HOLD, other + root) is not None}
            if not holders - {device} and (device, root) not in self._fresh:
                near = [
                    other
                    for other in others
                    if any(journal.get_local(HOLD, other + base) is not None for base in one.bases)
                ]
                wanted.setdefault((near or [device])[0], []).append((root, one.size))
        for keeper, contents in wanted.items():
            for start in range(0, len(contents), wire.ROOTS_MAX):
                self._request(keeper, contents[start : start + wire.ROOTS_MAX])
        if wanted:
            count = sum(map(len, wanted.values()))
            self.reasons[device] = f"{count} files edited here are not known to be whole anywhere yet"
        return not wanted

    async def _forget_holds(self, devices: Sequence[DeviceId]) -> None:
        """What these devices said of contents that no file has now: they may not hold them any more."""
        journal, tree = self._replica.journal, self._replica.tree
        live = IdFilter(tree.counts().files)
        came: list[Change] = []
        follow = came.append
        self._replica.listeners.append(follow)
        try:
            for number, (_, root, _) in enumerate(self._custody.content.content_roots(), 1):
                _add(live, root)
                if number % SLICE == 0:
                    await trio.lowlevel.checkpoint()
            for device in devices:
                rows = [key for key, _ in journal.scan_local(HOLD, device)]
                for start in range(0, len(rows), SLICE):
                    while came:
                        for _, root, _ in self._custody.content.roots_of(came.pop())[0]:
                            _add(live, root)
                    some = [
                        key for key in rows[start : start + SLICE] if not _is_in(live, key[len(device) :])
                    ]
                    if some:
                        with journal.transaction():
                            for key in some:
                                journal.delete_local(HOLD, key)
                    await trio.lowlevel.checkpoint()
        finally:
            self._replica.listeners.remove(follow)


def _add(live: IdFilter, root: bytes) -> None:
    named = named_root(root)
    if named is not None:
        live.add(named.chunk)


def _is_in(live: IdFilter, root: bytes) -> bool:
    named = named_root(root)
    return named is None or named.chunk in live
