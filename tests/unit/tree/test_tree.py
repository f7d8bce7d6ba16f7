"""One replica: what programs see of local operations, what survives a reload, what is refused."""

import errno
from collections.abc import Callable

import pytest

from dittofs.errors import FormatError
from dittofs.ids import LOST_FOUND, ROOT, ROOT_NUMBER, InodeId, number_of
from dittofs.tree.hlc import FOLLOW_NS_MAX
from dittofs.tree.record import PATH_DEPTH_MAX, Kind, NewVersion, Owner
from dittofs.tree.shard import FIRST_EPOCH
from tests.property.tree_replicas import (
    START_NS,
    Replica,
    assert_same,
    check_against_oracle,
    exchange_all,
    observe,
)
from tests.unit.tree.asking import refused, stat


def test_an_empty_volume_has_a_root_and_hides_lost_and_found(one: Replica) -> None:
    change = one.tree.initialise()
    assert change.updates == ()
    assert one.tree.listing(ROOT) == []
    assert one.tree.lookup(ROOT, b"lost+found") is None
    assert one.tree.stat((LOST_FOUND, None)) is None
    root = stat(one, "")
    assert (root.number, root.nlink, root.mode, root.kind) == (ROOT_NUMBER, 2, 0o755, Kind.DIRECTORY)
    assert root.mtime == root.ctime > START_NS
    assert one.tree.by_number(ROOT_NUMBER) == (ROOT, None)
    assert one.tree.parent(ROOT) == ROOT


def test_a_created_file_has_all_it_was_created_with(one: Replica) -> None:
    inode = one.world.inode()
    stamp = one.tree.tick()
    with one.group() as group:
        group.create(
            ROOT,
            b"f",
            Kind.FILE,
            inode=inode,
            mode=0o4711,
            owner=Owner(5, 6, "five", "six"),
            birth=stamp - 10,
            mtime=None,
            version=NewVersion(b"\1root", 77, stamp - 5, b"node"),
            xattrs={b"user.a": b"1"},
            stamp=stamp,
        )
    found = stat(one, "f")
    assert found.version is not None
    assert (found.kind, found.mode, found.owner) == (Kind.FILE, 0o4711, Owner(5, 6, "five", "six"))
    assert (found.size, found.mtime, found.ctime, found.birth) == (77, stamp - 5, stamp, stamp - 10)
    assert (found.nlink, found.number, found.trusted) == (1, number_of(inode), True)
    assert (found.version.root, found.version.node) == (b"\1root", b"node")
    assert one.tree.xattrs(inode) == {b"user.a": b"1"}
    assert one.tree.by_number(found.number) == (inode, None)
    assert one.tree.versions(inode) == [found.version]


def test_entries_that_change_move_mtime_and_ctime_of_the_directory_and_nothing_else_does(
    one: Replica,
) -> None:
    one.mkdir("d")
    one.mkdir("e")
    one.make("d/f", "x")

    def times(path: str) -> tuple[int, int]:
        found = stat(one, path)
        return found.mtime, found.ctime

    def changes(path: str, act: Callable[[], object]) -> tuple[bool, bool]:
        before = times(path)
        act()
        after = times(path)
        return after[0] > before[0], after[1] > before[1]

    assert changes("d", lambda: one.make("d/g", "x")) == (True, True)
    assert changes("d", lambda: one.link("d/g", "d/h")) == (True, True)
    assert changes("d", lambda: one.unlink("d/h")) == (True, True)
    assert changes("d", lambda: one.rename("d/g", "e/g")) == (True, True)
    assert changes("e", lambda: one.rename("e/g", "e/k")) == (True, True)
    assert changes("d", lambda: one.write("d/f", "y")) == (False, False)
    assert changes("d", lambda: one.chmod("d/f", 0o600)) == (False, False)
    assert changes("d", lambda: one.chmod("d", 0o700)) == (False, True)
    assert changes("", lambda: one.rename("d", "dd")) == (True, True)
    assert changes("e/k", lambda: one.link("e/k", "l")) == (False, True)
    before = stat(one, "l").ctime
    one.rename("l", "m")
    assert stat(one, "m").ctime > before
    before = stat(one, "m").ctime
    one.unlink("e/k")
    assert stat(one, "m").ctime > before, "unlink of one name sets ctime for the others"


def test_times_survive_a_reload_and_ctimes_a_rebuilt_index(one: Replica) -> None:
    one.mkdir("d")
    one.make("d/f", "x")
    one.link("d/f", "g")
    one.unlink("d/f")
    with one.group() as group:
        group.set_mtime(one.entry("d").inode, 5, stamp=one.tree.tick())
    assert stat(one, "d").mtime == 5
    before = {path: stat(one, path) for path in ("", "d", "g")}
    one.tree.unload()
    assert {path: stat(one, path) for path in before} == before
    one.tree.rebuild_index()
    assert stat(one, "g") == before["g"]
    assert stat(one, "d") == before["d"]
    one.make("d/new", "x")
    assert stat(one, "d").mtime > 5, "an explicit mtime holds until the entries change"


def test_an_explicit_mtime_holds_until_the_next_content(one: Replica) -> None:
    one.make("f", "x")
    with one.group() as group:
        group.set_mtime(one.entry("f").inode, -7, stamp=one.tree.tick())
    assert stat(one, "f").mtime == -7
    one.write("f", "y")
    assert stat(one, "f").mtime > START_NS


def test_links_are_counted_by_what_is_visible(one: Replica) -> None:
    one.make("f", "x")
    one.link("f", "g")
    one.mkdir("d")
    one.mkdir("d/e")
    one.mkdir("d/e2")
    assert (stat(one, "f").nlink, stat(one, "g").nlink, stat(one, "d").nlink, stat(one, "").nlink) == (
        2,
        2,
        4,
        3,
    )
    assert stat(one, "f") == stat(one, "g")
    one.unlink("f")
    one.rmdir("d/e")
    assert (stat(one, "g").nlink, stat(one, "d").nlink) == (1, 3)
    assert {entry.name for _, entry in one.tree.names(one.entry("g").inode)} == {b"g"}


def test_rename_over_is_a_save_that_keeps_the_target_and_shows_the_source(one: Replica) -> None:
    target = one.make("f", "old", mode=0o600)
    source = one.make("t", "new", mode=0o640)
    before = stat(one, "t")
    assert one.rename("t", "f")
    after = stat(one, "f")
    assert one.entry("f").inode == target
    assert one.show() == {"f": "new"}
    assert (after.number, after.mode, after.mtime) == (before.number, 0o640, before.mtime)
    assert one.tree.by_number(before.number) == (target, None)
    assert one.tree.stat((source, None)) is None
    one.write("f", "newer")
    assert stat(one, "f").number == before.number, "a write keeps the number"


def test_rename_over_a_linked_file_is_a_replace_and_the_other_name_keeps_its_content(one: Replica) -> None:
    one.make("f", "old")
    one.link("f", "snapshot")
    number = stat(one, "f").number
    source = one.make("t", "new")
    assert not one.rename("t", "f")
    assert one.show() == {"f": "new", "snapshot": "old"}
    assert one.entry("f").inode == source
    assert stat(one, "snapshot").number == number
    check_against_oracle(one)


def test_two_names_of_one_file_renamed_onto_each_other_stay(one: Replica) -> None:
    one.make("f", "x")
    one.link("f", "g")
    log = len(one.log)
    assert not one.rename("f", "g")
    assert one.show() == {"f": "x", "g": "x"}
    assert len(one.log) == log


def test_a_directory_replaces_an_empty_one_and_nothing_else(one: Replica) -> None:
    one.mkdir("a")
    one.make("a/f", "x")
    one.mkdir("b")
    one.mkdir("full")
    one.make("full/g", "y")
    one.make("file", "z")
    refused(errno.ENOTEMPTY, lambda: one.rename("a", "full"))
    refused(errno.ENOTDIR, lambda: one.rename("a", "file"))
    refused(errno.EISDIR, lambda: one.rename("file", "a"))
    refused(errno.EINVAL, lambda: one.rename("a", "a/inside"))
    one.mkdir("a/deep")
    refused(errno.EINVAL, lambda: one.rename("a", "a/deep/x"))
    one.rename("a", "b")
    assert one.show() == {
        "b": "/",
        "b/deep": "/",
        "b/f": "x",
        "file": "z",
        "full": "/",
        "full/g": "y",
    }


def test_what_cannot_be_is_refused_and_changes_nothing(one: Replica) -> None:
    one.mkdir("d")
    one.make("d/f", "x")
    one.make("g", "y")
    log, tables = len(one.log), one.store.tables()
    refused(errno.EEXIST, lambda: one.make("g", "z"))
    refused(errno.EEXIST, lambda: one.mkdir("d"))
    refused(errno.EEXIST, lambda: one.link("g", "d"))
    refused(errno.EPERM, lambda: one.link("d", "h"))
    refused(errno.ENOTEMPTY, lambda: one.rmdir("d"))
    refused(errno.ENOTDIR, lambda: one.rmdir("g"))
    refused(errno.EISDIR, lambda: one.unlink("d"))
    refused(errno.ENAMETOOLONG, lambda: one.make("n" * 256, "z"))
    refused(errno.EINVAL, lambda: one.make(".", "z"))
    refused(errno.EINVAL, lambda: one.exchange("d", "d/f"))
    with one.group() as group:
        refused(errno.ENOENT, lambda: group.set_mode(one.world.inode(), 0, stamp=one.tree.tick()))
        stale = one.entry("g")
    one.rename("g", "h")
    with one.group() as group:
        refused(errno.ENOENT, lambda: group.unlink(ROOT, stale, stamp=one.tree.tick()))
    one.rename("h", "g")
    assert len(one.log) == log + 2
    assert one.store.tables().keys() == tables.keys()


def test_a_record_that_would_become_too_large_is_refused(one: Replica) -> None:
    one.make("f", "x")
    inode = one.entry("f").inode

    def set_large() -> None:
        with one.group() as group:
            group.set_xattr(inode, b"user.large", b"x" * (64 << 10), stamp=one.tree.tick())

    refused(errno.ENOSPC, set_large)
    assert one.tree.xattrs(inode) == {}


def test_what_no_device_could_read_back_is_refused_and_changes_nothing(one: Replica) -> None:
    one.make("f", "x")
    inode = one.entry("f").inode
    before = stat(one, "f")

    def write(mtime: int) -> None:
        version = NewVersion(b"r" * 32, 1, mtime, b"")
        with one.group() as group:
            group.write(inode, version, replaces=(), stamp=one.tree.tick())

    for mtime in (1 << 63, 1 << 70, -(1 << 63) - 1):
        refused(errno.EINVAL, lambda mtime=mtime: write(mtime))  # type: ignore[misc]
    assert stat(one, "f") == before


def test_directories_nest_to_the_limit_and_no_deeper(one: Replica) -> None:
    def directory(at: InodeId) -> InodeId:
        below = one.world.inode()
        with one.group() as group:
            group.create(
                at,
                b"d",
                Kind.DIRECTORY,
                inode=below,
                mode=0o755,
                owner=None,
                birth=0,
                mtime=None,
                version=None,
                xattrs={},
                stamp=one.tree.tick(),
            )
        return below

    at = ROOT
    for _ in range(PATH_DEPTH_MAX):
        at = directory(at)
    refused(errno.ENAMETOOLONG, lambda: directory(at))


def test_exchange_swaps_files_and_directories(one: Replica) -> None:
    one.mkdir("d")
    one.make("d/f", "x")
    one.make("g", "y")
    one.exchange("d", "g")
    assert one.show() == {"d": "y", "g": "/", "g/f": "x"}
    one.exchange("g/f", "d")
    assert one.show() == {"d": "x", "g": "/", "g/f": "y"}
    check_against_oracle(one)


def test_set_id_bits_from_elsewhere_are_not_trusted_even_after_a_rename(one: Replica) -> None:
    other = Replica(one.world, "other")
    one.make("f", "x", mode=0o4755)
    one.make("own", "y", mode=0o755)
    assert stat(one, "f").trusted
    exchange_all([one, other])
    assert not stat(other, "f").trusted
    other.chmod("f", 0o4755)
    assert not stat(other, "f").trusted, "the content is still not ours"
    other.write("f", "z")
    assert stat(other, "f").trusted
    exchange_all([one, other])
    assert not stat(one, "f").trusted
    one.rename("f", "own")
    assert stat(one, "own").mode == 0o755


def test_the_clock_follows_others_by_an_hour_at_most_and_later_always_wins(one: Replica) -> None:
    ahead = Replica(one.world, "ahead", skew_ns=3 * FOLLOW_NS_MAX)
    ahead.make("f", "x")
    ahead.chmod("f", 0o600)
    exchange_all([one, ahead])
    assert one.tree.tick() < one.world.now + FOLLOW_NS_MAX + 10**9
    one.chmod("f", 0o640)
    exchange_all([one, ahead])
    assert stat(ahead, "f").mode == 0o640, "an operation exceeds every register it replaces"
    one.write("f", "y")
    exchange_all([one, ahead])
    assert ahead.show() == {"f": "y"}
    limit = one.world.now + FOLLOW_NS_MAX + 10**9
    assert one.tree.tick() < limit, "what is raised above a stamp of theirs takes no clock along"


def test_an_update_that_is_none_of_ours_changes_nothing(one: Replica) -> None:
    other = Replica(one.world, "other")
    inode = other.make("f", "x")
    one.make("mine", "y")
    (update,) = other.log
    number, epoch, raw = update
    before, log = one.store.tables(), len(one.log)
    bad = [
        (number, epoch, raw[:-1]),
        ((number + 1) % 256, epoch, raw),
        (257, epoch, raw),
        (number, (epoch[0] + 1, b"other"), raw),
        (number, epoch, raw.replace(inode.encode(), b"A" * 15 + b"B")),
        (number, epoch, raw.replace(b"\xc4\x01f", b"\xc4\x01/")),
    ]
    for item in bad:
        with pytest.raises(FormatError):
            one.receive([item])  # type: ignore[list-item]
        with pytest.raises(FormatError):
            one.receive([item, update])  # type: ignore[list-item]
    assert one.store.tables() == before
    assert len(one.log) == log
    one.receive([update])
    assert one.show() == {"f": "x", "mine": "y"}
    one.receive([update])
    assert one.show() == {"f": "x", "mine": "y"}
    assert epoch == FIRST_EPOCH


def test_the_same_slot_goes_on_counting_after_a_restart_and_a_rebuild(one: Replica) -> None:
    """No dot is ever given twice."""
    inode = one.make("f", "x")
    dots = {stat(one, "f").version.dot}  # type: ignore[union-attr]
    for count, reload in enumerate([one.tree.unload, one.tree.rebuild_index, one.tree.unload]):
        reload()
        one.write("f", f"y{count}")
        version = stat(one, "f").version
        assert version is not None
        assert version.dot not in dots
        dots.add(version.dot)
    assert one.tree.versions(InodeId(inode))[0].root == b"y2"


def test_a_rebuilt_index_shows_the_same(one: Replica) -> None:
    one.mkdir("d")
    one.make("d/f", "x")
    one.link("d/f", "g")
    one.symlink("s", "target")
    one.mkfifo("p")
    one.make("t", "new")
    one.rename("t", "g2")
    before, counts = observe(one.tree), one.tree.counts()
    one.tree.rebuild_index()
    assert_same(observe(one.tree), before)
    assert one.tree.counts() == counts
    assert (counts.files, counts.directories, counts.conflicts) == (4, 1, 0)


def test_effects_tell_the_history_what_changed(one: Replica) -> None:
    one.make("f", "x")
    with one.group() as group:
        group.set_mode(one.entry("f").inode, 0o600, stamp=one.tree.tick())
        group.rename(ROOT, one.entry("f"), ROOT, b"g", over=None, stamp=one.tree.tick())
        group.unlink(ROOT, one.entry("g"), stamp=one.tree.tick())
        change = group.finish()
    assert [effect.kind for effect in change.effects] == ["mode", "name", "remove"]
    assert all(effect.slot == one.slot for effect in change.effects)
    assert (ROOT, b"f") in change.names
    assert (ROOT, b"g") in change.names
    assert ROOT in change.touched
