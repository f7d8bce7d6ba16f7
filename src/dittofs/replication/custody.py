"""Custody: which devices hold all of a content, as far as they have said so and it was durable there.

Kept are the contents of live versions that fewer devices hold than the policy asks; who holds the others is
in rows of the journal and is looked up when somebody asks. After a start the tree is gone through once, in
slices; until then `tally` says that it is still counting.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import structlog
import trio

from dittofs.chunks.marking import named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.errors import DittoError
from dittofs.identity.keys import DeviceId
from dittofs.ids import InodeId
from dittofs.replication.behind import NONCE_BYTES, Behind
from dittofs.replication.copies import Copies
from dittofs.replication.intents import Intents
from dittofs.replication.lonely import PSEUDO, Lonely, LonelyContents, Tally
from dittofs.replication.parts import LiveContent, LocalReplica
from dittofs.replication.wholeness import is_single, whole
from dittofs.tree.entry import Change

log = structlog.get_logger()

HOLD: Final = "hold"  # device id, root -> empty
KEEPER: Final = "keeper"  # device id -> the custody nonce of its store, and how often it told what it holds
WHOLE: Final = "whole"  # root of a content of several chunks that is whole here -> empty
EVICTED: Final = "evicted"  # root of a content that was let go although there are fewer copies than should
NONCE: Final = "custody"
TOLD: Final = "told"
SLICE: Final = 200  # contents looked at between two requests of others
CAME_S: Final = 2.0

Item = tuple[InodeId, bytes, int]


class Custody:
    """What this replica knows. All methods but `run` return at once."""

    def __init__(
        self,
        replica: LocalReplica,
        content: LiveContent,
        intents: Intents,
        *,
        members: Callable[[], Sequence[DeviceId]],
        copies: Copies,
        is_alone: Callable[[], bool],
    ) -> None:
        self._replica = replica
        self.content = content
        """Which contents the tree refers to."""
        self.intents = intents  # what is to go from here
        self.behind = Behind(replica.journal, lambda: self.nonce)
        """Who did not hear what has gone from here."""
        self._members = members
        """The other devices that may hold content."""
        self._is_alone = is_alone
        """Whether there never was another member, retired or not: then all of the tree is here."""
        self._lonely = LonelyContents(copies.of, copies.devices)
        self._came: set[bytes] = set()
        self._became_here: set[bytes] | None = None
        """What became whole while contents are looked at: the look may have been before that."""
        self._queue: deque[Change | Iterator[Item]] = deque()
        self._wake = trio.Event()
        self._must_scan = True
        self._is_idle = False
        self.changed = trio.Event()  # set, and replaced, whenever something is known that was not
        self.on_here: Callable[[Sequence[bytes]], None] = lambda _roots: None
        """Told which contents became whole here; they are durable."""
        self.on_absent: Callable[[Sequence[tuple[bytes, int]]], None] = lambda _contents: None
        """Told which contents came into the tree that are not here."""
        self.on_holds: Callable[[DeviceId, Iterable[bytes]], None] = lambda _device, _roots: None
        """Told what each device says it holds."""
        self.on_lonely: Callable[[Sequence[bytes]], None] = lambda _roots: None
        """Told which contents too few devices are known to hold, when others may know better."""
        replica.listeners.append(self._on_change)

    @property
    def nonce(self) -> bytes:
        """Names this store: when it changes, nobody believes any more what it said it holds.

        It lives as long as the writer: whoever is not proven to have all that the last one wrote, after a
        crash or from a backup, may lack chunks too.
        """
        journal = self._replica.journal
        nonce = journal.get_local(NONCE, b"")
        is_of_writer = journal.get_local(NONCE, b"writer") == self._writer
        return nonce if nonce is not None and is_of_writer else self.renew()

    @property
    def _writer(self) -> bytes:
        return self._replica.tree.client_id.to_bytes(8, "big")

    @property
    def told(self) -> int:
        """How often this store has told what it holds."""
        return int.from_bytes(self._replica.journal.get_local(TOLD, b"") or b"", "big")

    def next_told(self) -> int:
        """The number of what is told next. If it is lost with a crash, others ask again."""
        told = self.told + 1
        with self._replica.journal.transaction():
            self._replica.journal.put_local(TOLD, b"", told.to_bytes(8, "big"))
        return told

    def renew(self) -> bytes:
        """What this store was known to hold may not be here any more, nor what was noted as whole."""
        journal, nonce = self._replica.journal, self._replica.entropy(16)
        with journal.transaction():
            journal.put_local(NONCE, b"", nonce)
            journal.put_local(NONCE, b"writer", self._writer)
            for root, _ in list(journal.scan_local(WHOLE, b"")):
                journal.delete_local(WHOLE, root)
        self.recount()
        return nonce

    # -- what others say

    def met(self, device: DeviceId, nonce: bytes, told: int) -> None:
        """A peer's store: another one than before, or one set back, holds nothing until it says so again."""
        journal = self._replica.journal
        known = journal.get_local(KEEPER, device)
        if known is not None and known[:NONCE_BYTES] == nonce and _number(known) <= told:
            return
        with journal.transaction():
            for key, _ in list(journal.scan_local(HOLD, device)):
                journal.delete_local(HOLD, key)
            journal.put_local(KEEPER, device, nonce + told.to_bytes(8, "big"))
        self.recount()

    def holds(self, device: DeviceId, roots: Iterable[bytes], number: int) -> None:
        """`device` has all of these contents, durably; it says so for the `number`th time."""
        journal = self._replica.journal
        roots = list(roots)
        counts = device in self._members()  # it is kept in mind of a retired one too, for it may rejoin
        with journal.transaction():
            known = journal.get_local(KEEPER, device)
            if known is not None and number > _number(known):
                journal.put_local(KEEPER, device, known[:NONCE_BYTES] + number.to_bytes(8, "big"))
            for root in roots:
                if journal.get_local(HOLD, device + root) is None:
                    journal.put_local(HOLD, device + root, b"")
                lonely = self._lonely.find(root)
                if lonely is not None and counts:
                    lonely.holders |= {device}
                    self._lonely.settle(lonely)
        self.on_holds(device, roots)
        self._signal()

    def released(self, device: DeviceId, roots: Iterable[bytes]) -> None:
        """`device` does not have all of these contents (any more)."""
        journal = self._replica.journal
        gone = [root for root in roots if journal.get_local(HOLD, device + root) is not None]
        if not gone:
            return
        with journal.transaction():
            for root in gone:
                journal.delete_local(HOLD, device + root)
        self.recount()

    def counts_no_more(self, device: DeviceId, items: Sequence[Item]) -> None:
        """`device` lets these contents go, or may: it holds them again when it says so again."""
        journal = self._replica.journal
        gone = [item for item in items if journal.get_local(HOLD, device + item[1]) is not None]
        if gone:
            with journal.transaction():
                for _, root, _ in gone:
                    journal.delete_local(HOLD, device + root)
                    if (lonely := self._lonely.find(root)) is not None:
                        lonely.holders -= {device}
                        self._lonely.settle(lonely)
            self.look_again(gone)

    def look_again(self, items: Iterable[Item]) -> None:
        """What is known of these contents may not be so any more. Each is taken when it is looked at."""
        self._queue.append(iter(items))
        self._wake.set()

    def here(self, roots: Sequence[bytes]) -> None:
        """These contents became whole and durable here."""
        journal = self._replica.journal
        with journal.transaction():
            for root in roots:
                self.is_known_whole(root)  # it is promised, so it is not swept before that is taken back
                if root[0] != ChunkKind.DATA:
                    journal.put_local(WHOLE, root, b"")
                if journal.get_local(EVICTED, root) is not None:
                    journal.delete_local(EVICTED, root)
        if self._became_here is not None:
            self._became_here.update(roots)
        for root in roots:
            lonely = self._lonely.find(root)
            if lonely is not None:
                lonely.is_here = True
                self._lonely.settle(lonely)
        self.on_here(roots)
        self._signal()

    def came(self, root: bytes) -> None:
        """Chunks of a content were fetched because somebody read them. Looked at when there is a pause."""
        self._came.add(root)
        if len(self._came) == 1:
            self._wake.set()

    def recount(self) -> None:
        """Go through the tree again: members, the policy or what somebody holds have changed."""
        self._must_scan = True
        self._wake.set()

    # -- what is known

    @property
    def is_counting(self) -> bool:
        """Whether there are contents that were not looked at since they came, or since members changed."""
        return self._must_scan or bool(self._queue) or not self._is_idle

    def tally(self) -> Tally:
        """The sums over what is lonely, kept up to date as that changes."""
        return self._lonely.tally(is_counting=self.is_counting)

    def lonely(self) -> list[Lonely]:
        """Contents with too few copies now, the oldest first."""
        return self._lonely.all()

    def find(self, root: bytes) -> Lonely | None:
        """The content, if too few devices hold it."""
        return self._lonely.find(root)

    def is_known_whole(self, root: bytes) -> bool:
        """Whether a content is known to be here, without reading any of it.

        If it is, it is not swept in this round of marks: others may be told (decision 0030).
        """
        named = named_root(root)
        if named is None:
            return False
        is_here = self._replica.chunks.claim(*named)
        if named.kind is ChunkKind.DATA:
            return is_here
        return self._replica.journal.get_local(WHOLE, root) is not None

    def _signal(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    # -- following the tree

    def _on_change(self, change: Change) -> None:
        self._queue.append(change)
        self._wake.set()

    async def run(self) -> None:
        """For ever: follow the tree."""
        while True:
            if self._must_scan:
                self._must_scan = False
                await self._scan()
            elif self._queue:
                await self._follow()
            else:
                self._is_idle = True
                self._signal()
                self._wake = trio.Event()
                with trio.move_on_after(CAME_S if self._came else math.inf) as resting:
                    await self._wake.wait()
                self._is_idle = False
                if resting.cancelled_caught:
                    await self._look_at_what_came()

    async def _look_at_what_came(self) -> None:
        """Programs read what was elsewhere: some of it may be whole here now."""
        came, self._came = self._came, set()
        found = [one for root in came if (one := self._lonely.find(root)) is not None and not one.is_here]
        items = [(inode, one.root, one.size) for one in found for inode in one.inodes]
        for start in range(0, len(items), SLICE):
            await self._examine(items[start : start + SLICE], is_live=True)

    async def _scan(self) -> None:
        self._lonely.clear()
        if self._is_alone():
            return
        some: list[Item] = []
        for item in self.content.content_roots():
            some.append(item)
            if len(some) >= SLICE:
                await self._examine(some, is_live=False)
                some = []
            if self._must_scan:
                return
        await self._examine(some, is_live=False)

    async def _follow(self) -> None:
        if self._is_alone():
            self._queue.clear()
            return
        came: list[Item] = []
        is_live = True
        while self._queue and len(came) < SLICE:
            one = self._queue.popleft()
            if isinstance(one, Change):
                arrived, went = self.content.roots_of(one)
                for inode, root, _ in went:
                    self._lonely.went(inode, root)
                    came = [item for item in came if item[0] != inode or root not in (b"", item[1])]
                if one.is_round or len(arrived) > SLICE:
                    self._queue.appendleft(iter(arrived))
                else:
                    came.extend(arrived)
            elif some := list(islice(one, SLICE)):
                self._queue.appendleft(one)
                is_live = False  # many at once: whoever holds them says so when asked
                came += [item for item in some if item[0][0] == PSEUDO or self.content.is_live(*item[:2])]
        await self._examine(came, is_live=is_live)

    async def _examine(self, items: Sequence[Item], *, is_live: bool) -> None:
        """See who holds these contents. Tell of those that are whole here, or ask about the lonely ones."""
        await trio.lowlevel.checkpoint()
        if not items:
            return
        meanwhile: set[bytes] = set()
        self._became_here, evictions = meanwhile, self.intents.evictions
        here = await self._whole_here({root: size for _, root, size in items})
        self._became_here = None
        here.update(dict.fromkeys(meanwhile & here.keys(), True))
        if evictions != self.intents.evictions:
            self._queue.appendleft(iter(items))  # what was here may have gone meanwhile
            return
        members = self._members()
        became: list[bytes] = []
        absent: list[tuple[bytes, int]] = []
        told: set[bytes] = set()
        journal = self._replica.journal
        for inode, root, size in items:
            lonely = self._lonely.find(root)
            if lonely is None:
                holders = frozenset(one for one in members if journal.get_local(HOLD, one + root) is not None)
                lonely = Lonely(root, size, (), here[root], holders)
            lonely.is_here = here[root]
            self._lonely.came(inode, lonely)
            if root not in told:
                told.add(root)
                (became.append(root) if here[root] else absent.append((root, size)))
        if is_live and became:
            try:
                await self._replica.run_blocking(self._replica.chunks.sync)
            except DittoError as error:
                log.error("what is here could not be made durable", reason=str(error))
            else:
                self.on_here([root for root in became if root not in self.intents])
        elif not is_live:
            self.on_lonely([root for root in told if self._lonely.find(root) is not None])
        self.on_absent(absent)
        self._signal()

    async def _whole_here(self, contents: dict[bytes, int]) -> dict[bytes, bool]:
        """Which of these contents are whole here: one chunk is looked up, several are noted or walked."""
        store, journal = self._replica.chunks, self._replica.journal
        found: dict[bytes, bool] = {}
        unknown: list[tuple[bytes, int]] = []
        for root, size in contents.items():
            if root in self.intents:
                found[root] = False  # it is looked at again when it has gone, or stays
                continue
            try:
                is_one = is_single(root, size)
            except DittoError:
                found[root] = False
                continue
            if is_one:
                found[root] = whole(store, [(root, size)])[0]
            elif journal.get_local(WHOLE, root) is not None:
                found[root] = True
            else:
                unknown.append((root, size))
        if unknown:
            answers = await self._replica.run_blocking(whole, store, unknown)
            found.update({root: answer for (root, _), answer in zip(unknown, answers, strict=True)})
            noted = [root for (root, _), answer in zip(unknown, answers, strict=True) if answer]
            if noted:
                try:
                    await self._replica.run_blocking(store.sync)  # the rows must not outlive what they say
                except DittoError as error:
                    log.error("what is here could not be made durable", reason=str(error))
                    return found
                with journal.transaction():
                    for root in noted:
                        journal.put_local(WHOLE, root, b"")
        return found


def _number(keeper: bytes) -> int:
    return int.from_bytes(keeper[NONCE_BYTES:], "big")
