"""The local API as data, continued: what was. Versions, removed files, snapshots, times.

`volume` is the name that this device gives it; paths are inside it. A `version` is an id that the log shows
(or its beginning) or a time, UTC: `2026-11-21T14:02:07Z`, `2026-11-21`, `3h`, `yesterday`; where a whole
directory is meant a snapshot's name too. See `protocol` for the rules.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dittofs.control.files import EntryKind

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
What = Literal[
    "created", "back", "written", "removed", "moved", "linked", "unlinked", "mode", "owner", "times", "xattr"
]


class LogRequest(Struct, frozen=True):
    """What happened to a file, or in a directory and below; also one that is not there any more."""

    volume: str
    path: str = ""
    path_raw: bytes = b""
    device: str = ""  # only what this one did, as in `UndoRequest`
    limit: Count = 50  # 0: all


class LogEvent(Struct, frozen=True, tag="event"):
    """One thing that happened; the latest come first. `path` is where it was then."""

    path: str
    kind: EntryKind
    what: What
    made_ns: int  # when, by the clock of whoever did it
    applied_ns: int  # when this device heard of it; what `.dittofs/at` goes by
    device: str  # what it is called
    path_raw: bytes = b""
    was: str = ""  # of what moved, where it was before
    was_raw: bytes = b""
    version: str = ""  # of what was written or removed: a time that names it
    id: str = ""  # and its id
    size: int = 0
    missing_bytes: int = 0  # of that version, not on this device
    is_shown: bool = False  # it is what the file shows now
    known_as: str = ""  # what a request takes for the device: its name, or of several the beginning of an id


class RestoreRequest(Struct, frozen=True):
    """Set a file, or a directory with all that was in it, back. Without `version`: back from removal."""

    volume: str
    path: str
    path_raw: bytes = b""
    version: str = ""
    dry_run: bool = False


class RestoredItem(Struct, frozen=True, tag="restored"):
    """One thing that is as it was, or with `dry_run` would be."""

    path: str
    kind: EntryKind
    what: Literal["same", "version", "back"]
    path_raw: bytes = b""
    version: str = ""
    id: str = ""
    size: int = 0
    missing_bytes: int = 0  # not here: fetched when it is read
    is_renamed: bool = False  # something else has its name now


class HistoryFileRequest(Struct, frozen=True):
    """The bytes of one version of a file, fetched where need be."""

    volume: str
    path: str
    version: str
    path_raw: bytes = b""


class TrashRequest(Struct, frozen=True):
    """Removed files that were at and below a path, the last removed first."""

    volume: str
    path: str = ""
    path_raw: bytes = b""
    limit: Count = 0


class TrashItem(Struct, frozen=True, tag="removed"):
    path: str
    kind: EntryKind
    removed_ns: int
    device: str
    id: str = ""
    path_raw: bytes = b""
    size: int = 0
    missing_bytes: int = 0


class EmptyTrashRequest(Struct, frozen=True):
    """Forget removed files for good, on this device: with `dry_run` only say what that is."""

    volume: str
    path: str = ""
    path_raw: bytes = b""
    dry_run: bool = False


class EmptyTrashResult(Struct, frozen=True):
    """What was forgotten, or would be. Their chunks go with the next collection of garbage."""

    volume: str
    files: int
    bytes: int
    kept_by_snapshots: int = 0  # snapshots that the volume has: what they name stays


class SnapshotsRequest(Struct, frozen=True):
    """List the snapshots of a volume, after creating or deleting one."""

    volume: str
    action: Literal["list", "create", "delete"] = "list"
    name: str = ""


class SnapshotStatus(Struct, frozen=True):
    name: str
    at_ns: int
    device: str
    files: int
    bytes: int


class UnreadableSnapshotStatus(Struct, frozen=True):
    """What is to be a snapshot and is none that this device could show."""

    name: str
    reason: str


class SnapshotsResult(Struct, frozen=True):
    """The latest first. `done`: the one that was created or deleted."""

    volume: str
    snapshots: tuple[SnapshotStatus, ...]
    done: SnapshotStatus | None = None
    unreadable: tuple[UnreadableSnapshotStatus, ...] = ()


class CheckoutRequest(Struct, frozen=True):
    """Write what was into the local directory `directory` (absolute), which is made if it is not there."""

    volume: str
    version: str
    directory: str
    directory_raw: bytes = b""
    path: str = ""
    path_raw: bytes = b""
    force: bool = False  # into a directory that holds something: files of the same names are replaced


class CheckoutProgress(Struct, frozen=True, tag="progress"):
    """How far it is; sent at least every second."""

    files: int
    bytes: int


class CheckoutDone(Struct, frozen=True, tag="done"):
    files: int
    bytes: int
    directories: int
    left_out: tuple[str, ...] = ()  # what could not be written, and why; at most 20


HistoryItem = LogEvent | RestoredItem | TrashItem | CheckoutProgress | CheckoutDone
