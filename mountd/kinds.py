"""What the local API calls each kind of entry."""

from typing import Final

from dittofs.control.files import EntryKind
from dittofs.tree.record import Kind

KIND_NAMES: Final[dict[Kind, EntryKind]] = {
    Kind.FILE: "file",
    Kind.DIRECTORY: "directory",
    Kind.SYMLINK: "symlink",
    Kind.FIFO: "fifo",
    Kind.SOCKET: "socket",
    Kind.CHARACTER: "character",
    Kind.BLOCK: "block",
}
