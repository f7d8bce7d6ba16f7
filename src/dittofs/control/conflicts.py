"""The local API as data, continued: conflicts, the rules about them, and filled trees that join a volume.

`volume` is the name that this device gives it; paths are inside it. See `protocol` for the rules.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from dittofs.control.files import EntryKind

Policy = Literal["merge", "both", "newest", "mine"]
POLICIES: Final[tuple[Policy, ...]] = ("merge", "both", "newest", "mine")


class ConflictsRequest(Struct, frozen=True):
    """The conflicts at and below `path`, which may be that of any side of one."""

    volume: str
    path: str = ""
    path_raw: bytes = b""
    judge: bool = False  # say also whether they could be merged; what that needs is fetched


class ConflictSide(Struct, frozen=True):
    """One of the things that want a name. `path` is where it is shown, and can be read as any file."""

    path: str
    kind: EntryKind
    device: str  # who wrote it; empty: not known
    is_mine: bool
    is_shown: bool  # it has the name
    written_ns: int
    mtime_ns: int
    size: int
    path_raw: bytes = b""
    bytes_here: int = 0


class Conflict(Struct, frozen=True, tag="conflict"):
    """A name that several things want. `path` is that name."""

    path: str
    sides: tuple[ConflictSide, ...]  # the shown one first
    path_raw: bytes = b""
    are_versions: bool = True  # of one file; False: different things that are called the same
    base_ns: int = 0  # when the version they all come from was written last; 0: not known, or not asked
    can_merge: bool = False
    reason: str = ""  # why not


class Difference(Struct, frozen=True, tag="difference"):
    """How two sides differ. `old` and `new` name them: a path, or "base"."""

    old: str
    new: str
    old_size: int
    new_size: int
    lines: str = ""  # a unified diff, of text
    is_text: bool = True
    first: int = -1  # the first byte that differs, of what is no text; -1: none does


class ResolveRequest(Struct, frozen=True):
    """End the conflict about `path`.

    `keep`: "mine", "theirs", "shown", "beside", "both", "merged", or a device: its version stays.
    """

    volume: str
    path: str
    keep: str
    path_raw: bytes = b""
    dry_run: bool = False


class Kept(Struct, frozen=True):
    """A side that has become an ordinary file, at `path`."""

    path: str
    side: ConflictSide
    path_raw: bytes = b""


class ResolveResult(Struct, frozen=True):
    """What was done, or with `dry_run` would be."""

    path: str
    gone: tuple[ConflictSide, ...] = ()  # these stay in the history
    kept: tuple[Kept, ...] = ()
    path_raw: bytes = b""
    is_merged: bool = False
    left: int = 0  # conflicts that the volume still has


class PolicyRequest(Struct, frozen=True):
    """Show the rules of a volume; with a pattern set the rule about it, or with `policy` empty remove it."""

    volume: str
    pattern: str = ""
    policy: Literal["", "merge", "both", "newest", "mine"] = ""


class PolicyRule(Struct, frozen=True):
    pattern: str
    policy: Policy
    device: str = ""  # of "mine": whose version counts, everywhere


class PolicyResult(Struct, frozen=True):
    """The rules in their order; the last that matches counts."""

    volume: str
    rules: tuple[PolicyRule, ...]
    was: str = ""  # the rule about the pattern before
    built_in: tuple[str, ...] = ()  # patterns of which both are kept unless a rule says otherwise
    never: tuple[str, ...] = ()  # patterns of which both are kept whatever a rule says


class ImportRequest(Struct, frozen=True):
    """Add the local directory `source` (absolute) to what is at `path` in a volume. It is only read."""

    volume: str
    source: str
    source_raw: bytes = b""
    path: str = ""
    path_raw: bytes = b""
    dry_run: bool = False


class ImportProgress(Struct, frozen=True, tag="progress"):
    """How far it is; sent at least every second."""

    step: Literal["counting", "reading"]
    entries: int  # looked at so far
    bytes_done: int
    bytes_total: int  # 0: not known yet


class ImportNote(Struct, frozen=True, tag="note"):
    """Something about one path that is to be known. `path` is inside the volume."""

    what: Literal["conflict", "left out", "failed"]
    path: str
    detail: str  # under which name it stands, or why it was left out
    path_raw: bytes = b""
    bytes: Annotated[int, Meta(ge=0)] = 0


class ImportDone(Struct, frozen=True, tag="done"):
    """The last line. What was counted was done, or with `dry_run` would be."""

    volume: str
    path: str
    path_raw: bytes = b""
    added: int = 0  # files and everything else that is no directory
    added_bytes: int = 0
    directories: int = 0
    same: int = 0  # there already, with this content
    same_bytes: int = 0
    conflicts: int = 0
    conflict_bytes: int = 0
    left_out: int = 0  # by a rule: ignored, reserved, a mount of ours
    failed: int = 0  # could not be read, or changed while it was read
    dry_run: bool = False


ImportItem = ImportProgress | ImportNote | ImportDone
ConflictItem = Conflict | Difference | ImportItem
