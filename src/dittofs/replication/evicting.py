"""Letting contents go from this device, each when others have just proven that they have it (decision 0089).

1. Intent: this device proves the content to nobody from now on, and who touches one of its chunks keeps that.
2. Proof: enough other devices each make a hash, keyed with a fresh nonce, of the bytes that are to go, and
   count on this device's copy no more. They may let theirs go only with the proof of somebody else.
3. What else here needs a chunk keeps it: other files, what is open or not published.
4. Everybody is told; who cannot hear it will believe nothing of what this device said, when they meet.
5. At one instant: what holds still goes.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from dittofs.chunks.leaving import Leaving
from dittofs.chunks.marking import Named, named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.errors import DiskError, DiskFull, FormatError
from dittofs.ids import InodeId
from dittofs.replication.custody import EVICTED, WHOLE, Item
from dittofs.replication.evidence import Asking
from dittofs.replication.parts import Retained
from dittofs.replication.peers import Peers
from dittofs.replication.pieces import keep_children, present, sharing
from dittofs.replication.session import Session
from dittofs.replication.targets import NOT_HERE, Evicted, Target, batches, going, stay
from dittofs.sync import messages as wire
from dittofs.tree.entry import Change

log = structlog.get_logger()

NAMED_AT_ONCE: Final = 64  # looked at between two requests of others
MANIFESTS_AT_ONCE: Final = 32
DISPUTED_S: Final = 30.0  # so long a publication is waited for that was under way
LOOK_S: Final = 0.05

SHARED: Final = "another file, or a program, has the same content"
PROVEN_FOR_LESS: Final = "fewer other devices have proven it: try again"
BUSY: Final = "something is being published or brought back: try again"


class Evicting:
    """Of one volume on this device. One request at a time."""

    def __init__(
        self, peers: Peers, retained: Retained, why_kept: Callable[[InodeId], str] = lambda _inode: ""
    ) -> None:
        """`why_kept`: why a file's contents must stay whatever others have; empty: they need not."""
        self._peers = peers
        self._replica = peers.replica
        self._retained = retained
        self._intents = peers.intents
        self._asking = Asking(peers)
        self.why_kept = why_kept
        self.on_gone: Callable[[Sequence[InodeId]], None] = lambda _inodes: None
        """Told of which files something went."""
        self._turn = trio.Lock()
        self._came: list[Named] = []
        self._is_following = False
        peers.replica.listeners.append(self._follow)

    async def evict(self, items: Sequence[Item], *, is_forced: bool = False) -> Evicted:
        """Let these contents go, as far as that is safe. `is_forced`: below the number of copies asked for.

        Never without the proof of one other device, whatever is asked.
        """
        gone: list[Item] = []
        kept: list[tuple[Item, str]] = []
        size = 0
        async with self._turn:
            for batch in batches(items, is_forced=is_forced):
                await self._batch(batch)
                for target in batch:
                    found = [(inode, target.root, target.size) for inode in target.inodes]
                    if target.why:
                        kept += [(item, target.why) for item in found]
                    else:
                        gone += found
                        size += target.gone_bytes
        return Evicted(list(dict.fromkeys(gone)), list(dict.fromkeys(kept)), size)

    def refused(self, items: Sequence[Item], *, is_forced: bool = False) -> list[tuple[Item, str]]:
        """Which of them `evict` would keep without asking anybody, and why."""
        found: dict[Item, str] = {}
        for batch in batches(items, is_forced=is_forced):
            self._judge(batch)
            for target in batch:
                if target.why:
                    found.update(((inode, target.root, target.size), target.why) for inode in target.inodes)
        return list(found.items())

    def _judge(self, targets: Sequence[Target]) -> None:
        """What stays whatever others prove."""
        for target in targets:
            target.why = self._why_asked_for(target)
            if not target.why and len(self._peers.holders()) < target.required:
                target.why = self._too_few(target)
            target.why = target.why or self._why_used(target)

    def _why_asked_for(self, target: Target) -> str:
        """Why it stays for the number of copies as it is now, whatever there are; `target` has it then."""
        policy = self._peers.copies.of(target.inodes)
        target.required, target.copies = 1 if target.is_forced else max(1, policy.count or 0), str(policy)
        is_asked_for = policy.wants_all and not target.is_forced
        return "copies = all has every device hold it" if is_asked_for else ""

    async def _batch(self, targets: Sequence[Target]) -> None:
        """`why` of each says in the end whether it went."""
        self._judge(targets)
        roots = [target.root for target in targets if not target.why]
        self._intents.begin(roots)
        is_decided = False
        try:
            await self._look(targets)
            chunks = [chunk for target in going(targets) for chunk in target.here.chunks]
            with self._replica.chunks.garbage.leaving(chunks) as leaving:
                try:
                    await self._settle(targets, leaving)
                    await self._asking.prove(targets)
                    if going(targets):
                        self._came, self._is_following = [], True
                        await self._go(targets, leaving)
                        self._note_forced(targets)
                finally:
                    is_decided = leaving.is_decided
        except (DiskFull, DiskError) as error:
            log.error("contents could not be let go", reason=str(error))
            stay(targets, str(error))
        finally:  # also when who asked has left
            if not is_decided:
                stay(targets, "it was given up")
            self._is_following = False
            self._intents.evictions += 1
            self._intents.end(roots)
            self._tell(targets)

    def _too_few(self, target: Target) -> str:
        others = len(self._peers.holders())
        has = f"only {others} other has" if others == 1 else f"{others or 'no'} others have"
        return f"copies = {target.copies}: so many others would have to hold it, and {has} the volume"

    def _why_used(self, target: Target) -> str:
        return next((why for inode in target.inodes if (why := self.why_kept(inode))), "")

    async def _look(self, targets: Sequence[Target]) -> None:
        """What of them is here."""
        for target in going(targets):
            try:
                target.here = await self._replica.run_blocking(
                    present,
                    self._replica.chunks,
                    target.inodes[0],
                    target.root,
                    target.size,
                    target.start,
                    target.end,
                )
            except FormatError as error:
                target.why = str(error)
            if not target.here.pieces:
                target.why = target.why or NOT_HERE

    async def _settle(self, targets: Sequence[Target], leaving: Leaving) -> None:
        """Wait for publications that began before: what they found here they may name."""
        garbage = self._replica.chunks.garbage
        with trio.move_on_after(DISPUTED_S):
            while garbage.is_disputed(leaving) or self._retained.is_naming:  # noqa: ASYNC110 - two things
                await trio.sleep(LOOK_S)
        if garbage.is_disputed(leaving) or self._retained.is_naming:
            stay(targets, BUSY)
        await self._replica.run_blocking(garbage.locate, leaving)

    # -- going

    async def _go(self, targets: Sequence[Target], leaving: Leaving) -> None:
        """What is proven goes, but for what something else here needs."""
        proven = set(self._intents.go(target.root for target in going(targets)))
        for target in going(targets):
            if target.root not in proven:
                target.why = "another device lets it go now, and this is its copy"
        seen = await self._keep_others(targets, leaving)
        await self._release(targets, leaving, seen)
        # Whoever came meanwhile keeps what he needs. From the last look to the decision nothing awaits.
        while fresh := self._changed(targets, seen):
            await self._keep(fresh, leaving)
            seen.update(fresh)
        for target in going(targets):
            target.gone_bytes = sum(size for chunk, size in target.here.chunks.items() if chunk in leaving)
            if not target.gone_bytes:
                target.why = SHARED
        if going(targets):
            leaving.decide()
            self._intents.evictions += 1
            await self._replica.run_blocking(self._replica.chunks.garbage.evict, leaving)

    def _note_forced(self, targets: Sequence[Target]) -> None:
        """What others ask this device to hold, because too few do, it does not take back."""
        journal = self._replica.journal
        forced = [target for target in going(targets) if target.is_forced]
        if forced:
            with journal.transaction():
                for target in forced:
                    journal.put_local(EVICTED, target.root, b"")

    async def _keep_others(self, targets: Sequence[Target], leaving: Leaving) -> set[Named]:
        """What is shown, staged or open and not to go keeps its chunks. Returns all that was looked at."""
        leave = {target.named: target for target in going(targets)}
        left = {named: self._expected(target) for named, target in leave.items()}
        seen: set[Named] = set()
        some: list[Named] = []
        for number, (named, is_live) in enumerate(self._retained.named(), 1):
            if not is_live:
                break
            if named in left:
                left[named] -= 1
            elif named.kind is not ChunkKind.VERSION and named not in seen:
                seen.add(named)
                some.append(named)
            if len(some) >= NAMED_AT_ONCE:
                await self._keep(some, leaving)
                some = []
            if number % NAMED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        for named, count in left.items():
            if count < 0:
                leave[named].why = leave[named].why or SHARED
                some.append(named)
                seen.add(named)
        some += [target.named for target in targets if target.why and target.here.pieces]
        await self._keep(some, leaving)
        return seen

    def _expected(self, target: Target) -> int:
        """How often the content is named by the files that are to let it go."""
        tree = self._replica.tree
        return sum(one.root == target.root for inode in target.inodes for one in tree.versions(inode))

    async def _keep(self, some: Sequence[Named], leaving: Leaving) -> None:
        for named in some:
            leaving.keep(named.chunk)
        manifests = [named.chunk for named in some if named.kind is ChunkKind.MANIFEST]
        for start in range(0, len(manifests), MANIFESTS_AT_ONCE):
            await self._replica.run_blocking(
                keep_children, self._replica.chunks, manifests[start : start + MANIFESTS_AT_ONCE], leaving
            )

    def _changed(self, targets: Sequence[Target], seen: set[Named]) -> list[Named]:
        """What came, or is in use, since it was looked at; among it what of the targets has to stay."""
        came, self._came = [*self._came, *self._retained.pending()], []
        fresh: list[Named] = [one for one in came if one not in seen]
        for target in going(targets):
            if target.named in came:
                target.why = "it is in use, or has just changed"
            elif self._retained.is_naming:
                target.why = BUSY
            elif not self._stands(target):
                target.why = "a device that had proven it has gone"
            else:
                target.why = self._why_asked_for(target) or self._why_used(target)
                if not target.why and len(target.provers) < target.required:
                    target.why = f"copies = {target.copies} now: {PROVEN_FOR_LESS}"
            if target.why:
                fresh.append(target.named)
        leave = {target.named for target in going(targets)}
        return [one for one in dict.fromkeys(fresh) if one not in leave and one.kind is not ChunkKind.VERSION]

    def _stands(self, target: Target) -> bool:
        """Whether all who have proven it are still there, and count."""
        holders = self._peers.holders()
        return all(one.is_open and one.device in holders for one in target.provers)

    # -- telling

    async def _release(self, targets: Sequence[Target], leaving: Leaving, seen: set[Named]) -> None:
        """Nobody believes any more that this device has what goes, durably, before it goes."""
        journal, replica = self._replica.journal, self._replica
        roots = list(dict.fromkeys(target.root for target in going(targets)))
        others = [
            root
            for root, _ in journal.scan_local(WHOLE, b"")
            if root not in roots and (named := named_root(root)) is not None and named not in seen
        ]
        roots += await replica.run_blocking(sharing, replica.chunks, others, leaving)
        told = [*roots, *(bytes([ChunkKind.DATA]) + chunk for chunk in leaving.chunks())]
        hearing = {session.device: session for session in self._peers.open_sessions}
        deaf = [device for device in self._peers.others if device not in hearing]
        self._peers.custody.behind.note(deaf)
        with journal.transaction():
            for root in roots:
                journal.delete_local(WHOLE, root)
        async with trio.open_nursery() as nursery:
            for session in hearing.values():
                nursery.start_soon(self._released, session, told)
        await replica.run_blocking(journal.sync)

    async def _released(self, session: Session, roots: Sequence[bytes]) -> None:
        questions = self._peers.questions
        for start in range(0, len(roots), wire.ROOTS_MAX):
            number = questions.next_number()
            body = wire.encode_roots(roots[start : start + wire.ROOTS_MAX])
            answer = await questions.ask(session, number, wire.Released(number), body)
            if answer is None:
                self._peers.custody.behind.note([session.device])
                session.end("it did not hear that something goes from here")
                return

    def _tell(self, targets: Sequence[Target]) -> None:
        """Once it is over: what is known of all of it, and to everybody what stays after all."""
        gone = going(targets)
        self._peers.custody.look_again(
            (inode, target.root, target.size) for target in targets for inode in target.inodes
        )
        if gone:
            self.on_gone([inode for target in gone for inode in target.inodes])
        stays = list(dict.fromkeys(target.root for target in targets if target.refusals or target.provers))
        stays = [root for root in stays if root not in {target.root for target in gone}]
        for session in self._peers.open_sessions:
            for start in range(0, len(stays), wire.ROOTS_MAX):
                session.spawn(self._peers.keeping.answer, session, stays[start : start + wire.ROOTS_MAX])

    def _follow(self, change: Change) -> None:
        if self._is_following:
            self._came += self._retained.came(change)
