"""What one device removes or rewrites in a mass is held, and shown as it was until somebody decides."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from dittofs.errors import ReadOnlyVolume
from dittofs.tree.brake import Limits
from dittofs.tree.entry import Entry
from dittofs.tree.holds import encoded
from dittofs.tree.record import NewVersion
from dittofs.tree.setting_back import SetBack
from dittofs.tree.view import view
from tests.property.held_records import with_holds
from tests.property.tree_replicas import assert_same, observe
from tests.simulation.replica_rig import ReplicaRig, pull
from tests.simulation.rig import SimulatedClock

FILES = 24
MANY = Limits(files_min=10)
SECOND = 1_000_000_000


class Devices:
    """Replicas of one volume, whose groups are carried by hand, with time in one place."""

    def __init__(self, *labels: str, files: int = FILES) -> None:
        self.clock = SimulatedClock()
        self.rigs = [ReplicaRig(label, seed=n, clock=self.clock) for n, label in enumerate(labels, 1)]
        for rig in self.rigs:
            rig.tree.brake.limits = MANY
        first = self.rigs[0]
        first.mkdir("d")
        for number in range(files):
            first.make(path(number), b"content %d" % number)
        self.settle()

    def settle(self) -> None:
        """Everybody hears of everything, by rounds."""
        for _ in range(2):
            for one in self.rigs:
                for other in self.rigs:
                    if one is not other:
                        pull(one, other)
        for rig in self.rigs:
            rig.changes.clear()

    def carry(self, giver: ReplicaRig) -> None:
        """What a device did since it was asked last reaches the others, group by group."""
        groups = [change.updates for change in giver.changes if change.updates and not change.via]
        giver.changes.clear()
        for rig in self.rigs:
            if rig is not giver:
                for updates in groups:
                    rig.replica.receive(updates, giver.label.encode().ljust(32, b"\0"))
                rig.changes[:] = [change for change in rig.changes if not change.via]


def path(number: int) -> str:
    return f"d/f{number}"


def check(rig: ReplicaRig) -> None:
    """The index is what the documents say, but for what is held; also when it is made anew."""
    for _ in range(2):
        records = with_holds(rig.records(), rig.tree.brake.holds.shown())
        assert_same(observe(rig.tree), view(records, rig.label_of))
        rig.tree.unload()
    before = rig.show()
    rig.replica.renew_index()
    assert rig.show() == before
    assert_same(observe(rig.tree), view(records, rig.label_of))


def remove_all(rig: ReplicaRig, numbers: Sequence[int] = range(FILES)) -> None:
    for number in numbers:
        rig.unlink(path(number))


def held(rig: ReplicaRig) -> int:
    return len(rig.tree.brake.holds.all)


def accept(rig: ReplicaRig) -> None:
    rig.replica.show_held(list(rig.tree.brake.holds.all))


def reject(rig: ReplicaRig) -> None:
    for inode in list(rig.tree.brake.holds.all):
        rig.do(lambda group, _, inode=inode: group.take_back(inode))  # type: ignore[misc]


def test_a_mass_of_removals_is_held_group_by_group_and_shown_as_it_was() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    remove_all(a)
    devices.carry(a)
    assert b.show() == before
    assert held(b) == FILES
    assert a.show() == {"d": b"/"}
    check(b)


def test_a_mass_that_a_round_brings_is_held_whole() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    before = b.show()
    remove_all(a)
    pull(c, a)
    pull(b, c)  # by way of another: who wrote counts, not who brought it
    assert b.show() == before
    assert held(b) == FILES
    check(b)
    check(c)


def test_less_than_too_much_is_not_held() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    remove_all(a, range(9))
    devices.carry(a)
    assert held(b) == 0
    assert len(b.show()) == FILES - 9 + 1


def test_removals_over_a_long_time_are_no_mass_even_if_they_arrive_at_once() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    for number in range(FILES):
        a.unlink(path(number))
        devices.clock.advance(10)
    pull(b, a)
    assert held(b) == 0
    assert b.show() == {"d": b"/"}


def test_a_mass_of_rewritten_files_is_held() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    for number in range(FILES):
        a.write(path(number), b"your files are encrypted %d" % number)
    devices.carry(a)
    assert b.show() == before
    check(b)


def test_files_moved_over_others_count_once_and_are_held_as_they_were() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    for number in range(FILES):
        a.make("d/temporary", b"encrypted %d" % number)
        a.rename("d/temporary", path(number))
    devices.carry(a)
    assert b.show() == before
    check(b)


def test_a_file_keeps_its_number_when_it_is_taken_back_from_a_save() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    numbers = {n: b.tree.stat(b.entry(path(n)).ref) for n in range(FILES)}
    for number in range(FILES):
        a.make("d/temporary", b"encrypted %d" % number)
        a.rename("d/temporary", path(number))
    devices.carry(a)
    reject(b)
    for number in range(FILES):
        was, now = numbers[number], b.tree.stat(b.entry(path(number)).ref)
        assert was is not None
        assert now is not None
        assert now.number == was.number
    check(b)


def test_who_may_only_read_sees_what_was_and_may_accept_it() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    b.replica.refused = "this device may read the volume, and not change it"
    before = b.show()
    remove_all(a)
    devices.carry(a)
    assert b.show() == before
    with pytest.raises(ReadOnlyVolume):
        reject(b)
    assert b.show() == before
    accept(b)
    assert b.show() == a.show()
    check(b)


def test_a_whole_tree_that_was_removed_is_shown_with_its_directories() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    remove_all(a)
    entry = a.entry("d")
    a.do(lambda group, stamp: group.rmdir(a.place("d")[0], entry, stamp=stamp))
    devices.carry(a)
    assert a.show() == {}
    assert b.show() == before
    check(b)


def test_what_is_made_here_is_never_held() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    remove_all(a)
    assert held(a) == 0
    devices.carry(a)
    reject(b)
    b.changes.clear()
    remove_all(b)
    assert b.show() == {"d": b"/"}
    assert held(b) == 0


def test_accepting_shows_what_the_device_did_and_all_agree() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    remove_all(a)
    devices.carry(a)
    accept(b)
    assert b.show() == a.show() == {"d": b"/"}
    assert held(b) == 0
    check(b)
    devices.settle()
    assert b.records() == a.records()


def test_rejecting_brings_everything_back_everywhere() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    before = b.show()
    remove_all(a)
    entry = a.entry("d")
    a.do(lambda group, stamp: group.rmdir(a.place("d")[0], entry, stamp=stamp))
    devices.carry(a)
    reject(b)
    assert held(b) == 0
    check(b)
    devices.settle()
    assert a.show() == b.show() == before
    reject(c)  # decided there already; nothing is left to be done
    devices.settle()
    assert a.show() == b.show() == c.show() == before
    for rig in devices.rigs:
        check(rig)


def test_rejecting_rewritten_files_brings_their_contents_back() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    reject(b)
    assert b.show() == before
    devices.settle()
    assert a.show() == before
    check(b)


def test_rejecting_loses_nothing_that_a_third_device_wrote_meanwhile() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    c.tree.brake.limits = replace(MANY, is_on=False)
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    c.write(path(3), b"of cedar")
    devices.carry(c)
    assert b.show()[path(3)] == b"content 3"
    reject(b)
    devices.settle()
    for rig in devices.rigs:
        shown = rig.show()
        assert {content for name, content in shown.items() if name.startswith("d/f3")} == {
            b"content 3",
            b"of cedar",
        }
        check(rig)


def test_a_held_file_that_is_written_here_is_this_devices_again() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    remove_all(a)
    devices.carry(a)
    b.write(path(0), b"wanted")
    b.rename(path(1), "d/renamed")
    b.unlink(path(2))
    assert held(b) == FILES - 3
    check(b)
    accept(b)
    devices.settle()
    assert a.show() == b.show() == {"d": b"/", path(0): b"wanted", "d/renamed": b"content 1"}


def test_a_held_rewritten_file_that_is_written_here_shows_that_and_no_conflict() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    b.write(path(0), b"wanted")
    assert b.show()[path(0)] == b"wanted"
    reject(b)
    devices.settle()
    assert a.show() == b.show()
    assert a.show() == {"d": b"/", path(0): b"wanted"} | {path(n): b"content %d" % n for n in range(1, FILES)}


def test_a_file_made_in_a_held_directory_keeps_it() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    remove_all(a)
    entry = a.entry("d")
    a.do(lambda group, stamp: group.rmdir(a.place("d")[0], entry, stamp=stamp))
    devices.carry(a)
    b.make("d/fresh", b"fresh")
    check(b)
    accept(b)
    devices.settle()
    assert a.show() == b.show() == {"d": b"/", "d/fresh": b"fresh"}


def test_what_is_held_outlives_a_crash() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    remove_all(a)
    devices.carry(a)
    b.restart()
    b.tree.brake.limits = MANY
    assert b.show() == before
    assert held(b) == FILES
    check(b)
    reject(b)
    devices.settle()
    assert a.show() == b.show() == before


@pytest.mark.logs_warning("rows of held inodes are damaged")
def test_a_held_row_that_is_damaged_is_made_anew_and_nothing_changes_its_face() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    remove_all(a)
    devices.carry(a)
    b.replica.journal._rows._statements.run(
        "local",
        "UPDATE local SET value = x'00' WHERE kind='held' AND key=?",
        (min(b.tree.brake.holds.all).encode(),),
    )
    b.restart()
    b.tree.brake.limits = MANY
    assert b.show() == before
    assert held(b) == FILES
    reject(b)
    devices.settle()
    assert a.show() == b.show() == before


def test_the_rest_of_a_mass_is_held_too_and_later_single_changes_are_not() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    remove_all(a, range(12))
    devices.carry(a)
    b.restart()
    b.tree.brake.limits = MANY
    remove_all(a, range(12, 14))
    devices.carry(a)
    assert held(b) == 14
    devices.clock.advance(61)
    remove_all(a, [14])
    devices.carry(a)
    assert held(b) == 14
    assert path(14) not in b.show()


def test_a_file_that_was_changed_here_meanwhile_is_not_taken_back() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    for number in range(5):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    b.write(path(0), b"mine")
    for number in range(5, FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    assert b.show()[path(0)] == b"mine"
    assert b.show()[path(1)] == b"content 1"
    check(b)


def test_the_first_sync_never_brakes() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    a.tree.brake.limits = b.tree.brake.limits = replace(MANY, is_on=False)
    remove_all(a, range(20))
    devices.carry(a)
    late = ReplicaRig("late", seed=9, clock=devices.clock)
    late.tree.brake.limits = MANY
    pull(late, a)
    assert held(late) == 0
    assert late.show() == a.show()


def test_files_written_twice_and_as_they_were_again_are_no_loss() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    for number in range(9):
        a.write(path(number), b"another branch %d" % number)
        a.write(path(number), b"content %d" % number)
    a.unlink(path(20))
    devices.carry(a)
    assert held(b) == 0


def test_a_link_made_to_a_held_file_keeps_its_content() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    remove_all(a)
    devices.carry(a)
    entry = b.entry(path(5))
    b.do(lambda group, stamp: group.link(entry.ref, b.place("kept")[0], b"kept", stamp=stamp))
    check(b)
    accept(b)
    devices.settle()
    assert a.show() == b.show()
    assert a.show()["kept"] == b"content 5"


def test_setting_a_held_file_back_keeps_what_a_third_device_wrote_to_it_meanwhile() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    c.tree.brake.limits = replace(MANY, is_on=False)
    inode = b.entry(path(3)).inode
    first = b.tree.version((inode, None))
    assert first is not None
    b.write(path(3), b"second")
    devices.settle()
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    c.write(path(3), b"a day of work")
    devices.carry(a)
    devices.carry(c)
    assert b.show()[path(3)] == b"second"
    shown = b.tree.versions(inode)[:1]
    older = NewVersion(first.root, first.size, first.mtime, b"")
    back = SetBack(contents=(older,), replaces=frozenset(one.dot for one in shown))
    b.do(lambda group, stamp: group.set_back(inode, back, stamp=stamp))
    check(b)
    accept(b)
    devices.settle()
    for rig in devices.rigs:
        of_it = [content for name, content in rig.show().items() if name.startswith("d/f3")]
        assert sorted(of_it) == [b"a day of work", b"content 3"]


def test_what_was_refused_elsewhere_is_held_no_more() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    before = c.show()
    remove_all(a)
    entry = a.entry("d")
    a.do(lambda group, stamp: group.rmdir(a.place("d")[0], entry, stamp=stamp))
    devices.carry(a)
    reject(b)
    devices.carry(b)
    assert held(c) == 0
    assert a.show() == b.show() == c.show() == before
    for rig in devices.rigs:
        check(rig)


def test_what_was_refused_elsewhere_is_held_no_more_by_a_device_that_was_away() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    before = c.show()
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    c.restart()
    c.tree.brake.limits = MANY
    reject(b)
    pull(c, b)
    assert held(c) == 0
    assert c.show() == before
    check(c)


def test_what_is_held_and_was_taken_back_before_this_device_looked_ends_when_it_starts() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    before = c.show()
    remove_all(a)
    devices.carry(a)
    rows = [(inode, c.tree.brake.holds.get(inode)) for inode in c.tree.brake.holds.all]
    reject(b)
    devices.carry(b)
    with c.replica.journalled():  # as who let nothing end by itself has left them
        for inode, hold in rows:
            assert hold is not None
            known = encoded({"": c.records()[inode]})
            c.tree.brake.holds.put(inode, msgspec.structs.replace(hold, known=known))
    assert held(c) == FILES
    c.restart()
    assert held(c) == 0
    assert c.show() == before
    check(c)


def test_what_was_partly_taken_back_elsewhere_is_held_but_for_that_and_accepting_keeps_it() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    remove_all(a)
    devices.carry(a)
    b.write(path(0), b"wanted")
    b.rename(path(1), "d/renamed")
    b.do(lambda group, _: group.take_back(b.entry(path(2)).inode))
    devices.carry(b)
    back = {"d/renamed": b"content 1", path(0): b"wanted", path(2): b"content 2"}
    assert held(c) == FILES - 3
    assert back.items() <= c.show().items()
    assert c.show()[path(3)] == b"content 3"
    check(c)
    accept(c)
    assert c.show() == {"d": b"/"} | back
    check(c)


def test_a_removed_file_that_is_rewritten_by_its_remover_stays_held() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    before = c.show()
    remove_all(a)
    devices.carry(a)
    reject(b)
    devices.settle()
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    assert held(b) == held(c) == FILES
    assert b.show() == c.show() == before


def test_files_taken_back_elsewhere_only_to_be_encrypted_are_held_of_that_device() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    before = c.show()
    remove_all(a)
    devices.carry(a)
    for number in range(FILES):
        b.write(path(number), b"encrypted %d" % number)
    devices.carry(b)
    assert c.show() == before
    assert [one.device for one in c.tree.brake.holds.tally()] == ["birch"]
    check(c)
    reject(c)
    devices.settle()
    assert a.show() == c.show() == before


def test_the_first_that_a_writer_does_counts_as_its_device_s() -> None:
    devices = Devices("alder", "birch", files=12)
    a, b = devices.rigs
    a.restart()
    remove_all(a, range(12))
    devices.carry(a)
    assert [(one.device, one.removed) for one in b.tree.brake.holds.tally()] == [("alder", 12)]


def test_a_damaged_row_of_a_rewritten_file_ends_no_hold() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = b.show()
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    with b.replica.journalled():
        for inode in list(b.tree.brake.holds.all):
            b.replica.journal.delete_local("held", inode.encode("ascii"))
            assert b.tree.brake.hold_again(inode)
    b.restart()
    assert b.show() == before
    assert held(b) == FILES


def set_all_back(rig: ReplicaRig, entries: Sequence[Entry], text: str) -> None:
    """Bring removed files back at their names, with contents that begin with `text`."""
    for number, entry in enumerate(entries):
        root = f"{text} {number}".encode()
        content = NewVersion(root, len(root), 0, b"")
        back = SetBack(names={"": rig.place(path(number))}, contents=(content,))
        with rig.group() as group:
            group.set_back(entry.inode, back, stamp=rig.tree.tick())


def test_a_device_that_takes_its_own_removals_back_is_held_no_more() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = a.show()
    entries = [a.entry(path(number)) for number in range(FILES)]
    remove_all(a)
    devices.carry(a)
    set_all_back(a, entries, "content")
    devices.carry(a)
    assert held(b) == 0
    assert a.show() == b.show() == before
    check(b)


def test_a_device_that_brings_what_it_removed_back_as_something_else_is_held_on() -> None:
    devices = Devices("alder", "birch")
    a, b = devices.rigs
    before = a.show()
    entries = [a.entry(path(number)) for number in range(FILES)]
    remove_all(a)
    devices.carry(a)
    set_all_back(a, entries, "encrypted")
    devices.carry(a)
    assert b.show() == before
    assert [(one.device, one.removed) for one in b.tree.brake.holds.tally()] == [("alder", FILES)]
    check(b)
    reject(b)
    devices.settle()
    assert a.show() == before


def test_a_rewritten_file_that_a_third_device_went_on_with_stays_held_until_somebody_decides() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    c.tree.brake.limits = replace(MANY, is_on=False)
    for number in range(FILES):
        a.write(path(number), b"encrypted %d" % number)
    devices.carry(a)
    c.write(path(3), b"of cedar")
    devices.carry(c)
    assert held(b) == FILES
    assert b.show()[path(3)] == b"content 3"
    accept(b)
    assert b.show()[path(3)] == b"of cedar"


def test_a_conflict_that_was_resolved_just_before_a_mass_is_part_of_it_and_refusing_loses_neither() -> None:
    devices = Devices("alder", "birch", "cedar")
    a, b, c = devices.rigs
    a.make("d/twice", b"of alder")
    b.make("d/twice", b"of birch")
    devices.settle()
    aside = next(name for name in a.show() if name.startswith("d/twice ("))
    before = b.show()
    a.unlink(aside)
    devices.carry(a)
    assert aside not in b.show()
    remove_all(a)
    devices.carry(a)
    assert held(b) == FILES + 1
    assert b.show() == before
    reject(b)
    devices.settle()
    assert a.show() == b.show() == c.show() == before
    for rig in devices.rigs:
        assert held(rig) == 0
        check(rig)
    a.unlink(aside)
    devices.carry(a)
    assert aside not in c.show()
    devices.clock.advance(61)
    remove_all(a)
    devices.carry(a)
    assert held(b) == FILES
    assert aside not in b.show()


@pytest.mark.parametrize("entries", [1, 3])
def test_refusing_brings_back_a_file_and_what_stood_beside_it_each_under_its_name(entries: int) -> None:
    devices = Devices("alder", "birch", *("cedar", "elder")[: entries - 1], files=12)
    a, b, *_ = devices.rigs
    for number in range(12):
        for rig in devices.rigs:
            devices.clock.advance(1)
            rig.write(path(number), b"%d of %s" % (number, rig.label.encode()))
    devices.settle()
    devices.clock.advance(1_000)
    before = b.show()
    assert a.show() == before
    assert len(before) == 1 + 12 * len(devices.rigs)
    for one in sorted(before):
        if one != "d":
            a.unlink(one)
    devices.carry(a)
    assert b.show() == before
    assert held(b) == 12
    reject(b)
    assert b.show() == before
    devices.settle()
    assert a.show() == before
    check(b)
