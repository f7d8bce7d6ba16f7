"""What users of a history do, and what must hold right after each of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from dittofs.ids import ROOT, InodeId, Stamp
from dittofs.tree.naming import CONFLICTS_SHOWN_MAX
from dittofs.tree.record import Dot, Kind, Owner
from dittofs.tree.tree import Entry, Group, Tree
from tests.property.tree_replicas import Replica, Update, World, content_of

DEPTH_MAX = 4


@dataclass
class Opened:
    """A file somebody opened and has not closed: its base may be old by then."""

    inode: InodeId
    dot: Dot | None
    base: Dot
    root: bytes
    rank: Stamp


class Acting(Protocol):
    """What users need of a replica."""

    @property
    def tree(self) -> Tree: ...
    def group(self) -> AbstractContextManager[Group]: ...


class User(Protocol):
    """Who works on a replica."""

    @property
    def replica(self) -> Acting: ...
    @property
    def opened(self) -> list[Opened]: ...
    @property
    def unsynced(self) -> list[bytes]: ...


@dataclass
class Writer:
    """A replica and what its users do."""

    replica: Replica
    opened: list[Opened] = field(default_factory=list)
    inbox: list[list[Update]] = field(default_factory=list)
    old: list[list[Update]] = field(default_factory=list)
    unsynced: list[bytes] = field(default_factory=list)
    """Contents written since the last sync: a crash may lose them."""


class History(Protocol):
    """What users need of the history they act in."""

    random: Random
    world: World
    profile: "Profile"
    written: set[bytes]
    removed: set[bytes]
    trace: list[str]


def say(history: History, what: str) -> None:
    history.trace[-1] += " " + what


def pick_directory(history: History, writer: User) -> InodeId:
    """A visible directory, the root most of the time."""
    at = ROOT
    for _ in range(history.random.choice((0, 0, 1, 1, 2, DEPTH_MAX))):
        below = sorted(
            entry.inode for entry in writer.replica.tree.listing(at) if entry.kind is Kind.DIRECTORY
        )
        if not below:
            break
        at = history.random.choice(below)
    return at


def pick_entry(
    history: History, writer: User, wanted: Callable[[Entry], bool] = lambda _: True
) -> tuple[InodeId, Entry] | None:
    directory = pick_directory(history, writer)
    entries = [entry for entry in writer.replica.tree.listing(directory) if wanted(entry)]
    aside = [entry for entry in entries if entry.dot is not None]
    if aside and history.random.random() < 0.4:
        entries = aside
    if not entries:
        return None
    entry = history.random.choice(sorted(entries, key=lambda entry: entry.name))
    say(history, f"{directory[:4]}/{entry.name.decode()}")
    return directory, entry


def shown_root(writer: User, entry: Entry) -> bytes | None:
    """What a file or symlink shows; None for anything else."""
    attributes = writer.replica.tree.stat(entry.ref)
    assert attributes is not None
    return None if attributes.version is None else attributes.version.root


def fresh_content(history: History, writer: User) -> str:
    """Mostly a new one; sometimes one that others write, too."""
    is_common = history.random.random() < 0.15
    text = f"same{history.random.randrange(2)}" if is_common else f"c{history.world.fresh()}"
    history.written.add(text.encode())
    writer.unsynced.append(text.encode())
    return text


def note_removal(history: History, writer: User, entry: Entry) -> None:
    root = shown_root(writer, entry)
    if root is not None:
        history.removed.add(root)


def create(history: History, writer: User) -> None:
    kind = history.random.choice(history.profile.kinds)
    name = history.random.choice(history.profile.names).encode()
    parent = pick_directory(history, writer)
    tree = writer.replica.tree
    say(history, f"{parent[:4]}/{name.decode()} {kind.name}")
    if tree.lookup(parent, name) is not None:
        return
    stamp = tree.tick()
    version = None
    if kind in (Kind.FILE, Kind.SYMLINK):
        version = content_of(fresh_content(history, writer), stamp)
    with writer.replica.group() as group:
        group.create(
            parent,
            name,
            kind,
            inode=history.world.inode(),
            mode=0o600,
            owner=None,
            birth=stamp,
            mtime=None,
            version=version,
            xattrs={b"user.a": b"1"} if history.random.random() < 0.2 else {},
            stamp=stamp,
        )


def open_file(history: History, writer: User) -> None:
    found = pick_entry(history, writer, lambda entry: entry.kind is Kind.FILE)
    if found is not None:
        attributes = writer.replica.tree.stat(found[1].ref)
        assert attributes is not None
        version = attributes.version
        assert version is not None
        opened = Opened(found[1].inode, found[1].dot, version.dot, version.root, version.rank)
        writer.opened.append(opened)


def close_file(history: History, writer: User) -> None:
    """Write what was opened some time ago."""
    if not writer.opened:
        return
    opened = writer.opened.pop(history.random.randrange(len(writer.opened)))
    write_opened(history, writer, opened)


def write_opened(history: History, writer: User, opened: Opened) -> bytes:
    tree = writer.replica.tree
    content = fresh_content(history, writer)
    say(history, f"{opened.inode[:4]} {content}")
    history.removed.add(opened.root)
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


def write(history: History, writer: User) -> None:
    found = pick_entry(history, writer, lambda entry: entry.kind is Kind.FILE)
    if found is None:
        return
    directory, entry = found
    tree = writer.replica.tree
    attributes = tree.stat(entry.ref)
    assert attributes is not None
    version = attributes.version
    assert version is not None
    before = {one.name: shown_root(writer, one) for one in tree.listing(directory)}
    opened = Opened(entry.inode, entry.dot, version.dot, version.root, version.rank)
    written = write_opened(history, writer, opened)
    after_write = {one.name: shown_root(writer, one) for one in tree.listing(directory)}
    if entry.dot is not None and len(set(before.values())) == len(before) - list(before.values()).count(
        None
    ) + (None in before.values()):
        check_names_stay(entry, before, after_write, attributes.number, written, writer)


def check_names_stay(
    entry: Entry,
    before: dict[bytes, bytes | None],
    after: dict[bytes, bytes | None],
    number: int,
    written: bytes,
    writer: User,
) -> None:
    """An edit of a conflict entry changes its content, and nothing else."""
    if written in before.values():
        return  # it now equals something that is shown already
    assert before.keys() == after.keys(), (entry, before, after)
    for name, root in before.items():
        assert name == entry.name or after[name] == root, (entry, before, after)
    shown = {
        writer.replica.tree.stat(one.ref)
        for directory in {parent for parent, _ in writer.replica.tree.names(entry.inode)}
        for one in writer.replica.tree.listing(directory)
        if one.name == entry.name and one.inode == entry.inode
    }
    numbers = {one.number for one in shown if one and one.version and one.version.root == written}
    assert numbers == {number}, "the number of an edited conflict entry changed"


def unlink(history: History, writer: User) -> None:
    found = pick_entry(history, writer, lambda entry: entry.kind is not Kind.DIRECTORY)
    if found is None:
        return
    directory, entry = found
    tree = writer.replica.tree
    listed = tree.listing(directory)
    before = {one.name: shown_root(writer, one) for one in listed}
    files = {one.name for one in listed if one.dot is None}
    note_removal(history, writer, entry)
    with writer.replica.group() as group:
        group.unlink(directory, entry, stamp=tree.tick())
    if tree.stat((directory, None)) is None:
        return  # it was there for what was in it only
    after = {one.name: shown_root(writer, one) for one in tree.listing(directory)}
    if len(before) < CONFLICTS_SHOWN_MAX:
        del before[entry.name]
        # No listed name leads to something else now: whoever goes on removing removes what was listed.
        assert {name: before[name] for name in before if name in after} == {
            name: after[name] for name in after if name in before
        }, (entry, before, after)
        # What stands aside of a file may follow it to another name; files stay where they are.
        assert files - {entry.name} <= after.keys(), (entry, before, after)
        # The name is free, unless a conflict entry had made way for a file that somebody gave its name.
        made_way = [root for name, root in before.items() if name not in after]
        assert entry.name not in after or after[entry.name] in made_way, (entry, before, after)


def rmdir(history: History, writer: User) -> None:
    found = pick_entry(history, writer, lambda entry: entry.kind is Kind.DIRECTORY)
    if found is not None:
        with writer.replica.group() as group:
            group.rmdir(*found, stamp=writer.replica.tree.tick())


def remove_all(history: History, writer: User) -> None:
    """rm -r: it ends, and the name is free."""
    found = pick_entry(history, writer, lambda entry: entry.kind is Kind.DIRECTORY)
    if found is not None and found[1].name != b"lost+found":
        with writer.replica.group() as group:
            remove_below(history, writer, group, *found)
        assert writer.replica.tree.lookup(found[0], found[1].name) != found[1]


def remove_below(history: History, writer: User, group: Group, directory: InodeId, entry: Entry) -> None:
    tree = writer.replica.tree
    rounds = 0
    while below := tree.listing(entry.inode):
        rounds += 1
        assert rounds < 50, "rm -r does not end"
        for one in sorted(below, key=lambda one: one.name):
            if tree.lookup(entry.inode, one.name) != one:
                continue
            if one.kind is Kind.DIRECTORY:
                remove_below(history, writer, group, entry.inode, one)
            else:
                note_removal(history, writer, one)
                group.unlink(entry.inode, one, stamp=tree.tick())
    group.rmdir(directory, entry, stamp=tree.tick())


def link(history: History, writer: User) -> None:
    found = pick_entry(history, writer, lambda entry: entry.kind is not Kind.DIRECTORY)
    if found is not None:
        to, name = pick_directory(history, writer), history.random.choice(history.profile.names).encode()
        say(history, f"{to[:4]}/{name.decode()}")
        with writer.replica.group() as group:
            group.link(found[1].ref, to, name, stamp=writer.replica.tree.tick())


def rename(history: History, writer: User) -> None:
    found = pick_entry(history, writer)
    if found is None:
        return
    directory, entry = found
    tree = writer.replica.tree
    to = pick_directory(history, writer)
    names = [one.name for one in tree.listing(to)] if history.random.random() < 0.3 else []
    name = history.random.choice(sorted(names) or [name.encode() for name in history.profile.names])
    over = tree.lookup(to, name)
    say(history, f"{to[:4]}/{name.decode()}")
    moved = shown_root(writer, entry) if entry.kind is not Kind.DIRECTORY else None
    shown_as = tree.members(to) or (to,)  # one of them may have been there for what is moved only
    replaced = shown_root(writer, over) if over is not None and over.kind is not Kind.DIRECTORY else None
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
        history.removed.add(replaced)
    say(history, "save" if is_save else "")
    now = next((one for one in (tree.lookup(above, name) for above in shown_as) if one is not None), None)
    assert now is not None
    after = tree.stat(now.ref)
    assert number is not None
    assert after is not None
    if number.version is not None:
        assert shown_root(writer, now) == number.version.root
    if not was_contested and not tree._rows.totals.contested:
        assert after.number == number.number, "a renamed thing changed its number"


def move_into(history: History, writer: User, *, what: InodeId, to: InodeId) -> None:
    """Move a directory of the root into another one."""
    tree = writer.replica.tree
    entry = next((one for one in tree.listing(ROOT) if one.inode == what), None)
    if entry is not None and entry.name != b"lost+found" and tree.lookup(to, entry.name) is None:
        say(history, f"{entry.name.decode()} into {to[:4]}")
        with writer.replica.group() as group:
            group.rename(ROOT, entry, to, entry.name, over=None, stamp=tree.tick())


def exchange(history: History, writer: User) -> None:
    a, b = pick_entry(history, writer), pick_entry(history, writer)
    if a is not None and b is not None:
        with writer.replica.group() as group:
            group.exchange(*a, *b, stamp=writer.replica.tree.tick())


def change_attributes(history: History, writer: User) -> None:
    found = pick_entry(history, writer)
    if found is None:
        return
    inode = found[1].inode
    tree = writer.replica.tree
    with writer.replica.group() as group:
        stamp = tree.tick()
        which = history.random.randrange(4)
        if which == 0:
            group.set_mode(inode, history.random.choice((0o600, 0o755, 0o4711)), stamp=stamp)
        elif which == 1:
            group.set_owner(inode, Owner(history.random.randrange(3), 0, "u", "g"), stamp=stamp)
        elif which == 2:
            group.set_mtime(inode, history.random.randrange(1 << 60), stamp=stamp)
        else:
            value = history.random.choice((None, b"x", b"y"))
            group.set_xattr(inode, b"user.a", value, stamp=stamp)


@dataclass(frozen=True)
class Profile:
    """What users of a history mostly do."""

    operations: tuple[Callable[[History, User], None], ...]
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    operation_share: float


_FILES = (Kind.FILE,)
_MIXED = (Kind.FILE, Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO)
_EVERYTHING = (
    *[create] * 4,
    open_file,
    close_file,
    *[write] * 2,
    unlink,
    rmdir,
    remove_all,
    link,
    *[rename] * 3,
    exchange,
    change_attributes,
)
_CONFLICTS = (
    create,
    *[open_file] * 2,
    *[close_file] * 2,
    *[write] * 5,
    *[unlink] * 2,
    link,
    *[rename] * 3,
)
_MOVES = (
    *[create] * 4,
    *[rename] * 8,
    exchange,
    rmdir,
    remove_all,
)
_REMOVALS = (
    *[create] * 4,
    *[write] * 2,
    *[link] * 2,
    *[unlink] * 3,
    *[remove_all] * 2,
    *[rename] * 2,
)
PROFILES = (
    Profile(_EVERYTHING, _MIXED, ("a", "b", "c", "d.txt", "e"), 0.68),
    Profile(_CONFLICTS, _FILES, ("a", "b.txt"), 0.6),
    Profile(_MOVES, (Kind.DIRECTORY, Kind.DIRECTORY, Kind.FILE), ("a", "b", "c"), 0.6),
    Profile(_REMOVALS, (Kind.DIRECTORY, Kind.FILE), ("a", "b"), 0.7),
    Profile(_EVERYTHING, _MIXED, ("a", "b"), 0.8),
)
