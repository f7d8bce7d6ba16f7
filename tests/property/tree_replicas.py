"""Replicas of a tree in one process: a store that can go back, links carried by hand, crashes, the oracle."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dittofs.errors import FormatError
from dittofs.ids import ROOT, InodeId, Slot, Stamp, inode_id, slot_of_client
from dittofs.tree import encoding
from dittofs.tree.join import join_all
from dittofs.tree.record import META_SHARD, Kind, NewVersion, Record
from dittofs.tree.shard import FIRST_EPOCH, Epoch, Shard
from dittofs.tree.tree import Change, Entry, Group, Tree
from dittofs.tree.view import ShownDirectory, View, view
from tests.property.dict_store import DictStore

Update = tuple[int, Epoch, bytes]
START_NS = 1_795_000_000_000_000_000


class UndoStore(DictStore):
    """An index in memory that can go back to a mark."""

    def __init__(self) -> None:
        super().__init__()
        self._undo: list[tuple[str, bytes, bytes | None]] = []
        self.accesses = 0

    def get(self, table: str, key: bytes) -> bytes | None:
        self.accesses += 1
        return super().get(table, key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self.accesses += 1
        self._undo.append((table, key, super().get(table, key)))
        super().put(table, key, value)

    def delete(self, table: str, key: bytes) -> None:
        self.accesses += 1
        self._undo.append((table, key, super().get(table, key)))
        super().delete(table, key)

    def scan(self, table: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        self.accesses += 1
        return super().scan(table, prefix)

    @property
    def mark(self) -> int:
        return len(self._undo)

    def back_to(self, mark: int) -> None:
        while len(self._undo) > mark:
            table, key, value = self._undo.pop()
            if value is None:
                super().delete(table, key)
            else:
                super().put(table, key, value)


class World:
    """Time and randomness that all replicas share, and are the same for the same seed."""

    def __init__(self) -> None:
        self.now = START_NS
        self._ids = 0

    def now_ns(self) -> int:
        self.now += 1_000_000
        return self.now

    def fresh(self) -> int:
        self._ids += 1
        return self._ids

    def inode(self) -> InodeId:
        """An id nobody has; all shards get some."""
        return inode_id((self.fresh() * 0x9E3779B97F4A7C15F39CC061 % (1 << 96)).to_bytes(12, "big"))


class Replica:
    """One replica: tree, log, index. `crash` loses what was not synced, and comes back as another writer."""

    def __init__(self, world: World, label: str, skew_ns: int = 0) -> None:
        self.world = world
        self.label = label
        self.skew_ns = skew_ns
        self.store = UndoStore()
        self.log: list[Update] = []
        self._synced = (0, 0)
        self._unsent: list[Update] = []
        self.tree = self._start()

    def _start(self) -> Tree:
        client_id = (0xB5AD4ECEDA1CE2A9 * self.world.fresh()) % ((1 << 48) - 3) + 2
        self.slot = slot_of_client(client_id)
        return Tree(
            self.store,
            self,
            client_id=client_id,
            own_slots=lambda slot: slot == self.slot,
            device_label=label_of,
            now_ns=lambda: self.world.now_ns() + self.skew_ns,
            greatest=Stamp(0),
        )

    def load(self, shard: int) -> tuple[tuple[int, bytes], bytes | None, Sequence[bytes]]:
        return FIRST_EPOCH, None, [update for number, _, update in self.log if number == shard]

    @contextmanager
    def group(self) -> Iterator[Group]:
        """A local group: whole, or undone."""
        mark = self.store.mark
        group = self.tree.group()
        try:
            yield group
        except BaseException:
            self.store.back_to(mark)
            self.tree.unload()
            raise
        change = group.finish()
        self.log.extend(change.updates)
        self._unsent.extend(change.updates)

    def receive(self, updates: Sequence[Update]) -> Change:
        """Updates from elsewhere. Raises FormatError, and nothing has changed, if one does not fit."""
        mark = self.store.mark
        try:
            delivery = self.tree.exchange.judge.group(updates)
            change = self.tree.exchange.take(delivery, b"peer", is_round=False).change
        except FormatError:
            self.store.back_to(mark)
            self.tree.unload()
            raise
        self.log.extend(delivery.updates)
        return change

    def take_sent(self) -> list[Update]:
        """Local updates since this was asked last: what goes to peers."""
        unsent, self._unsent = self._unsent, []
        return unsent

    def sync(self) -> None:
        """Everything up to now survives a crash."""
        self._synced = (self.store.mark, len(self.log))

    def crash(self) -> None:
        """Lose what was not synced and start again with a fresh client id."""
        mark, length = self._synced
        self.store.back_to(mark)
        del self.log[length:]
        self._unsent.clear()
        self.tree = self._start()

    def shards(self) -> dict[int, Shard]:
        """Every shard that holds something, from the log alone."""
        numbers = sorted({number for number, _, _ in self.log})
        return {number: Shard.load(FIRST_EPOCH, None, self.load(number)[2], 2) for number in numbers}

    def diff_for(self, other: "Replica") -> list[Update]:
        """What a state-vector round would send to `other`."""
        theirs = other.shards()
        updates = []
        for number, shard in self.shards().items():
            vector = theirs[number].state_vector() if number in theirs else b"\0"
            if vector != shard.state_vector() or number in theirs:
                updates.append((number, FIRST_EPOCH, shard.diff(vector)))
        return updates

    def records(self) -> dict[str, Record]:
        """The joined records, from the documents."""
        return {
            key: join_all(encoding.decode(value) for value in shard.get_slots(key).values())
            for number, shard in self.shards().items()
            if number != META_SHARD
            for key in shard.records()
        }

    # -- shorthand for tests

    def entry(self, path: str) -> Entry:
        found = self.find(path)
        assert found is not None, (path, self.show())
        return found

    def find(self, path: str) -> Entry | None:
        at = ROOT
        entry = Entry(b"", Kind.DIRECTORY, ROOT, "", None)
        for part in path.encode().split(b"/"):
            found = self.tree.lookup(at, part)
            if found is None:
                return None
            entry, at = found, found.inode
        return entry

    def parent(self, path: str) -> tuple[InodeId, bytes]:
        above, _, name = path.rpartition("/")
        return (self.entry(above).inode if above else ROOT), name.encode()

    def show(self) -> dict[str, str]:
        """Path -> content; `/` for directories, and `=` before targets of symlinks."""
        out: dict[str, str] = {}
        ahead = [(ROOT, "")]
        while ahead:
            directory, path = ahead.pop()
            for entry in self.tree.listing(directory):
                called = path + entry.name.decode()
                if entry.kind is Kind.DIRECTORY:
                    out[called] = "/"
                    ahead.append((entry.inode, called + "/"))
                    continue
                attributes = self.tree.stat(entry.ref)
                assert attributes is not None
                prefix = "=" if entry.kind is Kind.SYMLINK else ""
                version = attributes.version
                out[called] = prefix + version.root.decode() if version else entry.kind.name.lower()
        return dict(sorted(out.items()))

    def make(self, path: str, content: str, mode: int = 0o644) -> InodeId:
        inode = self.world.inode()
        parent, name = self.parent(path)
        with self.group() as group:
            stamp = self.tree.tick()
            group.create(
                parent,
                name,
                Kind.FILE,
                inode=inode,
                mode=mode,
                owner=None,
                birth=stamp,
                mtime=None,
                version=content_of(content, stamp),
                xattrs={},
                stamp=stamp,
            )
        return inode

    def mkdir(self, path: str) -> InodeId:
        return self._make_other(path, Kind.DIRECTORY, None)

    def symlink(self, path: str, target: str) -> InodeId:
        return self._make_other(path, Kind.SYMLINK, target)

    def mkfifo(self, path: str) -> InodeId:
        return self._make_other(path, Kind.FIFO, None)

    def _make_other(self, path: str, kind: Kind, target: str | None) -> InodeId:
        inode = self.world.inode()
        parent, name = self.parent(path)
        with self.group() as group:
            stamp = self.tree.tick()
            group.create(
                parent,
                name,
                kind,
                inode=inode,
                mode=0o755,
                owner=None,
                birth=stamp,
                mtime=None,
                version=None if target is None else content_of(target, stamp),
                xattrs={},
                stamp=stamp,
            )
        return inode

    def write(self, path: str, content: str) -> None:
        """Open what is shown, write, close."""
        entry = self.entry(path)
        attributes = self.tree.stat(entry.ref)
        assert attributes is not None
        assert attributes.version is not None
        with self.group() as group:
            stamp = self.tree.tick()
            group.write(
                entry.inode,
                content_of(content, stamp),
                replaces=[attributes.version.dot],
                stamp=stamp,
                rank=attributes.version.rank if entry.dot is not None else None,
            )

    def unlink(self, path: str) -> None:
        entry, (parent, _) = self.entry(path), self.parent(path)
        with self.group() as group:
            group.unlink(parent, entry, stamp=self.tree.tick())

    def rmdir(self, path: str) -> None:
        entry, (parent, _) = self.entry(path), self.parent(path)
        with self.group() as group:
            group.rmdir(parent, entry, stamp=self.tree.tick())

    def remove_tree(self, path: str) -> None:
        for entry in self.tree.listing(self.entry(path).inode):
            below = f"{path}/{entry.name.decode()}"
            if entry.kind is Kind.DIRECTORY:
                self.remove_tree(below)
            else:
                self.unlink(below)
        self.rmdir(path)

    def link(self, path: str, to: str) -> None:
        parent, name = self.parent(to)
        with self.group() as group:
            group.link(self.entry(path).ref, parent, name, stamp=self.tree.tick())

    def rename(self, path: str, to: str) -> bool:
        entry, (parent, _) = self.entry(path), self.parent(path)
        new_parent, name = self.parent(to)
        with self.group() as group:
            return group.rename(parent, entry, new_parent, name, over=self.find(to), stamp=self.tree.tick())

    def exchange(self, path: str, other: str) -> None:
        a, (parent_a, _) = self.entry(path), self.parent(path)
        b, (parent_b, _) = self.entry(other), self.parent(other)
        with self.group() as group:
            group.exchange(parent_a, a, parent_b, b, stamp=self.tree.tick())

    def chmod(self, path: str, mode: int) -> None:
        inode = self.entry(path).inode
        with self.group() as group:
            group.set_mode(inode, mode, stamp=self.tree.tick())


def label_of(slot: Slot) -> str:
    """Devices are called after the first two characters of their slots: ties happen."""
    return f"device-{slot[0]}"


def content_of(text: str, mtime: int) -> NewVersion:
    return NewVersion(text.encode(), len(text), mtime, b"")


def exchange_all(replicas: Sequence[Replica]) -> None:
    """State-vector rounds until every replica has everything."""
    for _ in range(2):
        for a in replicas:
            for b in replicas:
                if a is not b:
                    updates = a.diff_for(b)
                    if updates:
                        b.receive(updates)


def observe(tree: Tree) -> View:
    """Everything the index shows, asked for in every way there is."""
    directories: dict[InodeId, ShownDirectory] = {}
    view_of = View(directories, {}, {}, {}, tree.counts())
    ahead: list[tuple[InodeId, InodeId]] = [(ROOT, ROOT)]
    named: dict[InodeId, set[tuple[InodeId, Entry]]] = {}
    while ahead:
        inode, parent = ahead.pop()
        attributes = tree.stat((inode, None))
        assert attributes is not None
        shown = directories[inode] = ShownDirectory(attributes.members, parent)
        assert tree.parent(inode) == parent
        view_of.links[(inode, None)] = attributes.nlink
        assert tree.by_number(attributes.number) == (inode, None) or inode == ROOT
        for member in attributes.members:
            assert tree.listing(member) == tree.listing(inode)
        for entry in tree.listing(inode):
            assert entry.name not in shown.entries, entry
            shown.entries[entry.name] = entry
            assert tree.lookup(inode, entry.name) == entry
            named.setdefault(entry.inode, set()).add((inode, entry))
            if entry.kind is Kind.DIRECTORY:
                ahead.append((entry.inode, inode))
                continue
            found = tree.stat(entry.ref)
            assert found is not None, entry
            assert found.kind is entry.kind
            assert tree.by_number(found.number) == entry.ref
            view_of.links[entry.ref] = found.nlink
            view_of.numbers[entry.ref] = found.number
            if found.version is not None:
                view_of.contents[entry.ref] = found.version
    for inode, names in named.items():
        assert set(tree.names(inode)) == names, inode
    return view_of


def check_against_oracle(replica: Replica) -> View:
    """The index shows what the oracle makes of the documents."""
    seen = observe(replica.tree)
    expected = view(replica.records(), label_of)
    assert_same(seen, expected)
    return expected


def assert_same(seen: View, expected: View) -> None:
    assert seen.directories == expected.directories
    assert seen.numbers == expected.numbers
    assert seen.contents == expected.contents
    assert seen.links == expected.links
    assert seen.counts == expected.counts
