"""A volume as a file system: POSIX meaning without a kernel.

Operations return a value, raise `FSError`, or return an unstarted coroutine when they must wait,
so that any front end stays thin. Everything runs on one event loop; statements between two awaits
are atomic.
"""

import math
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from dittofs.chunks.chunker import Chunking
from dittofs.errors import ChunkMissing, ChunkUnavailable, Damaged, DiskFull, DittoError, FormatError
from dittofs.ids import ROOT, ROOT_NUMBER, InodeId
from dittofs.tree.record import Kind
from dittofs.volume.attributes import AttributeOperations
from dittofs.volume.contents import Contents
from dittofs.volume.copying import Copying
from dittofs.volume.directories import Directories
from dittofs.volume.fetching import seems_here
from dittofs.volume.files import Files
from dittofs.volume.holdings import Holdings
from dittofs.volume.holes import Holes
from dittofs.volume.ignore import FILE_BYTES_MAX, FILE_NAME, IgnoreRules
from dittofs.volume.inodes import Inode, InodeTable
from dittofs.volume.linking import Linking
from dittofs.volume.local_layer import LocalLayer
from dittofs.volume.names import Names
from dittofs.volume.publication import Publisher
from dittofs.volume.recovery import Recovered, Recovery
from dittofs.volume.remote import RemoteChanges
from dittofs.volume.renaming import Renaming
from dittofs.volume.replica import Replica
from dittofs.volume.room import FREE_BYTES_FLOOR
from dittofs.volume.state import State
from dittofs.volume.virtual import ReservedDirectory

log = structlog.get_logger()

SAVE_INTERVAL_S = 1.0  # what an acknowledged write may lose with the process
SYNC_INTERVAL_S = 5.0
RULES_RETRY_S = 60.0
BLOCK_BYTES = 4096
NOTED_MAX = 100


@dataclass(frozen=True, slots=True)
class FileSystemRoom:
    """statvfs(3), in blocks of BLOCK_BYTES."""

    blocks: int
    blocks_free: int
    files: int
    volume_id: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What `status` says about a volume."""

    files: int
    directories: int
    content_bytes: int
    bytes_here: int | None
    """Of them, readable on this device alone; None: not counted yet."""
    conflicts: int
    pending_files: int
    pending_bytes: int
    read_only: str | None
    publication_problem: str | None
    waiting: tuple[str, ...]
    """Why edits wait for chunks of other devices, each reason once."""
    recovered: Recovered
    damage: tuple[str, ...]


class Volume:
    """One mounted volume."""

    def __init__(
        self, replica: Replica, *, uid: int, gid: int, chunking: Chunking, volume_id: bytes, trusts_root: bool
    ) -> None:
        self.replica = replica
        self._volume_id = volume_id
        contents = Contents(replica)
        self.state = State(
            replica=replica,
            uid=uid,
            gid=gid,
            local=LocalLayer(replica),
            contents=contents,
            inodes=InodeTable(contents.__contains__),
            rules=IgnoreRules(),
            trusts_root=trusts_root,
        )
        self.publisher = Publisher(self.state, chunking)
        self.names = Names(self.state, self.publisher)
        self.linking = Linking(self.state, self.names, self.publisher)
        self.renaming = Renaming(self.state, self.names, self.publisher)
        self.files = Files(self.state, self.publisher, self.load_rules)
        self.copying = Copying(self.state, self.files, self.publisher)
        self.holes = Holes(self.state, self.files)
        self.attributes = AttributeOperations(self.state, self.files)
        self.directories = Directories(self.state, self.names, volume_id)
        self.remote = RemoteChanges(self.state)
        self.holdings = Holdings(replica, self.state.holes, self._found_hole)
        self.recovered = Recovered()
        self._noted: dict[str, None] = {}
        self._rules_text: bytes | None = None
        self._rules_wanted = trio.Event()
        self.reserved = ReservedDirectory(self._status_text, self.state)
        """`.dittofs`; whoever knows more than the volume adds what it shows."""
        self.names.reserved = self.reserved.inode

    @property
    def root(self) -> Inode:
        inode = self.state.inodes.intern(ROOT_NUMBER, (ROOT, None), Kind.DIRECTORY)
        inode.lookups = max(1, inode.lookups)
        return inode

    def recover(self) -> Recovered:
        """Blocking, before the first request: take up what an earlier process left."""
        self.replica.disk.make_directory("staging")
        self.recovered = self.replica.mended(lambda: Recovery(self.state, self.publisher).run())
        self.load_rules()
        return self.recovered

    async def run(self) -> None:
        """Publish, save and sync for ever. Cancelled by the owner after `close`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publisher.run)
            nursery.start_soon(self._save_periodically)
            nursery.start_soon(self._sync_periodically)
            nursery.start_soon(self._fetch_rules)
            nursery.start_soon(self.holdings.run)

    async def _save_periodically(self) -> None:
        while True:
            await trio.sleep(SAVE_INTERVAL_S)
            self.save()

    def save(self) -> None:
        """What a crash of the process would lose goes to the journal; long-open files enter the tree."""
        try:
            if self.replica.read_only is None:
                self.files.save_dirty()
            self.files.publish_young()
            self.files.publish_forgotten()
            if self.state.are_rules_stale:
                self.load_rules()
        except DittoError as error:
            log.error("saving failed", reason=str(error))
        except Exception as error:
            log.error("saving failed by a bug", exc_info=error)

    async def _sync_periodically(self) -> None:
        while True:
            await trio.sleep(SYNC_INTERVAL_S)
            await self.background_sync()

    async def background_sync(self) -> None:
        """Bound what a power cut may cost, and the journal's length."""
        try:
            if self.replica.writability.try_again():
                await self.files.sync()
                for number in self.replica.tree.loaded_shards():
                    if not self.replica.compact_if_due(number):
                        self.replica.shorten_log(number)
                    await trio.lowlevel.checkpoint()
                if self.replica.journal.is_checkpoint_due:
                    await self.replica.run_blocking(self.replica.journal.checkpoint)
                await self._settle()  # last: nothing of the above waits for packs
            elif not self.replica.journal.needs_reopening:
                # On a full disk, too, what was acknowledged before goes to the platter: that takes no room.
                await self.replica.run_blocking(self.replica.journal.sync)
        except DittoError as error:
            log.error("background sync failed", reason=str(error))
        except Exception as error:
            log.error("background sync failed by a bug", exc_info=error)

    async def _settle(self) -> None:
        try:
            await self.publisher.carried.settle()
        except DiskFull:
            pass  # told by what made the volume read-only; every row is there still
        except DittoError as error:
            log.error("what the journal carries cannot be settled", reason=str(error))

    async def close(self) -> None:
        """Publish and sync everything. The front end has stopped."""
        await self.publisher.drain_all()
        await self.files.sync()
        if self.replica.read_only is None:
            await self._settle()

    def source_changed(self) -> None:
        """A device connected, or another source was given: what waits for chunks is tried again."""
        self._rules_wanted.set()
        self.publisher.source_changed()

    def load_rules(self) -> None:
        """Take up a changed `.dittoignore`, or have it fetched. A bad line leaves the old rules in force."""
        try:
            text = self._read_rules()
        except (ChunkMissing, Damaged) as error:
            log.error("ignore rules cannot be read", reason=str(error))
            return
        if isinstance(text, bytes):
            self._take_up(text)
        else:
            text.close()
            self._rules_wanted.set()

    def _read_rules(self) -> bytes | Coroutine[Any, Any, bytes]:
        found = self.names.find(self.root, FILE_NAME)
        self.state.are_rules_stale = False
        self.state.rules_inode = None if found is None else found[0].id
        is_file = found is not None and found[0].kind is Kind.FILE
        return self.files.read(found[0], 0, FILE_BYTES_MAX) if found is not None and is_file else b""

    async def _fetch_rules(self) -> None:
        """Rules that are not on this device: the old ones are in force until these have come."""
        while True:
            await self._rules_wanted.wait()
            self._rules_wanted = trio.Event()
            try:
                text = self._read_rules()
                self._take_up(text if isinstance(text, bytes) else await text)
            except DittoError as error:
                log.info("ignore rules cannot be had yet", reason=str(error))
                is_worth_trying = isinstance(error, ChunkUnavailable)
                with trio.move_on_after(RULES_RETRY_S if is_worth_trying else math.inf):
                    await self._rules_wanted.wait()
                self._rules_wanted.set()

    def _take_up(self, text: bytes) -> None:
        if text == self._rules_text:
            return
        self._rules_text = text
        try:
            rules = IgnoreRules(text.decode("utf-8", "surrogateescape"))
        except FormatError as error:
            log.error("ignore rules not taken up", reason=str(error))
            return
        self.state.rules = rules
        self._admit()

    def _admit(self) -> None:
        """Local names that the rules do not ignore any more enter the tree."""
        state = self.state
        for entry in state.local:
            parent, name = entry.names[0]
            if not entry.is_ignored or state.local.get(parent) is not None:
                continue
            path = state.path(parent) + name
            if state.rules.matches(path, is_directory=entry.kind == Kind.DIRECTORY):
                continue
            entry.is_ignored = False
            with state.replica.change() as change:
                state.local.put(entry, change)
            self.publisher.enter(entry.inode)

    def ignored_files(self) -> int:
        """How many there are that no other device is ever given, symbolic links and the like too."""
        return sum(entry.is_ignored and entry.kind != Kind.DIRECTORY for entry in self.state.local)

    def room(self) -> FileSystemRoom:
        """What statfs(2) says: the disk that holds the store, less the floor nobody may use."""
        disk = self.replica.disk
        free = max(0, disk.free_bytes() - FREE_BYTES_FLOOR)
        counts = self.replica.tree.counts()
        return FileSystemRoom(
            blocks=disk.total_bytes() // BLOCK_BYTES,
            blocks_free=free // BLOCK_BYTES,
            files=counts.files + counts.directories + len(self.state.local),
            volume_id=int.from_bytes(self._volume_id[:8], "big"),
        )

    def reach(self, inode: Inode) -> tuple[int, bool]:
        """Bytes of a file, and whether reading it fetches nothing, as far as one can know at a glance."""
        if inode.virtual is not None and inode.past is None:
            return 0, True
        try:
            base = self.files.content_base(inode)
            size = base.size
            if self.state.source.is_alone():
                return size, True
            return size, self.holdings.holds(inode.id) and seems_here(base, size)
        except DittoError:
            return 0, False  # whoever reads it hears why

    def summary(self) -> Summary:
        counts = self.replica.tree.counts()
        files, size = self.publisher.pending()
        return Summary(
            files=counts.files,
            directories=counts.directories,
            content_bytes=counts.bytes,
            bytes_here=self.holdings.bytes_here,
            conflicts=counts.conflicts,
            pending_files=files,
            pending_bytes=size,
            read_only=self.replica.read_only,
            publication_problem=self.publisher.problem,
            waiting=tuple(dict.fromkeys(self.publisher.waiting.values())),
            recovered=self.recovered,
            damage=tuple(self._damage()),
        )

    def _damage(self) -> Iterator[str]:
        """Everything found to be lost or unreadable since the volume was opened."""
        yield from self.replica.documents.awaited.values()
        yield from self.recovered.damaged
        yield from self.publisher.stuck.values()
        yield from self._noted

    def _found_hole(self, inode: InodeId) -> None:
        """What the mounts were told of a file's blocks was too much."""
        for known in self.state.inodes.of_id(inode):
            self.state.announce(known, is_remote=True)

    def note_damage(self, sentence: str) -> None:
        """Something that was stored is lost, as a scrub found: told until the volume is opened anew."""
        if len(self._noted) < NOTED_MAX:
            self._noted[sentence] = None

    def _status_text(self) -> bytes:
        summary = self.summary()
        lines = [
            f"files        {summary.files}",
            f"directories  {summary.directories}",
            f"bytes        {summary.content_bytes}",
            f"here         {'not counted yet' if summary.bytes_here is None else summary.bytes_here}",
            f"conflicts    {summary.conflicts}",
            f"unpublished  {summary.pending_files} files, {summary.pending_bytes} bytes",
            f"state        {'read-only: ' + summary.read_only if summary.read_only else 'writable'}",
        ]
        lines += [f"waiting      {reason}" for reason in summary.waiting]
        return "\n".join(lines).encode() + b"\n"
