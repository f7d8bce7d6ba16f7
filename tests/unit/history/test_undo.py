"""Undo: what one device did goes back, as new operations, and nothing that others did is lost by it."""

from collections import Counter

from dittofs.history.retention import DAY_S, HOUR_S
from dittofs.history.undo import OTHERS, Window
from dittofs.history.undoing import Step, slots_of, undo
from dittofs.history.versions import log_below
from dittofs.ids import Stamp
from dittofs.tree.brake import Limits
from dittofs.volume.volume import Volume
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

END = Stamp((1 << 62) - 1)


async def undone(
    rig: Rig,
    device: str,
    since: int,
    *,
    until: int = END,
    under: bytes = b"",
    dry_run: bool = False,
    may_fetch: bool = True,
) -> list[Step]:
    window = Window(slots_of(rig.volume, device), Stamp(since), Stamp(until))
    steps = undo(rig.volume, device, window, under=under, dry_run=dry_run, may_fetch=may_fetch)
    found = [step async for step in steps]
    await rig.publish()
    return found


def now(pair: Pair) -> int:
    """Later than all that happened, on both devices."""
    clocks = (pair.a.clock, pair.b.clock)
    times = [clock.now_ns() for clock in clocks]
    for clock in clocks:
        clock.advance(10)
    return max(times) + 1_000_000_000


def kinds(steps: list[Step]) -> dict[str, int]:
    return dict(Counter(step.kind for step in steps))


def shown(volume: Volume) -> list[str]:
    tree = volume.replica.tree
    found: list[str] = []
    ahead = [(volume.root.id, "")]
    while ahead:
        directory, path = ahead.pop()
        for entry in tree.listing(directory):
            found.append(path + entry.name.decode())
            if entry.kind.name == "DIRECTORY":
                ahead.append((entry.inode, found[-1] + "/"))
    return sorted(found)


async def filled(pair: Pair) -> None:
    """A tree that both devices have, with its contents."""
    pair.a.mkdir("d")
    pair.a.mkdir("d/sub")
    for name in ("d/one", "d/two", "d/sub/three"):
        await pair.a.write(name, name.encode() * 40)
    await pair.settle()
    for name in ("d/one", "d/two", "d/sub/three"):
        await pair.b.fetch(name)
    await pair.b.write("of the phone", b"phone")
    await pair.settle()


async def remove_tree(rig: Rig) -> None:
    for name in ("d/one", "d/two", "d/sub/three"):
        await rig.unlink(name)
    await rig.rmdir("d/sub")
    await rig.rmdir("d")


async def test_a_removed_tree_comes_back_at_its_names_with_its_contents(pair: Pair) -> None:
    await filled(pair)
    before = shown(pair.b.volume)
    since = now(pair)
    await remove_tree(pair.a)
    await pair.settle()
    assert shown(pair.b.volume) == ["of the phone"]
    steps = await undone(pair.b, "laptop", since)
    assert kinds(steps) == {"back": 5}
    assert sorted(step.path for step in steps) == [b"d", b"d/one", b"d/sub", b"d/sub/three", b"d/two"]
    assert shown(pair.b.volume) == before
    await pair.settle()
    assert shown(pair.a.volume) == before
    assert pair.a.read("d/sub/three") == b"d/sub/three" * 40


async def test_a_file_and_what_stood_beside_it_come_back_each_under_its_name(pair: Pair) -> None:
    await filled(pair)
    await pair.a.write("d/one", b"of the laptop")
    await pair.b.write("d/one", b"of the phone")
    await pair.settle()
    before = shown(pair.b.volume)
    (aside,) = (name for name in before if name.startswith("d/one ("))
    contents = {name: await pair.b.fetch(name) for name in ("d/one", aside)}
    assert len(set(contents.values())) == 2
    since = now(pair)
    await pair.a.unlink("d/one")
    await pair.a.unlink(aside)
    await pair.settle()
    await undone(pair.b, "laptop", since)
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert await rig.fetch("d/one") == contents["d/one"]
        (again,) = (name for name in shown(rig.volume) if name.startswith("d/one ("))
        assert await rig.fetch(again) == contents[aside]


async def test_the_log_names_what_came_back_and_who_had_it_back(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    await remove_tree(pair.a)
    await pair.settle()
    await undone(pair.b, "laptop", since)
    await pair.settle()
    paths = {b"d", b"d/sub", b"d/one", b"d/two", b"d/sub/three"}
    for rig in (pair.a, pair.b):
        events = [one for one in log_below(rig.volume.replica, b"") if one is not None]
        back = {(one.path, one.device) for one in events if one.what == "back"}
        assert back == {(path, pair.b.volume.replica.label) for path in paths}
        removed = {(one.path, one.device) for one in events if one.what == "removed"}
        assert removed == {(path, "laptop") for path in paths}
        below = [one for one in log_below(rig.volume.replica, b"d") if one is not None]
        assert {one.path for one in below} == paths


async def test_running_it_again_does_nothing(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    await remove_tree(pair.a)
    await pair.a.write("made", b"made")
    await pair.settle()
    assert kinds(await undone(pair.b, "laptop", since)) == {"back": 5, "trash": 1}
    before = shown(pair.b.volume)
    assert await undone(pair.b, "laptop", since) == []
    assert shown(pair.b.volume) == before


async def test_half_of_an_undo_is_completed_by_the_next_one(pair: Pair) -> None:
    await filled(pair)
    before = shown(pair.b.volume)
    since = now(pair)
    await remove_tree(pair.a)
    await pair.settle()
    assert kinds(await undone(pair.b, "laptop", since, under=b"d/sub")) == {"back": 2}
    assert kinds(await undone(pair.b, "laptop", since)) == {"back": 3}
    assert shown(pair.b.volume) == before


async def test_a_dry_run_tells_the_same_and_changes_nothing(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    await remove_tree(pair.a)
    pair.a.mkdir("made")
    await pair.a.write("made/file", b"made")
    await pair.settle()
    before = shown(pair.b.volume)
    planned = await undone(pair.b, "laptop", since, dry_run=True)
    assert shown(pair.b.volume) == before
    assert [(step.kind, step.path, step.size) for step in planned] == [
        (step.kind, step.path, step.size) for step in await undone(pair.b, "laptop", since)
    ]


async def test_contents_names_modes_and_times_go_back(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    was = pair.b.stat("d/one")
    await pair.a.write("d/one", b"rewritten")
    await pair.a.write("d/one", b"rewritten twice")
    await pair.a.rename("d/two", "d/sub/moved")
    await pair.a.rename("d/sub/moved", "moved again")
    pair.a.chmod("d/sub/three", 0o600)
    await pair.settle()
    steps = await undone(pair.b, "laptop", since)
    assert kinds(steps) == {"content": 1, "name": 1, "attributes": 1}
    assert shown(pair.b.volume) == ["d", "d/one", "d/sub", "d/sub/three", "d/two", "of the phone"]
    assert pair.b.read("d/one") == b"d/one" * 40
    assert pair.b.stat("d/one").mtime == was.mtime
    assert pair.b.stat("d/one").number == was.number
    assert pair.b.stat("d/sub/three").mode & 0o777 == 0o644
    await pair.settle()
    assert shown(pair.a.volume) == shown(pair.b.volume)
    assert pair.a.read("d/one") == b"d/one" * 40


async def test_what_the_device_made_goes_unless_others_have_changed_it(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    pair.a.mkdir("made")
    await pair.a.write("made/mine", b"mine")
    await pair.a.write("made/ours", b"ours")
    await pair.a.write("gone", b"gone")
    await pair.settle()
    await pair.b.write("made/ours", b"edited by the phone")
    await pair.settle()
    steps = await undone(pair.b, "laptop", since)
    assert kinds(steps) == {"trash": 2, "left": 2}
    assert {step.path: step.reason for step in steps if step.kind == "left"}[b"made/ours"] == OTHERS
    assert [name for name in shown(pair.b.volume) if name.startswith(("made", "gone"))] == [
        "made",
        "made/ours",
    ]
    assert pair.b.read("made/ours") == b"edited by the phone"


async def test_what_somebody_else_wrote_afterwards_is_left_and_told(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    await pair.a.write("d/one", b"by the laptop")
    await pair.settle()
    await pair.b.fetch("d/one")
    await pair.b.write("d/one", b"by the phone, on top")
    await pair.settle()
    steps = await undone(pair.b, "laptop", since)
    assert [(step.kind, step.path, step.reason) for step in steps] == [("left", b"d/one", OTHERS)]
    assert pair.b.read("d/one") == b"by the phone, on top"


async def test_only_what_was_done_since_and_until_is_undone(pair: Pair) -> None:
    await filled(pair)
    await pair.a.unlink("d/one")
    since = now(pair)
    await pair.a.unlink("d/two")
    until = now(pair)
    now(pair)
    await pair.a.unlink("d/sub/three")
    await pair.settle()
    steps = await undone(pair.b, "laptop", since, until=until)
    assert [(step.kind, step.path) for step in steps] == [("back", b"d/two")]
    assert shown(pair.b.volume) == ["d", "d/sub", "d/two", "of the phone"]


async def test_what_another_device_did_is_not_undone(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    await pair.b.unlink("of the phone")
    await pair.a.unlink("d/one")
    await pair.settle()
    assert [step.path for step in await undone(pair.b, "laptop", since)] == [b"d/one"]
    assert slots_of(pair.b.volume, "nobody") == frozenset()


async def test_an_undo_can_be_undone(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    await remove_tree(pair.a)
    await pair.a.write("made", b"made")
    await pair.settle()
    removed = shown(pair.b.volume)
    again = now(pair)
    await undone(pair.b, "laptop", since)
    assert kinds(await undone(pair.b, "phone", again)) == {"back": 1, "trash": 5}
    assert shown(pair.b.volume) == removed


async def test_a_name_that_is_taken_meanwhile_loses_neither_file(pair: Pair) -> None:
    await filled(pair)
    since = now(pair)
    await pair.a.unlink("d/one")
    await pair.settle()
    await pair.b.write("d/one", b"another file of this name")
    await pair.settle()
    assert kinds(await undone(pair.b, "laptop", since)) == {"back": 1}
    names = [name for name in shown(pair.b.volume) if name.startswith("d/one")]
    assert len(names) == 2
    assert {pair.b.read(name) for name in names} == {b"another file of this name", b"d/one" * 40}


async def test_names_of_one_file_come_back_and_go_one_by_one(pair: Pair) -> None:
    await filled(pair)
    pair.a.link("d/one", "second")
    await pair.settle()
    since = now(pair)
    pair.a.link("d/two", "third")
    await pair.a.unlink("second")
    await pair.settle()
    before = shown(pair.b.volume)
    steps = await undone(pair.b, "laptop", since)
    assert kinds(steps) == {"name": 2}
    assert set(shown(pair.b.volume)) ^ set(before) == {"second", "third"}
    assert pair.b.read("second") == b"d/one" * 40
    assert pair.b.stat("second").nlink == 2


async def test_a_file_removed_with_all_its_names_gets_all_of_them_back(pair: Pair) -> None:
    await filled(pair)
    pair.a.link("d/one", "second")
    await pair.settle()
    since = now(pair)
    await pair.a.unlink("second")
    await pair.a.unlink("d/one")
    await pair.settle()
    assert kinds(await undone(pair.b, "laptop", since)) == {"back": 1}
    assert pair.b.stat("second").nlink == 2
    assert pair.b.stat("d/one").number == pair.b.stat("second").number


async def test_an_old_content_that_nobody_here_can_have_is_left_and_told(pair: Pair) -> None:
    await pair.a.write("f", bytes(range(256)) * 2000)
    await pair.settle()
    since = now(pair)
    await pair.a.write("f", b"short")
    await pair.settle()
    (step,) = await undone(pair.b, "laptop", since, may_fetch=False)
    assert (step.kind, step.missing) == ("left", 512_000)
    assert await pair.b.fetch("f") == b"short"
    (step,) = await undone(pair.b, "laptop", since)
    assert (step.kind, step.missing) == ("content", 512_000)
    assert await pair.b.fetch("f") == bytes(range(256)) * 2000


async def test_undo_of_a_device_whose_batch_is_held_refuses_it(pair: Pair) -> None:
    await filled(pair)
    before = shown(pair.b.volume)
    pair.b.volume.replica.tree.brake.limits = Limits(files_min=2)
    since = now(pair)
    await remove_tree(pair.a)
    await pair.settle()
    assert shown(pair.b.volume) == before
    steps = await undone(pair.b, "laptop", since)
    assert kinds(steps) == {"refused": 5}
    await pair.settle()
    assert shown(pair.a.volume) == shown(pair.b.volume) == before
    assert await undone(pair.b, "laptop", since) == []


async def test_undo_after_accepting_brings_all_back(pair: Pair) -> None:
    await filled(pair)
    before = shown(pair.b.volume)
    replica = pair.b.volume.replica
    replica.tree.brake.limits = Limits(files_min=2)
    since = now(pair)
    await remove_tree(pair.a)
    await pair.settle()
    replica.show_held(list(replica.tree.brake.holds.all))
    assert shown(pair.b.volume) == ["of the phone"]
    assert kinds(await undone(pair.b, "laptop", since)) == {"back": 5}
    await pair.settle()
    assert shown(pair.a.volume) == before


async def test_what_others_did_stays_apart_in_a_history_that_was_thinned(pair: Pair) -> None:
    a, b = pair.a, pair.b  # the laptop and the phone

    async def passing(seconds: int) -> None:
        for rig in (a, b):
            rig.clock.advance(seconds)

    for name in ("content", "name"):
        await a.write(name, b"v1")
    await pair.settle()
    await passing(HOUR_S - b.clock.now_ns() // 10**9 % HOUR_S + 60)
    since = b.clock.now_ns()
    await a.write("unmade", b"empty form")
    await pair.settle()
    for name in ("content", "unmade"):
        await b.fetch(name)
        await b.write(name, b"a day of work of the phone")
    await b.rename("name", "named by the phone")
    await pair.settle()
    await passing(600)
    for name in ("content", "unmade"):
        await a.fetch(name)
        await a.write(name, b"a day of work of the phone, one comma moved")
    await a.rename("named by the phone", "named by the laptop")
    await pair.settle()
    await passing(2 * DAY_S)
    await b.retention.thin()
    steps = await undone(b, "laptop", since)
    await pair.settle()
    for rig in (a, b):
        assert rig.listing("") == ["content", "named by the phone", "unmade"]
    assert await b.fetch("content") == b"a day of work of the phone"
    assert kinds(steps) == {"content": 1, "name": 1, "left": 1}
