"""Random histories of several replicas of a tree, from a seed: everything that users and networks do to it.

A history is local operations, live deliveries (some lost, doubled or late), partitions, state-vector rounds,
crashes that lose what was not synced, reloads. Along the way and at the end: the index equals the oracle, all
replicas agree, no content is gone that nobody removed, an edit of a conflict entry swaps no names.

    python -m tests.property.histories --count 5000 --seed 1
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dittofs.errors import FormatError, FSError
from dittofs.ids import ROOT, InodeId, Stamp
from dittofs.tree.naming import CONFLICTS_SHOWN_MAX
from dittofs.tree.record import Dot, Kind, Owner
from dittofs.tree.tree import Entry
from tests.property.tree_replicas import (
    Replica,
    Update,
    World,
    assert_same,
    check_against_oracle,
    content_of,
    observe,
)

DEPTH_MAX = 4
SKEW_NS = 7_000_000_000


@dataclass
class Opened:
    """A file somebody opened and has not closed: its base may be old by then."""

    inode: InodeId
    dot: Dot | None
    base: Dot
    root: bytes
    rank: Stamp


@dataclass
class Writer:
    """A replica and what its users do."""

    replica: Replica
    opened: list[Opened] = field(default_factory=list)
    inbox: list[list[Update]] = field(default_factory=list)
    old: list[list[Update]] = field(default_factory=list)
    unsynced: list[bytes] = field(default_factory=list)
    """Contents written since the last sync: a crash may lose them."""


class History:
    """One run. `run` raises AssertionError where a promise is broken; `trace` says how it came to that."""

    def __init__(self, seed: int, *, replicas: int = 3, steps: int = 40) -> None:
        self.random = random.Random(seed)
        self.steps = steps
        self.profile = PROFILES[seed % len(PROFILES)]
        self.world = World()
        self.writers = [
            Writer(Replica(self.world, f"r{i}", skew_ns=i * SKEW_NS * (seed % 3 == 0)))
            for i in range(replicas)
        ]
        self.written: set[bytes] = set()
        self.removed: set[bytes] = set()
        """Contents that somebody who saw them removed or replaced."""
        self.lost: set[bytes] = set()
        """Contents that were not synced when their writer crashed."""
        self.trace: list[str] = []

    def run(self) -> None:
        checks = self.random.random()
        for _ in range(6):
            self._operate(self.writers[0])
        for other in self.writers[1:]:
            self._round(self.writers[0], other)
        is_parted = False
        for _ in range(self.steps):
            if self.random.random() < 0.1:
                is_parted = not is_parted
                if not is_parted:
                    for writer in self.writers:
                        self._round(writer, self.random.choice(self.writers))
            writer = self.random.choice(self.writers)
            if is_parted:
                writer.inbox.clear()
            self._step(writer, is_parted)
            if self.random.random() < 0.2 * checks:
                check_against_oracle(writer.replica)
        self._settle()

    def _step(self, writer: Writer, is_parted: bool) -> None:
        choice = self.random.random()
        share = self.profile.operation_share
        if choice < share or (is_parted and choice < 0.92):
            self._operate(writer)
        elif choice < share + (0.92 - share) * 0.7:
            self._deliver(writer)
        elif choice < 0.92:
            self._round(writer, self.random.choice(self.writers))
        elif choice < 0.95:
            writer.replica.sync()
            writer.unsynced.clear()
        elif choice < 0.97:
            writer.replica.tree.unload()
        else:
            self._crash(writer)

    # -- the network

    def _deliver(self, writer: Writer) -> None:
        """The next message, or a late one, or an old one again; what does not fit is refused."""
        if not writer.inbox:
            return
        fate = self.random.random()
        if fate < 0.1:
            writer.inbox.pop(0)
            return
        at = self.random.randrange(len(writer.inbox)) if fate < 0.2 else 0
        updates = writer.inbox.pop(at)
        if fate > 0.9 and writer.old:
            updates = self.random.choice(writer.old)
        writer.old.append(updates)
        try:
            writer.replica.receive(updates)
            self.trace.append(f"{self._who(writer)} receives {len(updates)}")
        except FormatError:
            self.trace.append(f"{self._who(writer)} refuses {len(updates)}")

    def _round(self, writer: Writer, other: Writer) -> None:
        if writer is other:
            return
        self.trace.append(f"{self._who(writer)} -> {self._who(other)}")
        updates = writer.replica.diff_for(other.replica)
        if updates:
            # Peers have what was synced: a writer syncs before it sends (commit order).
            writer.replica.sync()
            writer.unsynced.clear()
            other.replica.receive(updates)

    def _crash(self, writer: Writer) -> None:
        self.trace.append(f"{self._who(writer)} crashes")
        writer.replica.crash()
        writer.opened.clear()
        writer.inbox.clear()
        self.lost.update(writer.unsynced)
        writer.unsynced.clear()

    def _settle(self) -> None:
        """Everybody gets everything: equal trees, equal to the oracle, however the index came about."""
        replicas = [writer.replica for writer in self.writers]
        for _ in range(2):
            for a in self.writers:
                for b in self.writers:
                    self._round(a, b)
        records = replicas[0].records()
        for replica in replicas[1:]:
            assert replica.records() == records
        expected = check_against_oracle(replicas[0])
        for replica in replicas[1:]:
            assert_same(observe(replica.tree), expected)
        one = self.random.choice(replicas)
        one.tree.unload()
        assert_same(observe(one.tree), expected)
        one.tree.rebuild_index()
        assert_same(observe(one.tree), expected)
        visible = {version.root for version in expected.contents.values()}
        gone = self.written - visible - self.removed - self.lost
        assert not gone, f"nobody removed {sorted(gone)}"

    # -- what users do

    def _operate(self, writer: Writer) -> None:
        operation = self.random.choice(self.profile.operations)
        before = len(self.trace)
        self.trace.append(f"{self._who(writer)} {operation.__name__.strip('_')}")
        try:
            operation(self, writer)
        except FSError as error:
            self.trace[before] += f" ({error})"
            return
        sent = writer.replica.take_sent()
        if sent:
            for other in self.writers:
                if other is not writer and self.random.random() < 0.7:
                    # Commit order: durable, then sent.
                    writer.replica.sync()
                    writer.unsynced.clear()
                    other.inbox.append(sent)

    def _say(self, what: str) -> None:
        self.trace[-1] += " " + what

    def _who(self, writer: Writer) -> str:
        return f"{writer.replica.label}@{writer.replica.slot}"

    def _directory(self, writer: Writer) -> InodeId:
        """A visible directory, the root most of the time."""
        at = ROOT
        for _ in range(self.random.choice((0, 0, 1, 1, 2, DEPTH_MAX))):
            below = sorted(
                entry.inode for entry in writer.replica.tree.listing(at) if entry.kind is Kind.DIRECTORY
            )
            if not below:
                break
            at = self.random.choice(below)
        return at

    def _entry(
        self, writer: Writer, wanted: Callable[[Entry], bool] = lambda _: True
    ) -> tuple[InodeId, Entry] | None:
        directory = self._directory(writer)
        entries = [entry for entry in writer.replica.tree.listing(directory) if wanted(entry)]
        aside = [entry for entry in entries if entry.dot is not None]
        if aside and self.random.random() < 0.4:
            entries = aside
        if not entries:
            return None
        entry = self.random.choice(sorted(entries, key=lambda entry: entry.name))
        self._say(f"{directory[:4]}/{entry.name.decode()}")
        return directory, entry

    def _root(self, writer: Writer, entry: Entry) -> bytes | None:
        """What a file or symlink shows; None for anything else."""
        attributes = writer.replica.tree.stat(entry.ref)
        assert attributes is not None
        return None if attributes.version is None else attributes.version.root

    def _content(self, writer: Writer) -> str:
        """Mostly a new one; sometimes one that others write, too."""
        is_common = self.random.random() < 0.15
        text = f"same{self.random.randrange(2)}" if is_common else f"c{self.world.fresh()}"
        self.written.add(text.encode())
        writer.unsynced.append(text.encode())
        return text

    def _remove(self, writer: Writer, entry: Entry) -> None:
        root = self._root(writer, entry)
        if root is not None:
            self.removed.add(root)

    def _create(self, writer: Writer) -> None:
        kind = self.random.choice(self.profile.kinds)
        name = self.random.choice(self.profile.names).encode()
        parent = self._directory(writer)
        tree = writer.replica.tree
        self._say(f"{parent[:4]}/{name.decode()} {kind.name}")
        if tree.lookup(parent, name) is not None:
            return
        stamp = tree.tick()
        version = None
        if kind in (Kind.FILE, Kind.SYMLINK):
            version = content_of(self._content(writer), stamp)
        with writer.replica.group() as group:
            group.create(
                parent,
                name,
                kind,
                inode=self.world.inode(),
                mode=0o600,
                owner=None,
                birth=stamp,
                mtime=None,
                version=version,
                xattrs={b"user.a": b"1"} if self.random.random() < 0.2 else {},
                stamp=stamp,
            )

    def _open(self, writer: Writer) -> None:
        found = self._entry(writer, lambda entry: entry.kind is Kind.FILE)
        if found is not None:
            attributes = writer.replica.tree.stat(found[1].ref)
            assert attributes is not None
            version = attributes.version
            assert version is not None
            opened = Opened(found[1].inode, found[1].dot, version.dot, version.root, version.rank)
            writer.opened.append(opened)

    def _close(self, writer: Writer) -> None:
        """Write what was opened some time ago."""
        if not writer.opened:
            return
        opened = writer.opened.pop(self.random.randrange(len(writer.opened)))
        self._write_opened(writer, opened)

    def _write_opened(self, writer: Writer, opened: Opened) -> bytes:
        tree = writer.replica.tree
        content = self._content(writer)
        self._say(f"{opened.inode[:4]} {content}")
        self.removed.add(opened.root)
        with writer.replica.group() as group:
            stamp = tree.tick()
            group.write(
                opened.inode,
                content_of(content, stamp),
                replaces=[opened.base],
                stamp=stamp,
                rank=opened.rank if opened.dot is not None else None,
            )
        return content.encode()

    def _write(self, writer: Writer) -> None:
        found = self._entry(writer, lambda entry: entry.kind is Kind.FILE)
        if found is None:
            return
        directory, entry = found
        tree = writer.replica.tree
        attributes = tree.stat(entry.ref)
        assert attributes is not None
        version = attributes.version
        assert version is not None
        before = {one.name: self._root(writer, one) for one in tree.listing(directory)}
        opened = Opened(entry.inode, entry.dot, version.dot, version.root, version.rank)
        written = self._write_opened(writer, opened)
        after_write = {one.name: self._root(writer, one) for one in tree.listing(directory)}
        if entry.dot is not None and len(set(before.values())) == len(before) - list(before.values()).count(
            None
        ) + (None in before.values()):
            self._check_names_stay(entry, before, after_write, attributes.number, written, writer)

    def _check_names_stay(
        self,
        entry: Entry,
        before: dict[bytes, bytes | None],
        after: dict[bytes, bytes | None],
        number: int,
        written: bytes,
        writer: Writer,
    ) -> None:
        """An edit of a conflict entry changes its content, and nothing else."""
        if written in before.values():
            return  # it now equals something that is shown already
        assert before.keys() == after.keys(), (entry, before, after)
        for name, root in before.items():
            assert name == entry.name or after[name] == root, (entry, before, after)
        (same,) = (
            one
            for directory in {parent for parent, _ in writer.replica.tree.names(entry.inode)}
            for one in writer.replica.tree.listing(directory)
            if one.name == entry.name and one.inode == entry.inode
        )
        attributes = writer.replica.tree.stat(same.ref)
        assert attributes is not None
        assert attributes.number == number, "the number of an edited conflict entry changed"

    def _unlink(self, writer: Writer) -> None:
        found = self._entry(writer, lambda entry: entry.kind is not Kind.DIRECTORY)
        if found is None:
            return
        directory, entry = found
        tree = writer.replica.tree
        listed = tree.listing(directory)
        before = {one.name: self._root(writer, one) for one in listed}
        files = {one.name for one in listed if one.dot is None}
        self._remove(writer, entry)
        with writer.replica.group() as group:
            group.unlink(directory, entry, stamp=tree.tick())
        if tree.stat((directory, None)) is None:
            return  # it was there for what was in it only
        after = {one.name: self._root(writer, one) for one in tree.listing(directory)}
        if len(before) < CONFLICTS_SHOWN_MAX:
            del before[entry.name]
            # No listed name leads to something else now: whoever goes on removing removes what was listed.
            assert {name: before[name] for name in before if name in after} == {
                name: after[name] for name in after if name in before
            }, (entry, before, after)
            # What stands aside of a file may follow it to another name; files stay where they are.
            assert files - {entry.name} <= after.keys(), (entry, before, after)
            assert entry.name not in after, (entry, before, after)

    def _rmdir(self, writer: Writer) -> None:
        found = self._entry(writer, lambda entry: entry.kind is Kind.DIRECTORY)
        if found is not None:
            with writer.replica.group() as group:
                group.rmdir(*found, stamp=writer.replica.tree.tick())

    def _remove_all(self, writer: Writer) -> None:
        """rm -r: it ends, and the name is free."""
        found = self._entry(writer, lambda entry: entry.kind is Kind.DIRECTORY)
        if found is not None and found[1].name != b"lost+found":
            with writer.replica.group() as group:
                self._remove_below(writer, group, *found)
            assert writer.replica.tree.lookup(found[0], found[1].name) != found[1]

    def _remove_below(self, writer: Writer, group: object, directory: InodeId, entry: Entry) -> None:
        tree = writer.replica.tree
        rounds = 0
        while below := tree.listing(entry.inode):
            rounds += 1
            assert rounds < 50, "rm -r does not end"
            for one in sorted(below, key=lambda one: one.name):
                if tree.lookup(entry.inode, one.name) != one:
                    continue
                if one.kind is Kind.DIRECTORY:
                    self._remove_below(writer, group, entry.inode, one)
                else:
                    self._remove(writer, one)
                    group.unlink(entry.inode, one, stamp=tree.tick())  # type: ignore[attr-defined]
        group.rmdir(directory, entry, stamp=tree.tick())  # type: ignore[attr-defined]

    def _link(self, writer: Writer) -> None:
        found = self._entry(writer, lambda entry: entry.kind is not Kind.DIRECTORY)
        if found is not None:
            to, name = self._directory(writer), self.random.choice(self.profile.names).encode()
            self._say(f"{to[:4]}/{name.decode()}")
            with writer.replica.group() as group:
                group.link(found[1].ref, to, name, stamp=writer.replica.tree.tick())

    def _rename(self, writer: Writer) -> None:
        found = self._entry(writer)
        if found is None:
            return
        directory, entry = found
        tree = writer.replica.tree
        to = self._directory(writer)
        names = [one.name for one in tree.listing(to)] if self.random.random() < 0.3 else []
        name = self.random.choice(sorted(names) or [name.encode() for name in self.profile.names])
        over = tree.lookup(to, name)
        self._say(f"{to[:4]}/{name.decode()}")
        moved = self._root(writer, entry) if entry.kind is not Kind.DIRECTORY else None
        replaced = self._root(writer, over) if over is not None and over.kind is not Kind.DIRECTORY else None
        number = tree.stat(entry.ref)
        # Two saves of one file, made apart, leave two files that would like to show its number.
        was_contested = tree._rows.totals.contested > 0
        if over is not None and over.ref == entry.ref:
            replaced = None
        with writer.replica.group() as group:
            is_save = group.rename(directory, entry, to, name, over=over, stamp=tree.tick())
        if over is not None and entry.inode == over.inode and entry.dot is over.dot is None:
            return
        if replaced is not None and replaced != moved:
            self.removed.add(replaced)
        self._say("save" if is_save else "")
        now = tree.lookup(to, name)
        assert now is not None
        after = tree.stat(now.ref)
        assert number is not None
        assert after is not None
        if number.version is not None:
            assert self._root(writer, now) == number.version.root
        if not was_contested and not tree._rows.totals.contested:
            assert after.number == number.number, "a renamed thing changed its number"

    def _exchange(self, writer: Writer) -> None:
        a, b = self._entry(writer), self._entry(writer)
        if a is not None and b is not None:
            with writer.replica.group() as group:
                group.exchange(*a, *b, stamp=writer.replica.tree.tick())

    def _change_attributes(self, writer: Writer) -> None:
        found = self._entry(writer)
        if found is None:
            return
        inode = found[1].inode
        tree = writer.replica.tree
        with writer.replica.group() as group:
            stamp = tree.tick()
            which = self.random.randrange(4)
            if which == 0:
                group.set_mode(inode, self.random.choice((0o600, 0o755, 0o4711)), stamp=stamp)
            elif which == 1:
                group.set_owner(inode, Owner(self.random.randrange(3), 0, "u", "g"), stamp=stamp)
            elif which == 2:
                group.set_mtime(inode, self.random.randrange(1 << 60), stamp=stamp)
            else:
                value = self.random.choice((None, b"x", b"y"))
                group.set_xattr(inode, b"user.a", value, stamp=stamp)


@dataclass(frozen=True)
class Profile:
    """What users of a history mostly do."""

    operations: tuple[Callable[[History, Writer], None], ...]
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    operation_share: float


_FILES = (Kind.FILE,)
_MIXED = (Kind.FILE, Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO)
_EVERYTHING = (
    *[History._create] * 4,
    History._open,
    History._close,
    *[History._write] * 2,
    History._unlink,
    History._rmdir,
    History._remove_all,
    History._link,
    *[History._rename] * 3,
    History._exchange,
    History._change_attributes,
)
_CONFLICTS = (
    History._create,
    *[History._open] * 2,
    *[History._close] * 2,
    *[History._write] * 5,
    *[History._unlink] * 2,
    History._link,
    *[History._rename] * 3,
)
_MOVES = (
    *[History._create] * 4,
    *[History._rename] * 8,
    History._exchange,
    History._rmdir,
    History._remove_all,
)
_REMOVALS = (
    *[History._create] * 4,
    *[History._write] * 2,
    *[History._link] * 2,
    *[History._unlink] * 3,
    *[History._remove_all] * 2,
    *[History._rename] * 2,
)
PROFILES = (
    Profile(_EVERYTHING, _MIXED, ("a", "b", "c", "d.txt", "e"), 0.68),
    Profile(_CONFLICTS, _FILES, ("a", "b.txt"), 0.6),
    Profile(_MOVES, (Kind.DIRECTORY, Kind.DIRECTORY, Kind.FILE), ("a", "b", "c"), 0.6),
    Profile(_REMOVALS, (Kind.DIRECTORY, Kind.FILE), ("a", "b"), 0.7),
    Profile(_EVERYTHING, _MIXED, ("a", "b"), 0.8),
)


def run(seed: int, **options: int) -> None:
    """One history. What breaks carries the seed and the trace."""
    history = History(seed, **options)
    try:
        history.run()
    except Exception as error:
        error.add_note(f"history of seed {seed}:\n" + "\n".join(history.trace))
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    begun = time.monotonic()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        run(seed, replicas=arguments.replicas, steps=arguments.steps)
    print(f"{arguments.count} histories in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
