"""What a volume does with unpublished content that an earlier process left.

Closed and fsynced content is published under its name. What was neither is not taken for a whole
file: the name keeps the last whole version, and the bytes appear beside it as
`stem (recovered, DEVICE, 2026-11-21 14.02.07Z).ext`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from errno import ENOSPC

import structlog

from dittofs.errors import Damaged, DiskFull, FormatError, ReadOnlyVolume
from dittofs.ids import INODE_ID_BYTES, ROOT, InodeId, Stamp, inode_id
from dittofs.tree.naming import tagged_name
from dittofs.tree.record import Kind, Ref
from dittofs.volume.contents import Content
from dittofs.volume.publication import Publisher
from dittofs.volume.replica import Replica
from dittofs.volume.rows import ContentRow, Increment, LocalEntry, content_key, decode, encode, ref_of_key
from dittofs.volume.staging import DIRECTORY, StagingGone
from dittofs.volume.state import State

log = structlog.get_logger()

BOOT_KEY = "boot"
RESCUED = "rescued"
"""Kind of the local row that says that the journal was made anew of what could be read."""
SALVAGED = "salvaged"
"""Where staged bytes are kept whose rows are lost."""


@dataclass(slots=True)
class Recovered:
    """What recovery found, for `status`."""

    published: int = 0
    set_beside: list[bytes] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    salvaged: int = 0
    """Files in the directory `salvaged`."""


def recovered_name(name: bytes, label: str, now_ns: int, tries: int) -> bytes:
    """The name of a recovered file, made as that of a conflict entry is."""
    return tagged_name(name, b"recovered", label, Stamp(now_ns), tries)


class Unrecovered(Damaged):
    """Nothing is wrong with what is staged, but it cannot be told what becomes of it before there is room."""

    errno = ENOSPC


class Recovery:
    """Runs once, before the first request; on a full disk it goes on when there is room."""

    def __init__(self, state: State, publisher: Publisher) -> None:
        self._state = state
        self._publisher = publisher
        self._waiting: list[Ref] = []
        """Staged contents about which nothing is decided yet."""
        self._refs: set[Ref] = set()
        """All that there were when this began."""
        self._entries: list[LocalEntry] = []
        self._files: Sequence[str] = ()
        self._after_power_cut = False
        self.found = Recovered()

    def run(self) -> Recovered:
        """Blocking: load the local layer, decide about every staged content, remove what nobody names."""
        state = self._state
        journal = state.replica.journal
        self._after_power_cut = journal.get_meta(BOOT_KEY) != state.replica.boot
        tail_lost = journal.tail_lost
        if tail_lost is not None and not self._after_power_cut:
            self._note(f"{tail_lost.what}: {tail_lost.detail}")
        for error in state.local.load():
            self._note(str(error))
        bad: list[bytes] = []
        self._waiting = [ref_of_key(key) for key, _ in journal.scan_local("content", b"", bad)]
        self._refs = {*self._waiting, *self._set_aside_rows(bad)}
        self._entries = list(state.local)
        self._files = state.replica.disk.listdir(DIRECTORY)
        try:
            self._decide()
        except (DiskFull, ReadOnlyVolume) as error:
            state.replica.writability.postpone(error, self._go_on)
        return self.found

    def _go_on(self) -> None:
        """The rest, in a volume that is in use."""
        state, waited = self._state, list(self._waiting)
        try:
            self._decide()
        finally:
            for ref in waited:
                state.announce_names(ref[0])
            for entry in state.local:
                for parent, name in entry.names:
                    above = state.inodes.of_ref((InodeId(parent), None))
                    if above is not None:
                        state.announce(above, name, is_remote=True)

    def _decide(self) -> None:
        """About everything that waits. DiskFull or ReadOnlyVolume: some of it has to wait on."""
        state, waiting = self._state, self._waiting
        self._waiting, refusal = [], None
        for ref in waiting:
            state.contents.unreadable.pop(ref, None)
            try:
                self._recover(ref, after_power_cut=self._after_power_cut)
            except (DiskFull, ReadOnlyVolume) as error:
                self._waiting.append(ref)
                refusal = error
                why = Unrecovered("unpublished bytes", "what becomes of them is decided when there is room")
                state.contents.note_unreadable(ref, why)
        if refusal is not None:
            raise refusal
        self._drop_unwritten()
        self._drop_unnamed_files()
        with state.replica.change():
            state.replica.journal.put_meta(BOOT_KEY, state.replica.boot)

    def _recover(self, ref: Ref, *, after_power_cut: bool) -> None:
        state = self._state
        local = state.local.get(ref[0])
        if local is not None and local.is_ignored and not after_power_cut:
            state.contents.note_resting(ref)
            return
        try:
            if after_power_cut:
                with state.replica.change():
                    erase_lost(state.replica, ref)
            content = state.contents.load(ref)
        except (Damaged, FormatError) as error:
            if after_power_cut and isinstance(error, StagingGone) and error.is_expected:
                self._drop_lost(ref, local, error)
            else:
                self._set_aside(ref, error)
            return
        if local is None and state.replica.tree.stat(ref) is None:
            for layer in content.layers:
                layer.is_closed = True
            self._set_beside(content, None)
            return
        whole = 0
        for layer in content.layers:
            is_durable = layer.durable_sequence > 0 or not (layer.is_filed and after_power_cut)
            is_asked_for = layer.is_closed or layer.durable_sequence > 0 or content.is_fsynced
            if not (is_durable and (is_asked_for or (layer.is_appended and content.published.size))):
                break
            whole += 1  # noqa: SIM113 - counts how many are whole, not where the loop is
        if local is not None and local.is_ignored:
            whole = len(content.layers)
        for layer in content.layers:
            layer.is_closed = True
        if whole == len(content.layers):
            state.contents.adopt(content)
            if local is not None and local.is_ignored:
                state.contents.rest(ref)
            else:
                self._publisher.enqueue(ref)
                self.found.published += 1
            return
        self._set_beside(content, local, whole)

    def _set_aside(self, ref: Ref, error: Damaged | FormatError) -> None:
        """The rows stay as they are: nothing that can be read some day is thrown away."""
        self._state.contents.note_unreadable(ref, error)
        self._note(str(error))

    def _set_aside_rows(self, keys: list[bytes]) -> list[Ref]:
        """Content rows that fail their checksum; returns whose they are, as far as that can be told."""
        refs: list[Ref] = []
        for key in keys:
            error = Damaged(f"content of {key!r}", "its row fails its checksum")
            try:
                refs.append(ref_of_key(key))
            except FormatError:
                self._note(str(error))  # the damage is in the key
            else:
                self._set_aside(refs[-1], error)
        return refs

    def _note(self, damage: str) -> None:
        self.found.damaged.append(damage)
        log.error("staged content cannot be read", reason=damage)

    def _drop_lost(self, ref: Ref, local: LocalEntry | None, error: Damaged) -> None:
        """The power went before anybody asked for durability: as if never written."""
        state = self._state
        log.warning("staged content was never durable", reason=str(error))
        with state.replica.change() as change:
            state.contents.erase_unreadable(ref)
            if local is not None:
                state.local.remove(InodeId(local.inode), change)

    def _set_beside(self, content: Content, local: LocalEntry | None, whole: int = 0) -> None:
        """The staged bytes get a name of their own; the old name keeps the last whole version:
        the lowest `whole` layers, or what is published if there is none.
        """
        state = self._state
        ref = content.ref
        parent, name = self._place(ref, local)
        stat = None if local is not None else state.replica.tree.stat(ref)
        stamp = state.tick()
        beside = self._free_name(parent, name)
        keeps_name = bool(whole) or (local is not None and local.is_closed)
        new = inode_id(state.replica.entropy(INODE_ID_BYTES))
        mode = local.mode if local is not None else (stat.mode if stat is not None else 0o600)
        with state.replica.change() as change:
            entry = LocalEntry(
                inode=new,
                kind=int(Kind.FILE),
                names=[(parent, beside)],
                mode=mode,
                owner=local.owner if local is not None else None,
                birth=int(stamp),
                mtime=content.top.mtime,
                stamp=int(stamp),
                is_closed=True,
            )
            state.local.put(entry, change)
            if whole:
                state.contents.split(content, whole, (new, None), change)
            else:
                # The base stays: what shows through from the last version belongs to these bytes too.
                content.taken, content.face, content.is_flushed = None, 0, True
                state.contents.move(content, (new, None), change)
            if local is not None and not keeps_name:
                state.local.remove(InodeId(local.inode), change)
        if keeps_name:
            self._publisher.enqueue(ref)
            self.found.published += 1
        self._publisher.enqueue((new, None))
        self.found.set_beside.append(beside)

    def _place(self, ref: Ref, local: LocalEntry | None) -> tuple[InodeId, bytes]:
        if local is not None:
            parent, name = local.names[0]
            return InodeId(parent), name
        names = self._state.replica.tree.names(ref[0])
        if names:
            return names[0][0], names[0][1].name
        return ROOT, content_key(ref)[:16]

    def _free_name(self, parent: InodeId, name: bytes) -> bytes:
        state = self._state
        now = state.replica.clock.now_ns()
        for tries in range(1, 10_000):
            free = recovered_name(name, state.replica.label, now, tries)
            if state.local.lookup((parent,), free) is None and (
                state.local.get(parent) is not None or state.replica.tree.lookup(parent, free) is None
            ):
                return free
        raise AssertionError("ten thousand recovered files of one name")

    def _drop_unwritten(self) -> None:
        """A file that was created and never closed nor written never was; the others are published."""
        state = self._state
        for entry in self._entries:
            ref: Ref = InodeId(entry.inode), None
            if entry.kind != Kind.FILE or entry.is_ignored or ref in self._refs:
                continue
            if state.local.get(ref[0]) is not entry:
                continue  # decided about before the disk was full
            if entry.is_closed:
                self._publisher.enqueue(ref)
            else:
                with state.replica.change() as change:
                    state.local.remove(ref[0], change)

    def _drop_unnamed_files(self) -> None:
        """Staging files that no row names: content that was published or unlinked."""
        replica = self._state.replica
        replica.journal.sync()  # what the rows say must not be taken back once the files are gone
        for layer in self._state.contents.take_doomed():
            layer.discard()
        if self.found.damaged or replica.journal.damage:
            return  # the row that names a file may be what is lost; the bytes are all that is left then
        rows = [decode(ContentRow, value) for _, value in replica.journal.scan_local("content", b"")]
        named = {layer.layer for row in rows for layer in row.layers}
        unnamed = [name for name in self._files if name not in named and replica.disk.exists(_file(name))]
        if replica.journal.get_local(RESCUED, b"") is not None:
            self._salvage(unnamed)
        else:
            for name in unnamed:
                replica.disk.unlink(_file(name))
        self.found.salvaged = len(replica.disk.listdir(SALVAGED))

    def _salvage(self, unnamed: list[str]) -> None:
        """Bytes whose rows may be among what could not be read are kept where nobody writes."""
        replica = self._state.replica
        if unnamed:
            replica.disk.make_directory(SALVAGED)
        for name in unnamed:
            kept, number = f"{SALVAGED}/{name}", 1
            while replica.disk.exists(kept):
                kept, number = f"{SALVAGED}/{name}.{number}", number + 1
            replica.disk.rename(_file(name), kept)
        if unnamed:
            replica.disk.sync_directory(SALVAGED)
            replica.disk.sync_directory(DIRECTORY)
        with replica.change():
            replica.journal.delete_local(RESCUED, b"")


def _file(name: str) -> str:
    return f"{DIRECTORY}/{name}"


def erase_lost(replica: Replica, ref: Ref) -> None:
    """Within a transaction, after a power cut: forget the writes whose bytes no sync had put on the
    platter. For good: the next start does not know of the power cut any more.
    """
    journal, disk = replica.journal, replica.disk
    key = content_key(ref)
    value = journal.get_local("content", key)
    if value is None:
        return
    row = decode(ContentRow, value)
    increments = [list(journal.scan_local("bytes", one.layer.encode("ascii"))) for one in row.layers]
    first = end = 0  # of the layers that stay
    for number, layer in enumerate(row.layers):
        durable = layer.durable_sequence if layer.is_filed else layer.increments
        kept, lost = increments[number][:durable], increments[number][durable:]
        is_cut = any(decode(Increment, one).cut == 0 for _, one in kept)
        if durable and layer.is_closed and is_cut:
            first, end = number, number + 1  # nothing of what lies below shows
        elif end == number and (durable or disk.exists(f"{DIRECTORY}/{layer.layer}")):
            end = number + 1
        increments[number] = kept
        layer.increments = min(layer.increments, durable)
        for increment_key, _ in lost:
            journal.delete_local("bytes", increment_key)
    end = end or 1  # whoever loads it says what became of the only one
    for rows in increments[:first] + increments[end:]:
        for increment_key, _ in rows:
            journal.delete_local("bytes", increment_key)
    row.layers = row.layers[first:end]
    journal.put_local("content", key, encode(row))
