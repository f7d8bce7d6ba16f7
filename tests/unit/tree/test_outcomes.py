"""Every row of the table of concurrent outcomes: two replicas, apart, then together.

Each pair runs in both orders of delivery; afterwards both show the same, and the index equals the oracle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from dittofs.tree.tree import Kind
from tests.property.tree_replicas import Replica, World, check_against_oracle, exchange_all

Act = Callable[[Replica], object]
Shown = dict[str, str]


@dataclass
class Apart:
    """Two replicas that share a beginning; `meet` brings them together in one of the orders of delivery."""

    a: Replica
    b: Replica
    order: int

    def both(self, first: Act, second: Act) -> Shown:
        """`first` at a, and `second`, made later, at b; then everything is exchanged."""
        first(self.a)
        second(self.b)
        return self.meet()

    def meet(self) -> Shown:
        exchange_all([self.a, self.b] if self.order == 0 else [self.b, self.a])
        for replica in (self.a, self.b):
            check_against_oracle(replica)
        shown = self.a.show()
        assert shown == self.b.show()
        return shown


@pytest.fixture(params=[0, 1], ids=["a first", "b first"])
def apart(request: pytest.FixtureRequest) -> Apart:
    world = World()
    return Apart(Replica(world, "a"), Replica(world, "b"), request.param)


def begin(apart: Apart, act: Act) -> None:
    act(apart.a)
    exchange_all([apart.a, apart.b])


def plain(shown: Shown) -> Shown:
    """Without what stands aside."""
    return {path: what for path, what in shown.items() if "(conflict, " not in path}


def aside(shown: Shown) -> list[str]:
    """The contents that stand aside."""
    return sorted(what for path, what in shown.items() if "(conflict, " in path.rpartition("/")[2])


def test_create_create_of_one_name_keeps_both_and_the_earliest_has_the_name(apart: Apart) -> None:
    shown = apart.both(lambda a: a.make("f", "one"), lambda b: b.make("f", "two"))
    assert plain(shown) == {"f": "one"}
    assert aside(shown) == ["two"]


def test_create_and_mkdir_of_one_name_leave_the_name_to_the_directory(apart: Apart) -> None:
    shown = apart.both(lambda a: a.make("f", "one"), lambda b: b.mkdir("f"))
    assert plain(shown) == {"f": "/"}
    assert aside(shown) == ["one"]


def test_two_directories_of_one_name_are_merged_recursively(apart: Apart) -> None:
    def one(a: Replica) -> None:
        a.mkdir("d")
        a.mkdir("d/e")
        a.make("d/e/x", "x")

    def two(b: Replica) -> None:
        b.mkdir("d")
        b.mkdir("d/e")
        b.make("d/e/y", "y")

    assert apart.both(one, two) == {"d": "/", "d/e": "/", "d/e/x": "x", "d/e/y": "y"}
    assert apart.a.tree.stat(apart.a.entry("d").ref) is not None
    for replica in (apart.a, apart.b):
        attributes = replica.tree.stat(replica.entry("d").ref)
        assert attributes is not None
        assert len(attributes.members) == 2
        assert attributes.nlink == 3


def test_write_write_keeps_both_and_the_latest_has_the_name(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    shown = apart.both(lambda a: a.write("f", "one"), lambda b: b.write("f", "two"))
    assert plain(shown) == {"f": "two"}
    assert aside(shown) == ["one"]


def test_of_write_and_unlink_the_written_file_survives(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    assert apart.both(lambda a: a.write("f", "one"), lambda b: b.unlink("f")) == {"f": "one"}


def test_of_unlink_and_write_the_written_file_survives(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    assert apart.both(lambda a: a.unlink("f"), lambda b: b.write("f", "one")) == {"f": "one"}


def test_unlink_unlink_is_gone(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    assert apart.both(lambda a: a.unlink("f"), lambda b: b.unlink("f")) == {}


def test_attributes_do_not_keep_what_is_unlinked(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))

    def attributes(b: Replica) -> None:
        b.chmod("f", 0o600)
        inode = b.entry("f").inode
        with b.group() as group:
            group.set_mtime(inode, 5, stamp=b.tree.tick())
            group.set_xattr(inode, b"user.x", b"1", stamp=b.tree.tick())

    assert apart.both(lambda a: a.unlink("f"), attributes) == {}


@pytest.mark.parametrize("unlink_first", [True, False])
def test_of_rename_and_unlink_the_file_survives_under_the_new_name(apart: Apart, unlink_first: bool) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    acts: list[Act] = [lambda r: r.unlink("f"), lambda r: r.rename("f", "g")]
    first, second = acts if unlink_first else acts[::-1]
    assert apart.both(first, second) == {"g": "old"}


def test_rename_rename_of_one_file_takes_the_later_name(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    assert apart.both(lambda a: a.rename("f", "g"), lambda b: b.rename("f", "h")) == {"h": "old"}


def test_rename_write_gives_the_new_content_under_the_new_name(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    assert apart.both(lambda a: a.rename("f", "g"), lambda b: b.write("f", "one")) == {"g": "one"}


def test_two_files_renamed_to_one_name_are_both_kept(apart: Apart) -> None:
    def files(a: Replica) -> None:
        a.make("f", "one")
        a.make("g", "two")

    begin(apart, files)
    shown = apart.both(lambda a: a.rename("f", "n"), lambda b: b.rename("g", "n"))
    assert plain(shown) == {"n": "one"}
    assert aside(shown) == ["two"]


def test_two_files_renamed_to_each_others_names_are_swapped(apart: Apart) -> None:
    def files(a: Replica) -> None:
        a.make("f", "one")
        a.make("g", "two")

    begin(apart, files)
    assert apart.both(lambda a: a.rename("f", "g"), lambda b: b.rename("g", "f")) == {"f": "two", "g": "one"}


def test_save_save_and_save_write_are_like_write_write(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))

    def save(content: str) -> Act:
        def act(replica: Replica) -> None:
            replica.make(f"tmp-{content}", content)
            assert replica.rename(f"tmp-{content}", "f")

        return act

    shown = apart.both(save("one"), save("two"))
    assert plain(shown) == {"f": "two"}
    assert aside(shown) == ["one"]
    shown = apart.both(save("three"), lambda b: b.write("f", "four"))
    assert plain(shown) == {"f": "four"}
    assert aside(shown) == ["one", "three"]


def two_directories(a: Replica) -> None:
    a.mkdir("x")
    a.make("x/in-x", "1")
    a.mkdir("y")
    a.make("y/in-y", "2")


def test_of_two_directories_moved_below_each_other_the_later_move_is_undone(apart: Apart) -> None:
    begin(apart, two_directories)
    shown = apart.both(lambda a: a.rename("x", "y/x"), lambda b: b.rename("y", "x/y"))
    assert shown == {"y": "/", "y/in-y": "2", "y/x": "/", "y/x/in-x": "1"}


def test_a_cycle_whose_victim_cannot_go_back_ends_in_lost_and_found(apart: Apart) -> None:
    """a moved x below y/q; b moved y/q below x and then y below that: the way back of q is gone, too."""

    def directories(a: Replica) -> None:
        a.mkdir("x")
        a.mkdir("x/p")
        a.mkdir("y")
        a.mkdir("y/q")

    begin(apart, directories)

    def one(a: Replica) -> None:
        a.rename("x", "y/q/x")

    def two(b: Replica) -> None:
        b.rename("y/q", "x/p/q")
        b.rename("y", "x/p/q/y")

    found = ["lost+found", "lost+found/q", "lost+found/q/x", "lost+found/q/x/p", "lost+found/q/y"]
    assert apart.both(one, two) == dict.fromkeys(found, "/")


@pytest.mark.parametrize("act", ["create", "write"])
@pytest.mark.parametrize("removal", ["rm -r", "rmdir"])
def test_a_removed_directory_comes_back_with_only_what_is_new_in_it(
    apart: Apart, act: str, removal: str
) -> None:
    def directory(a: Replica) -> None:
        a.mkdir("d")
        a.mkdir("d/e")
        if removal == "rm -r" or act == "write":
            a.make("d/e/kept", "old")
            a.make("d/e/other", "old")
            a.make("d/top", "old")

    begin(apart, directory)
    shown = apart.both(
        lambda a: a.remove_tree("d"),
        lambda b: b.write("d/e/kept", "new") if act == "write" else b.make("d/e/fresh", "new"),
    )
    name = "kept" if act == "write" else "fresh"
    assert shown == {"d": "/", "d/e": "/", f"d/e/{name}": "new"}
    apart.b.unlink(f"d/e/{name}")
    assert apart.meet() == {}, "what was revived for its sake goes with it"


def test_what_is_moved_out_of_a_removed_directory_survives(apart: Apart) -> None:
    def directory(a: Replica) -> None:
        a.mkdir("d")
        a.make("d/f", "old")
        a.make("d/g", "old2")

    begin(apart, directory)
    assert apart.both(lambda a: a.remove_tree("d"), lambda b: b.rename("d/f", "f")) == {"f": "old"}


def test_a_removed_directory_comes_back_with_what_is_moved_into_it(apart: Apart) -> None:
    def directory(a: Replica) -> None:
        a.mkdir("d")
        a.make("f", "old")

    begin(apart, directory)
    assert apart.both(lambda a: a.rmdir("d"), lambda b: b.rename("f", "d/f")) == {"d": "/", "d/f": "old"}


def test_of_rmdir_and_rename_of_one_directory_the_renamed_one_survives(apart: Apart) -> None:
    begin(apart, lambda a: a.mkdir("d"))
    assert apart.both(lambda a: a.rmdir("d"), lambda b: b.rename("d", "e")) == {"e": "/"}


def test_what_is_created_in_a_renamed_directory_is_in_it(apart: Apart) -> None:
    begin(apart, lambda a: a.mkdir("d"))
    shown = apart.both(lambda a: a.rename("d", "e"), lambda b: b.make("d/f", "new"))
    assert shown == {"e": "/", "e/f": "new"}


def test_attributes_take_the_latest_and_never_touch_the_content(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    assert apart.both(lambda a: a.chmod("f", 0o600), lambda b: b.chmod("f", 0o640)) == {"f": "old"}
    for replica in (apart.a, apart.b):
        attributes = replica.tree.stat(replica.entry("f").ref)
        assert attributes is not None
        assert attributes.mode == 0o640


def test_extended_attributes_take_the_latest_by_name(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))

    def set_to(values: dict[bytes, bytes]) -> Act:
        def act(replica: Replica) -> None:
            with replica.group() as group:
                for name, value in values.items():
                    group.set_xattr(replica.entry("f").inode, name, value, stamp=replica.tree.tick())

        return act

    apart.both(set_to({b"user.a": b"1", b"user.b": b"1"}), set_to({b"user.b": b"2", b"user.c": b"2"}))
    for replica in (apart.a, apart.b):
        expected = {b"user.a": b"1", b"user.b": b"2", b"user.c": b"2"}
        assert replica.tree.xattrs(replica.entry("f").inode) == expected


def test_two_symlinks_of_one_name_are_both_kept_and_equal_ones_shown_once(apart: Apart) -> None:
    shown = apart.both(lambda a: a.symlink("s", "one"), lambda b: b.symlink("s", "two"))
    assert plain(shown) == {"s": "=one"}
    assert aside(shown) == ["=two"]
    shown = apart.both(lambda a: a.symlink("t", "same"), lambda b: b.symlink("t", "same"))
    assert {path: what for path, what in shown.items() if path.startswith("t")} == {"t": "=same"}
    apart.a.unlink("t")
    assert not any(path.startswith("t") for path in apart.meet()), "removing one removes what equals it"


def test_retargeting_a_symlink_twice_is_like_writing_twice(apart: Apart) -> None:
    begin(apart, lambda a: a.symlink("s", "old"))

    def retarget(target: str) -> Act:
        def act(replica: Replica) -> None:
            replica.symlink(f"tmp-{target}", target)
            assert replica.rename(f"tmp-{target}", "s")

        return act

    shown = apart.both(retarget("one"), retarget("two"))
    assert plain(shown) == {"s": "=two"}
    assert aside(shown) == ["=one"]


def test_a_link_keeps_the_content_of_a_name_unlinked_elsewhere(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    assert apart.both(lambda a: a.link("f", "g"), lambda b: b.unlink("f")) == {"g": "old"}


def test_both_names_of_a_linked_file_show_what_is_written(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))
    shown = apart.both(lambda a: a.link("f", "g"), lambda b: b.write("f", "new"))
    assert shown == {"f": "new", "g": "new"}


def test_names_that_differ_by_case_or_unicode_form_are_both_kept(apart: Apart) -> None:
    shown = apart.both(lambda a: a.make("é", "one"), lambda b: b.make("e\u0301", "two"))
    assert shown == {"é": "one", "e\u0301": "two"}
    shown = apart.both(lambda a: a.make("File", "one"), lambda b: b.make("file", "two"))
    assert (shown["File"], shown["file"]) == ("one", "two")


def test_chmod_and_write_utimens_and_chown_are_all_kept(apart: Apart) -> None:
    begin(apart, lambda a: a.make("f", "old"))

    def rest(b: Replica) -> None:
        b.write("f", "new")
        with b.group() as group:
            group.set_mtime(b.entry("f").inode, 77, stamp=b.tree.tick())

    assert apart.both(lambda a: a.chmod("f", 0o600), rest) == {"f": "new"}
    for replica in (apart.a, apart.b):
        attributes = replica.tree.stat(replica.entry("f").ref)
        assert attributes is not None
        assert (attributes.mode, attributes.mtime) == (0o600, 77)


def two_names(a: Replica) -> None:
    a.make("f", "old")
    a.link("f", "g")


def test_unlinking_both_names_of_a_file_apart_removes_it(apart: Apart) -> None:
    begin(apart, two_names)
    assert apart.both(lambda a: a.unlink("f"), lambda b: b.unlink("g")) == {}


@pytest.mark.parametrize("last", ["f", "g"])
def test_a_file_written_while_all_names_go_survives_at_the_name_removed_last(apart: Apart, last: str) -> None:
    begin(apart, two_names)

    def unlink(a: Replica) -> None:
        for name in ("g", "f") if last == "f" else ("f", "g"):
            a.unlink(name)

    assert apart.both(unlink, lambda b: b.write("f", "new")) == {last: "new"}


def test_unlink_of_a_name_renamed_elsewhere_leaves_the_new_name_and_the_other(apart: Apart) -> None:
    begin(apart, two_names)
    shown = apart.both(lambda a: a.unlink("f"), lambda b: b.rename("f", "h"))
    assert shown == {"g": "old", "h": "old"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("unlink", {"f": "new"}),
        ("rename", {"g": "new"}),
        ("link", {"f": "new", "g": "new"}),
    ],
)
def test_a_save_meets_unlink_rename_and_link_of_its_target(apart: Apart, other: str, expected: Shown) -> None:
    begin(apart, lambda a: a.make("f", "old"))

    def save(a: Replica) -> None:
        a.make("t", "new")
        assert a.rename("t", "f")

    acts: dict[str, Act] = {
        "unlink": lambda b: b.unlink("f"),
        "rename": lambda b: b.rename("f", "g"),
        "link": lambda b: b.link("f", "g"),
    }
    assert apart.both(save, acts[other]) == expected


def save_source(a: Replica) -> None:
    a.make("f", "old")
    a.make("h", "old h")
    a.make("t", "new")


def test_a_file_saved_elsewhere_and_written_survives_and_so_does_the_target(apart: Apart) -> None:
    begin(apart, save_source)
    shown = apart.both(lambda a: a.rename("t", "f"), lambda b: b.write("t", "written"))
    assert shown == {"f": "new", "h": "old h", "t": "written"}


def test_a_file_saved_over_two_others_apart_is_the_content_of_both(apart: Apart) -> None:
    begin(apart, save_source)
    shown = apart.both(lambda a: a.rename("t", "f"), lambda b: b.rename("t", "h"))
    assert shown == {"f": "new", "h": "new"}


@pytest.mark.parametrize("act", ["save", "exchange", "replace"])
@pytest.mark.parametrize("half", [0, 1])
def test_half_a_group_shows_every_content(apart: Apart, act: str, half: int) -> None:
    """The author is gone after either half; the other half arrives later."""

    def files(a: Replica) -> None:
        a.make("f", "one")
        a.make("g", "two")
        if act == "replace":
            a.link("g", "other")

    begin(apart, files)
    before = len(apart.a.log)
    if act == "exchange":
        apart.a.exchange("f", "g")
    else:
        assert apart.a.rename("f", "g") == (act == "save")
    updates = apart.a.log[before:]
    assert len(updates) == 2
    apart.b.receive([updates[half]])
    check_against_oracle(apart.b)
    assert "one" in apart.b.show().values()
    if act != "save" or half == 1:
        assert "two" in apart.b.show().values()
    if act == "save" and half == 1:
        assert apart.b.show() == {"f": "one", "g": "two"}, "a tombstone that waits for its save does nothing"
    apart.meet()


def test_two_exchanges_of_one_pair_exchange_once(apart: Apart) -> None:
    def files(a: Replica) -> None:
        a.make("f", "one")
        a.make("g", "two")

    begin(apart, files)
    shown = apart.both(lambda a: a.exchange("f", "g"), lambda b: b.exchange("f", "g"))
    assert shown == {"f": "two", "g": "one"}


def test_a_merged_directory_moved_twice_is_whole_at_the_later_name(apart: Apart) -> None:
    def first(a: Replica) -> None:
        a.mkdir("d")
        a.make("d/one", "1")

    def second(b: Replica) -> None:
        b.mkdir("d")
        b.make("d/two", "2")

    apart.both(first, second)
    shown = apart.both(lambda a: a.rename("d", "x"), lambda b: b.rename("d", "y"))
    assert shown == {"y": "/", "y/one": "1", "y/two": "2"}


def conflicting(apart: Apart) -> str:
    """Both replicas show f = two with one aside; returns the aside's path."""
    begin(apart, lambda a: a.make("f", "old"))
    shown = apart.both(lambda a: a.write("f", "one"), lambda b: b.write("f", "two"))
    (path,) = (path for path in shown if "(conflict, " in path)
    return path


def test_an_edited_conflict_entry_survives_its_removal_elsewhere_and_keeps_its_name(apart: Apart) -> None:
    path = conflicting(apart)
    shown = apart.both(lambda a: a.write(path, "edited"), lambda b: b.unlink(path))
    assert shown == {"f": "two", path: "edited"}


def test_an_edited_conflict_entry_stays_aside_when_the_name_is_removed_elsewhere(apart: Apart) -> None:
    path = conflicting(apart)
    shown = apart.both(lambda a: a.write(path, "edited"), lambda b: b.unlink("f"))
    assert shown == {path: "edited"}


def test_conflict_entries_follow_a_renamed_file(apart: Apart) -> None:
    path = conflicting(apart)
    apart.a.rename("f", "g")
    shown = apart.meet()
    assert shown == {"g": "two", path.replace("f ", "g ", 1): "one"}


def test_a_real_name_wins_against_a_displayed_one(apart: Apart) -> None:
    """b makes a file of the very name under which a conflict entry will be shown."""
    path = conflicting(apart)
    third = Replica(apart.a.world, "c")
    third.make(path, "real")
    for update in third.log:
        apart.a.receive([update])
    shown = apart.meet()
    assert shown[path] == "real"
    assert aside({k: v for k, v in shown.items() if k != path}) == ["one"]
    assert shown == {"f": "two", path: "real", path.replace("Z)", "Z 2)"): "one"}


def test_fifos_live_by_name(apart: Apart) -> None:
    begin(apart, lambda a: a.mkfifo("p"))
    assert apart.both(lambda a: a.unlink("p"), lambda b: b.chmod("p", 0o600)) == {}
    begin(apart, lambda a: a.mkfifo("p"))
    assert apart.both(lambda a: a.unlink("p"), lambda b: b.rename("p", "q")) == {"q": Kind.FIFO.name.lower()}
