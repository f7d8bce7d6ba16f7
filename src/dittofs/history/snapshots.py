"""Snapshots: what a volume held at one time, kept by all devices under a name for as long as they want it.

A snapshot is a tree of listings: each directory is a content of its own, a msgpack array of entries in the
order of their names, that names those of its subdirectories. A directory that did not change costs nothing a
second time. The setting `snapshot/<name>/<writer>` in the meta document names the root's: two devices that
take one of the same name apart have two.
"""

import errno
import itertools
import re
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import structlog
import trio

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader, store_content
from dittofs.chunks.manifest import chunk_root
from dittofs.chunks.source import BytesSource
from dittofs.chunks.store import AbsentChunk
from dittofs.errors import Damaged, FormatError, FSError
from dittofs.history.listing import LISTING_BYTES_MAX, decode_listing, encode_listing, listing_reader
from dittofs.history.times import parse_time
from dittofs.history.views import Entries, TimeView, ViewEntry, settled
from dittofs.ids import ChunkId, Slot, client_of_slot, slot_of_client
from dittofs.tree.encoding import ROOT_BYTES_MAX
from dittofs.tree.record import STAMP_END, Kind
from dittofs.volume.attributes import CHUNK
from dittofs.volume.fetching import read_fetched
from dittofs.volume.publication import Publisher
from dittofs.volume.replica import Replica
from dittofs.volume.state import State

log = structlog.get_logger()

SETTING: Final = "snapshot/"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""What a snapshot may be called; all of it can stand in the name of a setting."""
_SETTING: Final = re.compile(rf"{SETTING}({NAME.pattern})/([0-9a-f]{{12}})")
FORMAT: Final = 1
DEVICE_CHARACTERS: Final = 40
"""So much of a device's name tells its snapshot from another of the same name."""
ENTRIES_IN_A_ROW: Final = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot of a volume."""

    name: str
    """Alike on all devices: of several of one name the first keeps it, the others have their device's too."""
    root: bytes
    """Of the listing of the root directory."""
    size: int
    at: int
    """What it shows: the volume as it was then on `device`, nanoseconds since 1970."""
    device: str
    files: int
    bytes: int
    """Of all files together."""
    setting: str = ""
    """That says all this."""

    @property
    def writer(self) -> Slot | None:
        """Who made it; `device` is what that called itself then."""
        named = _SETTING.fullmatch(self.setting)
        return None if named is None else slot_of_client(int(named[2], 16))


@dataclass(frozen=True, slots=True)
class UnreadableSnapshot:
    """A setting that is to be a snapshot, and is none that this device could look at."""

    name: str
    """All of the setting's name, but for the prefix: no other can be called so."""
    reason: str
    setting: str
    is_later: bool = False
    """Of a later version, that knows what it keeps."""


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    format: int
    root: bytes
    size: int
    at: int
    device: str
    files: int
    bytes: int


class SnapshotView:
    """A snapshot to be looked at. Listings and bytes that are on other devices are fetched when asked for."""

    def __init__(self, state: State, snapshot: Snapshot) -> None:
        self._state = state
        self._snapshot = snapshot

    @property
    def at(self) -> int:
        return self._snapshot.at

    def top(self) -> ViewEntry:
        one = self._snapshot
        return ViewEntry(b"", Kind.DIRECTORY, (), 0o755, None, one.at, one.at, one.size, one.root)

    def entries(self, directory: ViewEntry) -> Entries | Coroutine[Any, Any, Entries]:
        if not directory.size:
            return {}
        reader = listing_reader(self._state.replica.chunks, directory.root, directory.size)
        try:
            return decode_listing(reader.read(0, directory.size))
        except (AbsentChunk, Damaged) as error:
            return self._fetched(reader, directory.size, error)

    async def _fetched(self, reader: ContentReader, size: int, error: AbsentChunk | Damaged) -> Entries:
        return decode_listing(await read_fetched(self._state.source, reader, 0, size, error))


def snapshots_of(replica: Replica) -> list[Snapshot]:
    """All snapshots of a volume, the latest first. Settings that are none: `unreadable_snapshots`."""
    found = [one for one in _settings(replica) if isinstance(one, Snapshot)]
    found.sort(key=lambda one: (one.at, one.setting))
    return sorted(_called_apart(found), key=lambda one: (one.at, one.name), reverse=True)


def unreadable_snapshots(replica: Replica) -> list[UnreadableSnapshot]:
    """Settings that are to be snapshots and that nobody can look at here, by name."""
    found = [one for one in _settings(replica) if isinstance(one, UnreadableSnapshot)]
    return sorted(found, key=lambda one: one.name)


def _settings(replica: Replica) -> Iterator[Snapshot | UnreadableSnapshot]:
    for name, raw in replica.tree.settings().items():
        if name.startswith(SETTING):
            yield _decoded(name, raw)


def _decoded(setting: str, raw: bytes) -> Snapshot | UnreadableSnapshot:
    called = setting[len(SETTING) :]
    try:
        version = msgspec.msgpack.decode(raw, type=list[msgspec.Raw])[:1]
        if version and msgspec.msgpack.decode(version[0], type=int) > FORMAT:
            return UnreadableSnapshot(called, "a later version of DittoFS made it", setting, is_later=True)
        stored = msgspec.msgpack.decode(raw, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UnreadableSnapshot(called, "what its setting holds is no snapshot", setting)
    named = _SETTING.fullmatch(setting)
    if named is None or stored.format != FORMAT or not _is_sound(stored):
        return UnreadableSnapshot(called, "what its setting says cannot be", setting)
    return Snapshot(
        named[1], stored.root, stored.size, stored.at, stored.device, stored.files, stored.bytes, setting
    )


def _called_apart(snapshots: Sequence[Snapshot]) -> Iterator[Snapshot]:
    """Each by a name of its own, alike on all devices; the first of a name keeps it."""
    taken = {one.name for one in snapshots}
    met: set[str] = set()
    for one in snapshots:
        if one.name not in met:
            met.add(one.name)
            yield one
            continue
        device = re.sub(r"[^a-z0-9._-]", "-", one.device.lower())[:DEVICE_CHARACTERS]
        names = (f"{one.name}.{device}" + (f".{tries}" if tries else "") for tries in itertools.count())
        free = next(name for name in names if name not in taken)
        taken.add(free)
        yield replace(one, name=free)


def _is_sound(stored: _Stored) -> bool:
    """Whether a writer's setting says what `create_snapshot` could have said."""
    is_listed = 0 <= stored.size <= LISTING_BYTES_MAX and len(stored.root) <= ROOT_BYTES_MAX
    is_counted = stored.files >= 0 and stored.bytes >= 0
    return is_listed and is_counted and 0 <= stored.at < STAMP_END


def find_snapshot(replica: Replica, name: str) -> Snapshot | None:
    """The snapshot of that name."""
    return next((one for one in snapshots_of(replica) if one.name == name), None)


async def create_snapshot(replica: Replica, publisher: Publisher, name: str) -> Snapshot:
    """Keep what the volume shows now under a name. It is durable, and told to the others, on return.

    FSError: EINVAL for a name that cannot be one or is a time, EEXIST if there is one; EFBIG for a
    directory of more than a million entries. ReadOnlyVolume.
    """
    if not NAME.fullmatch(name):
        raise FSError(errno.EINVAL, "a snapshot is called by small letters, digits, dots, - and _")
    if parse_time(name, replica.clock.now_ns()) is not None:
        raise FSError(errno.EINVAL, f"{name} reads as a time, and would stand in its way")
    if find_snapshot(replica, name) is not None:
        raise FSError(errno.EEXIST, f"there is a snapshot {name} already")
    replica.require_writable()
    await publisher.drain_all()
    with replica.naming.begun():
        view = TimeView(replica, max(replica.journal.history.last_at, 0))
        root, size, files, count = await _stored(replica, view, view.top())
        await replica.run_blocking(replica.chunks.sync)
        at = replica.clock.now_ns()
        setting = f"{SETTING}{name}/{client_of_slot(replica.slot):012x}"
        snapshot = Snapshot(name, root, size, at, replica.label, files, count, setting)
        stored = _Stored(FORMAT, root, size, at, replica.label, files, count)
        with replica.change() as change:
            change.group.set_setting(setting, msgspec.msgpack.encode(stored))
    await replica.run_blocking(replica.journal.sync)
    return snapshot


async def _stored(replica: Replica, view: TimeView, directory: ViewEntry) -> tuple[bytes, int, int, int]:
    """Store a directory's listing, and those below it first: its root and size; files and bytes in it."""
    lines: list[ViewEntry] = []
    files = total = 0
    for number, (_, entry) in enumerate(sorted((await settled(view.entries(directory))).items()), 1):
        root, size = entry.root, entry.size
        if entry.kind is Kind.DIRECTORY:
            root, size, inside, count = await _stored(replica, view, entry)
            files, total = files + inside, total + count
        else:
            files, total = files + 1, total + size
        lines.append(replace(entry, root=root, size=size))
        if number % ENTRIES_IN_A_ROW == 0:
            await trio.lowlevel.checkpoint()
    data = encode_listing(lines)
    if len(data) > LISTING_BYTES_MAX:
        raise FSError(errno.EFBIG, "a directory has more entries than a snapshot can list")

    def store() -> bytes:
        return store_content(replica.chunks, BytesSource(data), b"", 0, chunking=Chunking.CONTENT_DEFINED)

    return await replica.run_blocking(store), len(data), files, total


def delete_snapshot(replica: Replica, name: str) -> Snapshot:
    """Forget a snapshot, on all devices, also an unreadable one. FSError(ENOENT) if there is none."""
    snapshot = find_snapshot(replica, name)
    if snapshot is None:
        unreadable = (one for one in unreadable_snapshots(replica) if one.name == name)
        snapshot = next((Snapshot(name, b"", 0, 0, "", 0, 0, one.setting) for one in unreadable), None)
    if snapshot is None:
        raise FSError(errno.ENOENT, f"there is no snapshot {name}")
    with replica.change() as change:
        change.group.set_setting(snapshot.setting, None)
    return snapshot


def snapshot_roots(replica: Replica, lost: Collection[ChunkId] = frozenset()) -> Iterator[tuple[bytes, int]]:
    """Root and size of all contents that snapshots keep: listings, files, large attributes (of no size).

    AbsentChunk or Damaged if a listing is not here: then nobody knows what it keeps. One that needs what is
    `lost` everywhere, and one that no volume ever had, keep nothing that anybody could read. FormatError for
    one of a later version: what it keeps is not known here.
    """
    for one in unreadable_snapshots(replica):
        if one.is_later:
            raise FormatError(f"snapshot {one.name}: {one.reason}, so nobody knows here what it keeps")
    return _roots(replica, lambda error: isinstance(error, AbsentChunk) and error.chunk in lost)


def known_snapshot_roots(replica: Replica) -> Iterator[tuple[bytes, int]]:
    """`snapshot_roots` as far as listings are here: what is below another, its maker knows."""
    return _roots(replica, lambda _error: True)


def _roots(replica: Replica, passes: Callable[[AbsentChunk | Damaged], bool]) -> Iterator[tuple[bytes, int]]:
    waiting = [(one.name, one.root, one.size) for one in snapshots_of(replica)]
    met: set[bytes] = set()
    while waiting:
        name, root, size = waiting.pop()
        if root in met or not size:
            continue
        met.add(root)
        try:
            reader = listing_reader(replica.chunks, root, size)
            yield root, size
            entries = decode_listing(reader.read(0, size))
        except FormatError as error:
            log.warning("a snapshot is passed over: its listing is none", snapshot=name, reason=str(error))
            continue
        except (AbsentChunk, Damaged) as error:
            if not passes(error):
                raise
            continue
        for entry in entries.values():
            if entry.kind is Kind.DIRECTORY:
                waiting.append((name, entry.root, entry.size))
            elif entry.kind is Kind.FILE and entry.size:
                yield entry.root, entry.size
            for value in entry.xattrs.values():
                if value[:1] == CHUNK:
                    yield chunk_root(ChunkId(value[1:])), 0
