"""Inodes as programs see them: a number, what it stands for now, and its attributes."""

import hashlib
import stat as stat_bits
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dittofs.ids import InodeId, Number, number_of
from dittofs.tree.record import Kind, Ref
from dittofs.volume.contents import Content
from dittofs.volume.published import Published
from dittofs.volume.rows import LocalEntry

BLOCK_BYTES = 4096
VIRTUAL_BIT = 1 << 62
"""Set in the numbers of what exists in no tree."""
FILE_TYPE = {
    Kind.FILE: stat_bits.S_IFREG,
    Kind.DIRECTORY: stat_bits.S_IFDIR,
    Kind.SYMLINK: stat_bits.S_IFLNK,
    Kind.FIFO: stat_bits.S_IFIFO,
    Kind.SOCKET: stat_bits.S_IFSOCK,
    Kind.CHARACTER: stat_bits.S_IFCHR,
    Kind.BLOCK: stat_bits.S_IFBLK,
}


@dataclass(slots=True)
class Stat:
    """What stat(2) reports. Times in nanoseconds, `mode` without the file type."""

    number: Number
    kind: Kind
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    atime: int
    mtime: int
    ctime: int
    birth: int
    hole_blocks: int = 0
    """Blocks of 4,096 bytes in which nothing is, as far as is known."""

    @property
    def full_mode(self) -> int:
        return FILE_TYPE[self.kind] | self.mode

    @property
    def blocks(self) -> int:
        """st_blocks, in units of 512 bytes."""
        if self.kind is Kind.SYMLINK:
            return 0
        return (-(-self.size // BLOCK_BYTES) - self.hole_blocks) * (BLOCK_BYTES // 512)


class Virtual(Protocol):
    """A file or directory that exists in no tree: `.dittofs` and what is in it."""

    @property
    def name(self) -> bytes: ...

    def content(self) -> bytes:
        """What the file says now; empty for a directory."""

    def prepare(self) -> Coroutine[Any, Any, None] | None:
        """Before `children` and `lookup`: a coroutine if they have to be waited for."""

    def children(self, start: int, count: int) -> Sequence["Inode"]:
        """At most `count` of what the directory lists, from a place in its order on; empty for a file."""

    def lookup(self, name: bytes) -> "Inode | None":
        """What the directory holds under a name, listed or not."""

    def parent(self) -> "Inode | None":
        """The directory above; None: `.dittofs` itself, or the root."""


@dataclass(slots=True)
class VirtualFile:
    """A virtual thing that is no directory."""

    name: bytes
    make: Callable[[], bytes] = bytes
    """What it says, asked for when it is read; what an inode shows of the past is not made."""

    def content(self) -> bytes:
        return self.make()

    def prepare(self) -> None:
        return None

    def children(self, _start: int, _count: int) -> Sequence["Inode"]:
        return ()

    def lookup(self, _name: bytes) -> "Inode | None":
        return None

    def parent(self) -> "Inode | None":
        return None


def virtual_number(what: bytes) -> Number:
    """The number of a virtual thing that is told apart by these bytes."""
    digest = hashlib.blake2b(what, digest_size=8).digest()
    return Number(int.from_bytes(digest, "big") & (VIRTUAL_BIT - 1) | VIRTUAL_BIT)


@dataclass(frozen=True, slots=True)
class PastShown:
    """What an inode of a view of the past shows, for ever."""

    stat: Stat
    shown: Published
    """Of a file."""
    target: bytes
    """Of a symbolic link."""
    xattrs: Mapping[bytes, bytes]
    is_lasting: bool
    """Its name means nothing else later."""


@dataclass(frozen=True, slots=True)
class Last:
    """What an open inode showed when it was last looked at: another device may take it out of the tree."""

    stat: Stat
    shown: Published
    target: bytes
    """Of a symbolic link."""


@dataclass(slots=True, eq=False)
class Inode:
    """Something a program has a number for.

    `ref` names it in the tree or the local layer. A detached inode has lost its last name
    (or its name now shows something else) and lives until its last descriptor is closed.
    """

    number: Number
    ref: Ref
    kind: Kind
    lookups: int = 0
    opens: int = 0
    writers: int = 0
    base: Published | None = None
    """The version shown when the first of its present writers opened it."""
    detached: Stat | None = None
    detached_version: Published | None = None
    orphan: Content | None = None
    """Content of a detached inode."""
    atime: int | None = None
    accessed_after: int = 0
    """The volume's greatest stamp when a read last looked whether the access time moves."""
    target: bytes = b""
    """What a detached symbolic link points to."""
    virtual: Virtual | None = None
    past: PastShown | None = None
    """Of a virtual one that is part of a view of the past; it is dropped when nobody refers to it."""
    last: Last | None = None
    """While it is open."""
    unnamed: LocalEntry | None = None
    """Of a file that was made without a name and has none yet: what it becomes with one."""
    shares: Number | None = None
    """The number it would have if something detached or written to had not got it still."""

    @property
    def face(self) -> Number:
        """The number that the tree gives what it stands for."""
        return self.number if self.shares is None else self.shares

    @property
    def id(self) -> InodeId:
        return self.ref[0]


GONE: Ref = (InodeId(".gone"), None)  # `.` cannot occur in an inode id


class InodeTable:
    """Numbers in use by programs. One entry a number, dropped when nobody can refer to it."""

    def __init__(self, is_staged: Callable[[Ref], bool]) -> None:
        """`is_staged`: whether something written under this reference is not published yet."""
        self._is_staged = is_staged
        self._by_number: dict[Number, Inode] = {}
        self._by_ref: dict[Ref, Inode] = {}
        self._asides: dict[InodeId, set[Inode]] = {}
        """Those that stand for a conflict entry."""

    def __iter__(self) -> Iterator[Inode]:
        return iter(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, number: Number) -> Inode | None:
        return self._by_number.get(number)

    def of_ref(self, ref: Ref) -> Inode | None:
        """The attached inode that stands for `ref`, if a program knows it."""
        return self._by_ref.get(ref)

    def of_id(self, inode: InodeId) -> list[Inode]:
        """The attached inodes that stand for a file or its conflict entries."""
        main = self._by_ref.get((inode, None))
        asides = self._asides.get(inode, ())
        return [*asides] if main is None else [main, *asides]

    def intern(self, number: Number, ref: Ref, kind: Kind) -> Inode:
        """The inode with this number, standing for `ref` from now on.

        A number that a detached inode still has, or one that is written to, cannot show a second thing: what
        another device brought back or took the number along to gets one of its own, as long as programs know
        it. (What is written would else be published as something else, or by nobody.)
        """
        inode, known = self._by_number.get(number), self._by_ref.get(ref)
        if known is not None and known is not inode and self.is_written(known):
            return known  # what is written has one number: another device has given it this one meanwhile
        is_taken = inode is not None and self._is_taken(inode, ref)
        if (inode is None or is_taken) and known is not None and known.face == number:
            return known
        if is_taken:
            free = number
            while free in self._by_number:
                free = number_of(f"{ref[0]}/{free}")
            inode = self._by_number[free] = Inode(free, ref, kind, shares=number)
            self._bind(inode)
        elif inode is None:
            inode = self._by_number[number] = Inode(number, ref, kind)
            self._bind(inode)
        elif inode.ref != ref:
            self.rebind(inode, ref)
        return inode

    def _is_taken(self, inode: Inode, ref: Ref) -> bool:
        """Whether the inode must go on standing for something else than `ref`."""
        return inode.detached is not None or (inode.ref != ref and self.is_written(inode))

    def is_written(self, inode: Inode) -> bool:
        """Whether something was or may be written through this attached inode that is not published yet."""
        return inode.writers > 0 or self._is_staged(inode.ref)

    def add(self, inode: Inode) -> None:
        """Register a virtual inode, which is never dropped unless it is of the past."""
        self._by_number[inode.number] = inode

    def rebind(self, inode: Inode, ref: Ref) -> None:
        """The number shows something else from now on."""
        self._unbind(inode)
        inode.ref = ref
        self._bind(inode)

    def unbind(self, inode: Inode) -> None:
        """The number shows nothing any more, and nobody has it open: who still names it is told ESTALE."""
        self._unbind(inode)
        inode.ref = GONE
        self.drop_if_unused(inode)

    def _bind(self, inode: Inode) -> None:
        self._by_ref[inode.ref] = inode
        if inode.ref[1] is not None:
            self._asides.setdefault(inode.id, set()).add(inode)

    def _unbind(self, inode: Inode) -> None:
        if self._by_ref.get(inode.ref) is inode:
            del self._by_ref[inode.ref]
        asides = self._asides.get(inode.id)
        if asides is not None:
            asides.discard(inode)
            if not asides:
                del self._asides[inode.id]

    def detach(self, inode: Inode, last: Stat) -> None:
        """The inode lost its last name; `last` is what its descriptors still see."""
        inode.detached = last
        self._unbind(inode)
        self.drop_if_unused(inode)

    def forget(self, inode: Inode, count: int) -> None:
        """The kernel dropped `count` of its references."""
        inode.lookups = max(0, inode.lookups - count)
        self.drop_if_unused(inode)

    def drop_if_unused(self, inode: Inode) -> None:
        """Drop an inode nobody can refer to any more."""
        if not inode.opens:
            inode.last = None
        is_kept = inode.virtual is not None and inode.past is None
        if inode.lookups or inode.opens or is_kept:
            return
        self._by_number.pop(inode.number, None)
        self._unbind(inode)
