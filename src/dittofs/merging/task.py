"""Conflicts that the volume's rules can end by themselves: watched for, and ended once nobody is at the file.

Every device may do it, those that wrote one of the versions at once and the others later: all make the same
version, which then is shown once. What a rule cannot end stays as it is, until something about it changes.
"""

import errno
import math
from collections.abc import Sequence
from typing import Final

import structlog
import trio

from dittofs.errors import ChunkMissing, ChunkUnavailable, Damaged, DittoError, FSError
from dittofs.ids import InodeId, Slot
from dittofs.merging.merge import Merging, NotMerged
from dittofs.merging.policy import PREFIX, Policies, rules_in
from dittofs.tree.entry import Change
from dittofs.tree.record import META_SHARD, Dot, Version
from dittofs.volume.volume import Volume

log = structlog.get_logger()

SETTLE_S: Final = 1.0  # after the last change: who saves often is not merged each time
BUSY_S: Final = 5.0
OTHERS_S: Final = 60.0  # before a device ends a conflict of which it wrote no side
RETRY_S: Final = 300.0


class Merger:
    """Of one volume. `run` must be running."""

    def __init__(self, volume: Volume, merging: Merging) -> None:
        self._volume = volume
        self._tree = volume.replica.tree
        self._writers = volume.replica.writers
        self._merging = merging
        self._due: dict[InodeId, float] = {}
        """Files to look at, and when."""
        self._given_up: dict[InodeId, frozenset[Dot]] = {}
        """The versions that cannot be joined."""
        self._waited: dict[InodeId, frozenset[Dot]] = {}
        """The versions of others that were left to them first."""
        self._wake = trio.Event()
        self._policies = Policies()
        self._rules: object = None
        self._begins_anew = True
        volume.replica.listeners.append(self._follow)

    async def run(self) -> None:
        """For ever."""
        while True:
            wait_s = min(self._due.values(), default=math.inf) - trio.current_time()
            if wait_s > 0 and not self._begins_anew:
                self._wake = trio.Event()
                with trio.move_on_after(wait_s):
                    await self._wake.wait()
            await self.step(trio.current_time())

    async def step(self, now: float) -> None:
        """Look at what is due by then."""
        if self._begins_anew:
            self._begins_anew = False
            self._note_all()
        for inode in [one for one, due in self._due.items() if due <= now]:
            self._due.pop(inode, None)
            await self._look_at(inode)
            await trio.lowlevel.checkpoint()

    def _is_by(self, device: str, slot: Slot) -> bool:
        # A rule from before its device was known by more than a name has what that called itself.
        return device in (self._writers.key(slot), self._writers.label(slot))

    def look_again(self) -> None:
        """A device connected, or a rule changed: every conflict has its turn again."""
        self._begins_anew = True
        self._wake.set()

    def _note_all(self) -> None:
        self._given_up.clear()
        for directory in self._tree.conflicted():
            for name in self._tree.asides(directory):
                entry = self._tree.lookup(directory, name)
                if entry is not None and entry.dot is not None:
                    self._note(entry.inode, 0.0)

    def _follow(self, change: Change) -> None:
        for effect in change.effects:
            if effect.kind == "content" and len(self._tree.versions(effect.inode)) > 1:
                self._note(effect.inode, SETTLE_S)
        may_be_ruled = change.is_round or any(shard == META_SHARD for shard, _, _ in change.updates)
        if may_be_ruled and self._rules is not None and self._read_rules() != self._rules:
            self._rules = None
            self.look_again()

    def _note(self, inode: InodeId, after_s: float) -> None:
        self._due[inode] = trio.current_time() + after_s
        self._wake.set()

    def _read_rules(self) -> object:
        return {name: value for name, value in self._tree.settings().items() if name.startswith(PREFIX)}

    async def _look_at(self, inode: InodeId) -> None:
        versions = self._merging.versions(inode)
        dots = frozenset(version.dot for version in versions)
        replica = self._volume.replica
        if len(versions) < 2:
            self._given_up.pop(inode, None)
            self._waited.pop(inode, None)
            return
        if self._given_up.get(inode) == dots or replica.not_allowed is not None:
            return
        if replica.read_only is not None:
            self._note(inode, RETRY_S)
            return
        try:
            await self._end(inode, versions, dots)
        except NotMerged as reason:
            log.debug("versions are not merged", reason=str(reason))
            self._given_up[inode] = dots
        except (ChunkUnavailable, ChunkMissing, Damaged) as error:
            log.info("versions cannot be merged now", reason=str(error))
            self._note(inode, RETRY_S)
        except DittoError as error:
            is_busy = isinstance(error, FSError) and error.errno == errno.EBUSY
            if not is_busy:
                log.warning("versions could not be merged", reason=str(error))
            self._note(inode, BUSY_S if is_busy else RETRY_S)

    async def _end(self, inode: InodeId, versions: Sequence[Version], dots: frozenset[Dot]) -> None:
        """Raises NotMerged if that is not what the rules say."""
        names = self._tree.names(inode)
        if not names:
            raise NotMerged("it is shown nowhere")
        path = self._volume.state.path(names[0][0]) + names[0][1].name
        if self._rules is None:
            self._rules = self._read_rules()
            self._policies = Policies(rules_in(self._tree.settings()))
        rule = self._policies.of(path)
        has_driver = self._merging.drivers.of(path) is not None and not self._policies.is_never_merged(path)
        is_built_in = rule is None or rule.order == 0
        policy = "merge" if rule is None or (is_built_in and has_driver) else rule.policy
        if policy == "both":
            raise NotMerged("the rule about it is to keep both")
        # A program may make something else each time: so the one who wrote the shown version has it run.
        writers = versions[-1:] if policy == "merge" and has_driver else versions
        is_own = any(self._tree.is_own(version.dot[0]) for version in writers)
        if not is_own and self._waited.get(inode) != dots:
            self._waited[inode] = dots
            self._note(inode, OTHERS_S)
            return
        if self._merging.is_in_use(inode):
            self._note(inode, BUSY_S)
            return
        if policy == "merge":
            await self._merging.write(await self._merging.merged(inode, path))
            log.info("versions were merged", count=len(versions))
            return
        wanted = [
            version
            for version in versions
            if policy == "newest" or (rule is not None and self._is_by(rule.device, version.dot[0]))
        ]
        if not wanted:
            raise NotMerged("no version is of the device that the rule names")
        newest = max(wanted, key=lambda version: (version.mtime, version.rank, version.lineage))
        await self._merging.choose(inode, versions, newest)
        log.info("a version was chosen by a rule", policy=policy)
