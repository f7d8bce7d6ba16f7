"""The past, taken back row by row, is what was seen at the time."""

import random

from dittofs.errors import FSError
from dittofs.history.past import Backwards, PastEntry, Pasts
from dittofs.ids import ROOT
from dittofs.tree.record import Kind
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

Shown = dict[str, tuple[object, ...]]


def seen(rig: Rig, path: str = "") -> Shown:
    """Everything below a path as programs see it."""
    found: Shown = {}
    for name in rig.listing(path):
        below = f"{path}/{name}" if path else name
        stat = rig.stat(below)
        inode = rig.walk(below)
        version = rig.volume.replica.tree.version(inode.ref)
        found[below] = (stat.kind, version.content if version else None)
        if inode.ref[1] is None:
            found[below] += (stat.mode,)
        if stat.kind is Kind.FILE:
            found[below] += (stat.mtime,)
        if stat.kind is Kind.DIRECTORY:
            found |= seen(rig, below)
    return found


def was(rig: Rig, at: int) -> Shown:
    """The same at a time, from the history."""
    pasts = Pasts(rig.volume.replica)
    found: Shown = {}

    def look(prefix: str, entry: PastEntry) -> None:
        for name, below in pasts.entries(entry.inodes, at).items():
            path = prefix + name.decode()
            past = pasts.of(below.inodes[0], at)
            assert past is not None
            content = (below.content.root, below.content.size) if below.content else None
            found[path] = (below.kind, content)
            if not below.is_aside or below.content == past.main:
                found[path] += (past.mode if past.mode is not None else 0o644,)
            if below.kind is Kind.FILE:
                assert below.content is not None
                found[path] += (below.content.mtime,)
            if below.kind is Kind.DIRECTORY:
                look(path + "/", below)

    look("", PastEntry(b"", Kind.DIRECTORY, (ROOT,)))
    return found


FILES = ["a", "b", "d/a", "d/b", "e/a"]


async def act(rig: Rig, chance: random.Random, names: list[str], kinds: int) -> None:
    """Something that a user does."""
    one, other = chance.choice(names), chance.choice(names)
    try:
        match chance.randrange(kinds):
            case 0 | 1:
                await rig.write(one, chance.randbytes(chance.randrange(40)))
            case 2:
                await rig.unlink(one)
            case 3:
                await rig.rename(one, other)
            case 4:
                rig.link(one, other)
            case 5:
                rig.chmod(one, chance.choice((0o600, 0o640, 0o755)))
            case 6:
                rig.mkdir(one)
            case 7:
                await rig.rmdir(one)
    except FSError:
        pass
    await rig.publish()


async def test_every_moment_can_be_seen_again(rig: Rig) -> None:
    for seed in range(12):
        chance = random.Random(seed)
        moments = []
        for _ in range(25):
            await act(rig, chance, [*FILES, "d", "e"], 8)
            moments.append((rig.volume.replica.journal.history.last_at, seen(rig)))
        for at, shown in moments:
            assert was(rig, at) == shown


async def test_every_moment_of_a_device_that_hears_of_another_late_can_be_seen_again(pair: Pair) -> None:
    pair.a.mkdir("d")
    pair.a.mkdir("e")
    await pair.settle()
    for seed in range(6):
        chance = random.Random(seed)
        moments = []
        for number in range(24):
            await act(pair.a, chance, FILES, 6)
            await act(pair.b, chance, FILES, 6)
            if number % 4 == 3:
                await pair.settle()
            history = pair.a.volume.replica.journal.history
            moments.append((history.last_at, {k: v[:2] for k, v in seen(pair.a).items()}))
        for at, shown in moments:
            then = {path: one[:2] for path, one in was(pair.a, at).items()}
            # How conflict entries are called depends on what stands beside them now.
            assert sorted(map(str, then.values())) == sorted(map(str, shown.values()))


async def test_a_removed_file_is_found_by_the_path_it_had(rig: Rig) -> None:
    rig.mkdir("d")
    await rig.write("d/f", b"first")
    await rig.publish()
    first = rig.walk("d/f").id
    await rig.unlink("d/f")
    await rig.write("d/f", b"second")
    await rig.publish()
    second = rig.walk("d/f").id
    pasts = Pasts(rig.volume.replica)
    assert pasts.had_path([b"d", b"f"]) == [second, first]
    await rig.unlink("d/f")
    await rig.rmdir("d")
    assert pasts.had_path([b"d", b"f"]) == [second, first]
    assert pasts.had_path([b"d", b"g"]) == []


async def test_going_backwards_says_where_things_were_then(rig: Rig) -> None:
    rig.mkdir("d")
    await rig.write("d/f", b"x")
    await rig.publish()
    await rig.rename("d", "e")
    await rig.rename("e/f", "g")
    back = Backwards(rig.volume.replica)
    found = [(row.kind, back.path(row.inode, row.at, after)) for row, after, _ in back]
    assert found == [
        ("name", b"g"),
        ("name", b"e"),
        ("content", b"d/f"),
        ("create", b"d/f"),
        ("create", b"d"),
    ]


async def test_a_round_that_brings_a_save_in_the_wrong_order_can_be_taken_back(pair: Pair) -> None:
    a, b = pair.a, pair.b
    for number in range(12):  # their documents stand in any order
        await a.write(f"t{number}", b"new %d" % number)
        await a.write(f"f{number}", b"old %d" % number)
    await pair.settle()
    at, before = b.volume.replica.journal.history.last_at, seen(b)
    for number in range(12):
        await a.rename(f"t{number}", f"f{number}")
    states = b.volume.replica.states()
    parts = [a.volume.replica.difference(number, state) for number, state in enumerate(states)]
    assert b.volume.replica.receive_round([part for part in parts if part is not None], b"a" * 32)
    assert b.listing("") == sorted(f"f{number}" for number in range(12))
    assert was(b, at) == before
