"""Contents that fewer devices hold than should, and the sums over them, kept up to date as that changes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dittofs.identity.keys import DeviceId
from dittofs.ids import InodeId
from dittofs.replication.policy import Policy

SAFE_COPIES: Final = 2
PSEUDO: Final = "."
"""In place of an inode, of what a snapshot keeps: no inode's id begins so."""
TWO: Final = Policy()


@dataclass(slots=True)
class Lonely:
    """A content that fewer devices hold than should."""

    root: bytes
    size: int
    inodes: tuple[InodeId, ...] = ()
    is_here: bool = False
    holders: frozenset[DeviceId] = frozenset()
    policy: Policy = TWO
    """What holds for it, of all its files."""
    required: int = SAFE_COPIES
    """So many devices should hold it, of those there are."""
    counted: tuple["_Sum", ...] = ()
    """The sums that hold `counted_files` of it."""
    counted_files: int = 0

    @property
    def copies(self) -> int:
        return self.is_here + len(self.holders)


@dataclass(slots=True, eq=False)
class _Sum:
    """Of some of the lonely contents."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """Files and bytes of live versions by who holds them."""

    is_counting: bool
    """The tree has not been gone through yet: the rest is a lower bound."""
    only_here: int = 0
    only_here_bytes: int = 0
    only_elsewhere: int = 0
    """On one other device, and not here."""
    only_elsewhere_bytes: int = 0
    missing: int = 0
    """On no device that has said so."""
    missing_bytes: int = 0
    unsent: int = 0
    """Here, and on fewer devices than the policy asks."""
    unsent_bytes: int = 0
    on_demand: int = 0
    """Of `only_here`: where nobody is to hold it who does not ask for it."""
    on_demand_bytes: int = 0
    past: int = 0
    """Of `only_here`, but not of `on_demand`: contents that snapshots keep and no file has any more."""
    past_bytes: int = 0
    past_on_demand: int = 0
    """Of `on_demand`: the same."""
    past_on_demand_bytes: int = 0


class LonelyContents:
    """All of a replica. Pure."""

    def __init__(self, policy_of: Callable[[Iterable[InodeId]], Policy], devices: Callable[[], int]) -> None:
        """`policy_of`: what holds for a content that these files have; `devices`: how many there are."""
        self._policy_of = policy_of
        self._devices = devices
        self.clear()

    def clear(self) -> None:
        """Nothing is known."""
        self._contents: dict[bytes, Lonely] = {}
        self._of_inode: dict[InodeId, tuple[bytes, ...]] = {}
        self._only_here, self._only_elsewhere, self._missing, self._unsent = _Sum(), _Sum(), _Sum(), _Sum()
        self._on_demand, self._past, self._past_on_demand = _Sum(), _Sum(), _Sum()

    def find(self, root: bytes) -> Lonely | None:
        """The content, if too few devices hold it."""
        return self._contents.get(root)

    def all(self) -> list[Lonely]:
        """The oldest first."""
        return list(self._contents.values())

    def tally(self, *, is_counting: bool) -> Tally:
        """The sums."""
        return Tally(
            is_counting,
            self._only_here.files,
            self._only_here.bytes,
            self._only_elsewhere.files,
            self._only_elsewhere.bytes,
            self._missing.files,
            self._missing.bytes,
            self._unsent.files,
            self._unsent.bytes,
            self._on_demand.files,
            self._on_demand.bytes,
            self._past.files,
            self._past.bytes,
            self._past_on_demand.files,
            self._past_on_demand.bytes,
        )

    def came(self, inode: InodeId, lonely: Lonely) -> None:
        """A file has the content; who holds it stands in `lonely`."""
        self._contents[lonely.root] = lonely
        if inode not in lonely.inodes:
            lonely.inodes += (inode,)
            self._of_inode[inode] = (*self._of_inode.get(inode, ()), lonely.root)
        self.settle(lonely)

    def settle(self, lonely: Lonely) -> None:
        """Forget what is held by enough devices, or what no file has; count what stays."""
        self._count(lonely, -1)
        lonely.counted = ()
        lonely.policy = self._policy_of(lonely.inodes)
        lonely.required = lonely.policy.copies(self._devices())
        if not lonely.inodes or lonely.copies >= max(SAFE_COPIES, lonely.required):
            self._contents.pop(lonely.root, None)
            for inode in lonely.inodes:
                self._forget(inode, lonely.root)
            return
        files = sum(inode[0] != PSEUDO for inode in lonely.inodes)
        lonely.counted = self._sums_of(lonely, is_past=not files)
        lonely.counted_files = files or 1  # a snapshot that keeps what a file has makes no second file of it
        self._count(lonely, +1)

    def _sums_of(self, lonely: Lonely, *, is_past: bool) -> tuple[_Sum, ...]:
        unsent = (self._unsent,) if lonely.is_here and lonely.copies < lonely.required else ()
        if not lonely.copies:
            return (self._missing,)
        if lonely.copies < SAFE_COPIES:
            if lonely.is_here and lonely.policy.is_on_demand:
                past = (self._past_on_demand,) if is_past else ()
                return (self._only_here, self._on_demand, *past)
            if lonely.is_here:
                past = (self._past,) if is_past else ()
                return (self._only_here, *past, *unsent)
            return (self._only_elsewhere, *unsent)
        return unsent

    def _count(self, lonely: Lonely, sign: int) -> None:
        for total in lonely.counted:
            total.files += sign * lonely.counted_files
            total.bytes += sign * lonely.counted_files * lonely.size

    def went(self, inode: InodeId, root: bytes) -> None:
        """A file has a content no more; of an empty root: nothing any more."""
        for gone in [root] if root else self._of_inode.get(inode, ()):
            self._forget(inode, gone)
            lonely = self._contents.get(gone)
            if lonely is not None:
                lonely.inodes = tuple(one for one in lonely.inodes if one != inode)
                self.settle(lonely)

    def _forget(self, inode: InodeId, root: bytes) -> None:
        roots = tuple(one for one in self._of_inode.pop(inode, ()) if one != root)
        if roots:
            self._of_inode[inode] = roots
