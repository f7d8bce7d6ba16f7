"""Names that are not in the tree: files before their first publication, and whatever is ignored."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from dittofs.errors import Damaged, DittoError, FormatError
from dittofs.ids import InodeId, Number, number_of
from dittofs.tree.record import Kind
from dittofs.volume.replica import Replica
from dittofs.volume.rows import LocalEntry, decode, encode
from dittofs.volume.transaction import Transaction


class LocalLayer:
    """All local entries, in memory and in the journal's rows.

    Methods that change something take the transaction: rows change with it, memory after it.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._entries: dict[InodeId, LocalEntry] = {}
        self._names: dict[InodeId, dict[bytes, InodeId]] = {}
        self._numbers: dict[Number, InodeId] = {}
        self.listeners: list[Callable[[InodeId, bytes], None]] = []
        """Told each (directory, name) that shows something else here."""
        self._subdirectories: Counter[InodeId] = Counter()

    def load(self) -> list[DittoError]:
        """Read the rows back. Returns what is wrong with those that cannot be read; they stay as they are."""
        bad: list[bytes] = []
        errors: list[DittoError] = []
        for key, value in self._replica.journal.scan_local("entry", b"", bad):
            try:
                self._remember(decode(LocalEntry, value))
            except FormatError as error:
                errors.append(Damaged(f"local name {key!r}", str(error)))
        return [*errors, *(Damaged(f"local name {key!r}", "its row fails its checksum") for key in bad)]

    def __iter__(self) -> Iterator[LocalEntry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, inode: InodeId) -> LocalEntry | None:
        return self._entries.get(inode)

    def by_number(self, number: Number) -> InodeId | None:
        return self._numbers.get(number)

    def lookup(self, members: Sequence[InodeId], name: bytes) -> LocalEntry | None:
        """The local entry of that name in a (merged) directory."""
        for directory in members:
            inode = self._names.get(directory, {}).get(name)
            if inode is not None:
                return self._entries[inode]
        return None

    def names(self, members: Sequence[InodeId]) -> Mapping[bytes, InodeId]:
        """Local names in a (merged) directory."""
        if len(members) == 1:
            return self._names.get(members[0], {})
        return {name: inode for one in members for name, inode in self._names.get(one, {}).items()}

    def subdirectories(self, members: Sequence[InodeId]) -> int:
        """How many local names of a (merged) directory are directories."""
        if len(members) == 1:
            return self._subdirectories[members[0]]
        return sum(self._entries[inode].kind == Kind.DIRECTORY for inode in self.names(members).values())

    def put(self, entry: LocalEntry, transaction: Transaction) -> None:
        """Add or replace an entry."""
        inode = InodeId(entry.inode)
        self._replica.journal.put_local("entry", inode.encode("ascii"), encode(entry))

        def remember() -> None:
            self._forget(inode)
            self._remember(entry)

        transaction.after(remember)

    def remove(self, inode: InodeId, transaction: Transaction) -> None:
        """Remove an entry with all its names: it is gone, or in the tree from now on."""
        self._replica.journal.delete_local("entry", inode.encode("ascii"))
        transaction.after(lambda: self._forget(inode))

    def _remember(self, entry: LocalEntry) -> None:
        inode = InodeId(entry.inode)
        self._entries[inode] = entry
        self._numbers[number_of(inode)] = inode
        for parent, name in entry.names:
            directory = InodeId(parent)
            self._names.setdefault(directory, {})[name] = inode
            if entry.kind == Kind.DIRECTORY:
                self._subdirectories[directory] += 1
            self._tell(directory, name)

    def _forget(self, inode: InodeId) -> None:
        entry = self._entries.pop(inode, None)
        if entry is None:
            return
        self._numbers.pop(number_of(inode), None)
        for parent, name in entry.names:
            directory = InodeId(parent)
            names = self._names.get(directory, {})
            if names.get(name) == inode:
                del names[name]
            if not names:
                self._names.pop(directory, None)
            if entry.kind == Kind.DIRECTORY:
                self._subdirectories[directory] -= 1
                if not self._subdirectories[directory]:
                    del self._subdirectories[directory]
            self._tell(directory, name)

    def _tell(self, directory: InodeId, name: bytes) -> None:
        for listener in self.listeners:
            listener(directory, name)
