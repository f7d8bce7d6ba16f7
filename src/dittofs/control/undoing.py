"""The local API as data, continued: undoing what a device did, and what the brake holds.

`volume` is always the name that this device gives it. See `protocol` for the rules.
"""

from typing import Literal

from msgspec import Struct

StepKind = Literal["back", "content", "name", "attributes", "trash", "refused", "left"]


class UndoRequest(Struct, frozen=True):
    """Undo what a device did. The lines are an `UndoStep` an inode, then `UndoDone`."""

    volume: str
    device: str  # what it is called, or the beginning of its id; the whole of one is exact
    since_ns: int  # by that device's clock
    until_ns: int = -1  # -1: up to now
    path: str = ""  # only what is at and below it
    path_raw: bytes = b""
    dry_run: bool = False


class UndoStep(Struct, frozen=True, tag="step"):
    """One inode that is set back, or would be.

    `kind`: "back", it was removed; "content"; "name", it was moved, or a name was given or taken;
    "attributes"; "trash", the device had made it; "refused", the brake held it; "left", as it is.
    """

    kind: StepKind
    path: str
    path_raw: bytes = b""
    size: int = 0
    missing: int = 0  # of that not on this device, fetched when it is read
    is_directory: bool = False
    reason: str = ""  # why it is left, or what of it


class UndoDone(Struct, frozen=True, tag="done"):
    """The last line."""

    volume: str
    device: str  # what it is called
    is_dry_run: bool
    is_reachable: bool  # another device is connected, from which contents can come


class BrakeRequest(Struct, frozen=True):
    """Show what the brake holds, or decide. The lines are `HeldBatch`, `BrakeProgress`, `BrakeDone`."""

    volume: str
    action: Literal["list", "accept", "reject"] = "list"
    device: str = ""  # of whom, as in `UndoRequest`; empty: of all
    dry_run: bool = False
    paths: bool = False  # name the first 100 of each batch


class HeldBatch(Struct, frozen=True, tag="held"):
    """What is shown as it was, although a device removed or rewrote it."""

    volume: str
    device: str  # what it is called
    removed: int  # files
    rewritten: int
    directories: int  # removed
    bytes: int  # of the files, as they are shown
    first_ns: int  # when it did so, by its clock
    last_ns: int
    paths: tuple[str, ...] = ()
    known_as: str = ""  # what a request takes for the device: its name, or of several the beginning of an id


class BrakeProgress(Struct, frozen=True, tag="progress"):
    done: int
    total: int


class BrakeDone(Struct, frozen=True, tag="done"):
    """The last line. `batches`: what was decided about, or is held."""

    volume: str
    action: Literal["list", "accept", "reject"]
    batches: tuple[HeldBatch, ...] = ()
    is_dry_run: bool = False


UndoItem = UndoStep | UndoDone
BrakeItem = HeldBatch | BrakeProgress | BrakeDone
UndoingItem = UndoItem | BrakeItem
