"""Merging by base and by rule, on two devices at once."""

import os
from pathlib import Path

import pytest
import trio

from dittofs.errors import FSError
from dittofs.merging.drivers import Drivers
from dittofs.merging.merge import Merging, NotMerged
from dittofs.merging.policy import Policies, Rule, encode_rule, rules_in, setting_name
from dittofs.merging.task import BUSY_S, OTHERS_S, SETTLE_S, Merger
from dittofs.tree.record import Version
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

BASE = b"one\ntwo\nthree\nfour\nfive\n"
OF_A = b"ONE\ntwo\nthree\nfour\nfive\n"
OF_B = b"one\ntwo\nthree\nfour\nFIVE\n"
BOTH = b"ONE\ntwo\nthree\nfour\nFIVE\n"


async def apart(
    pair: Pair, path: str = "f.txt", base: bytes = BASE, one: bytes = OF_A, other: bytes = OF_B
) -> None:
    await pair.a.write(path, base)
    await pair.settle()
    assert await pair.b.fetch(path) == base
    await pair.a.write(path, one)
    pair.b.clock.advance(2)
    await pair.b.write(path, other)
    await pair.settle()


def version(rig: Rig, path: str) -> Version:
    found = rig.volume.replica.tree.version(rig.walk(path).ref)
    assert found is not None
    return found


def mergers(pair: Pair) -> tuple[Merger, Merger]:
    a, b = (Merger(rig.volume, Merging(rig.volume)) for rig in (pair.a, pair.b))
    return a, b


async def run(*found: Merger, after_s: float = SETTLE_S) -> None:
    """Each looks at what it has to look at within that time."""
    for merger in found:
        await merger.step(trio.current_time() + after_s)


async def shown(pair: Pair) -> list[dict[str, bytes]]:
    await pair.settle()
    return [{name: await rig.fetch(name) for name in rig.listing("")} for rig in (pair.a, pair.b)]


async def test_every_publication_names_what_it_replaces(pair: Pair) -> None:
    await apart(pair)
    merging = Merging(pair.a.volume)
    versions = merging.versions(pair.a.walk("f.txt").id)
    base = await merging.base([versions[0].node[-32:]], [versions[1].node[-32:]])  # type: ignore[list-item]
    assert base is not None
    assert await merging.read(base.root, base.size) == BASE


async def test_clean_edits_of_two_devices_are_merged_by_both_at_once_into_one_version(pair: Pair) -> None:
    a, b = mergers(pair)
    await apart(pair)
    await run(a, b)
    assert await shown(pair) == [{"f.txt": BOTH}] * 2
    await run(a, b)
    assert await shown(pair) == [{"f.txt": BOTH}] * 2
    assert version(pair.a, "f.txt").node == version(pair.b, "f.txt").node


async def test_what_was_merged_is_the_base_of_the_next_merge(pair: Pair) -> None:
    a, b = mergers(pair)
    await apart(pair)
    await run(a, b)
    await pair.settle()
    await pair.a.write("f.txt", BOTH.replace(b"two", b"TWO"))
    await pair.b.write("f.txt", BOTH.replace(b"four", b"FOUR"))
    await pair.settle()
    await run(a, b)
    assert await shown(pair) == [{"f.txt": b"ONE\nTWO\nthree\nFOUR\nFIVE\n"}] * 2


async def test_both_versions_stay_in_the_history_of_a_merge(pair: Pair) -> None:
    await apart(pair)
    inode = pair.a.walk("f.txt").id
    roots = [one.root for one in pair.a.volume.replica.tree.versions(inode)]
    merging = Merging(pair.a.volume)
    await merging.write(await merging.merged(inode, b"f.txt"))
    rows = list(pair.a.volume.replica.journal.history.of_inode(inode))
    assert all(any(root in row.before for row in rows) for root in roots)


async def test_an_edit_made_while_the_others_merge_is_not_lost(pair: Pair) -> None:
    a, _ = mergers(pair)
    await apart(pair)
    await run(a)
    await pair.b.write("f.txt", OF_B.replace(b"three", b"THREE"))
    assert await shown(pair) != [{"f.txt": BOTH}] * 2
    await run(a)
    assert await shown(pair) == [{"f.txt": b"ONE\ntwo\nTHREE\nfour\nFIVE\n"}] * 2


async def test_what_touches_the_same_lines_stays_a_conflict_and_is_not_tried_again_and_again(
    pair: Pair,
) -> None:
    a, b = mergers(pair)
    await apart(pair, other=b"Uno\ntwo\nthree\nfour\nfive\n")
    with pytest.raises(NotMerged, match="both changed the same lines"):
        await Merging(pair.a.volume).merged(pair.a.walk("f.txt").id, b"f.txt")
    before = [version(rig, "f.txt").dot for rig in (pair.a, pair.b)]
    for _ in range(3):
        await run(a, b)
        await pair.settle()
    assert [len(rig.listing("")) for rig in (pair.a, pair.b)] == [2, 2]
    assert [version(rig, "f.txt").dot for rig in (pair.a, pair.b)] == before


@pytest.mark.parametrize("name", ["data.json", "picture.svg", "uv.lock"])
async def test_text_that_lines_do_not_make_whole_is_kept_both(pair: Pair, name: str) -> None:
    a, b = mergers(pair)
    await apart(pair, name)
    await run(a, b)
    assert [len(files) for files in await shown(pair)] == [2, 2]


async def test_binaries_are_kept_both(pair: Pair) -> None:
    a, b = mergers(pair)
    await apart(pair, "f.txt", BASE + b"\0", OF_A + b"\0", OF_B + b"\0")
    await run(a, b)
    assert [len(files) for files in await shown(pair)] == [2, 2]


async def test_nothing_below_a_git_directory_is_merged_whatever_the_rules(pair: Pair) -> None:
    set_rules(pair.a, Rule(1, "*", "merge"))
    pair.a.mkdir(".git")
    a, b = mergers(pair)
    await apart(pair, ".git/config")
    await run(a, b)
    await pair.settle()
    assert [len(rig.listing(".git")) for rig in (pair.a, pair.b)] == [2, 2]


async def test_a_file_that_is_open_for_writing_is_left_alone_until_it_is_closed(pair: Pair) -> None:
    a, _ = mergers(pair)
    await apart(pair)
    handle = pair.a.open_file("f.txt", os.O_RDWR)
    await run(a)
    assert len(pair.a.listing("")) == 2
    pair.a.close_file(handle)
    await run(a)
    assert len(pair.a.listing("")) == 2
    await run(a, after_s=BUSY_S)
    assert pair.a.read("f.txt") == BOTH


async def test_a_device_that_wrote_neither_side_leaves_it_to_the_others_first(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apart(pair)
    merger = Merger(pair.a.volume, Merging(pair.a.volume))
    tree = pair.a.volume.replica.tree
    monkeypatch.setattr(tree, "is_own", lambda _slot: False)
    merger.look_again()
    await run(merger)
    assert len(pair.a.listing("")) == 2
    await run(merger, after_s=OTHERS_S)
    assert pair.a.read("f.txt") == BOTH


def set_rules(rig: Rig, *rules: Rule) -> None:
    with rig.volume.replica.change() as change:
        for rule in rules:
            change.group.set_setting(setting_name(rule.pattern), encode_rule(rule))


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ([Rule(1, "*.txt", "newest")], OF_B),
        ([Rule(1, "*.txt", "mine", "laptop")], OF_A),
        ([Rule(1, "*.txt", "mine", "phone")], OF_B),
        ([Rule(1, "*.txt", "newest"), Rule(2, "f*", "mine", "laptop")], OF_A),
    ],
)
async def test_a_rule_chooses_the_same_version_on_both_devices_at_once(
    pair: Pair, rules: list[Rule], kept: bytes
) -> None:
    set_rules(pair.a, *rules)
    a, b = mergers(pair)
    await apart(pair)
    await run(a, b)
    assert await shown(pair) == [{"f.txt": kept}] * 2
    await run(a, b)
    assert await shown(pair) == [{"f.txt": kept}] * 2


async def test_a_rule_that_is_set_later_ends_what_is_there(pair: Pair) -> None:
    a, b = mergers(pair)
    await apart(pair, other=b"Uno\n")
    await run(a, b)
    assert [len(files) for files in await shown(pair)] == [2, 2]
    set_rules(pair.b, Rule(1, "f.txt", "mine", "laptop"))
    await pair.settle()
    await run(a, b)
    assert await shown(pair) == [{"f.txt": OF_A}] * 2


async def test_a_rule_about_a_device_that_wrote_no_side_keeps_both(pair: Pair) -> None:
    set_rules(pair.a, Rule(1, "*", "mine", "tablet"))
    a, b = mergers(pair)
    await apart(pair)
    await run(a, b)
    assert [len(files) for files in await shown(pair)] == [2, 2]


async def test_what_a_conflict_needs_from_elsewhere_is_fetched(pair: Pair) -> None:
    await pair.a.write("f.txt", BASE)
    await pair.a.write("f.txt", OF_A)
    await pair.publish()
    await apart(pair)
    fresh = Merging(pair.b.volume)
    merge = await fresh.merged(pair.b.walk("f.txt").id, b"f.txt")
    assert merge.data == BOTH


async def test_a_merge_is_not_written_over_what_changed_meanwhile(pair: Pair) -> None:
    await apart(pair)
    merging = Merging(pair.a.volume)
    merge = await merging.merged(pair.a.walk("f.txt").id, b"f.txt")
    await pair.a.write("f.txt", b"newer")
    await pair.a.publish()
    with pytest.raises(FSError):
        await merging.write(merge)
    assert pair.a.read("f.txt") == b"newer"


async def test_a_program_of_the_settings_merges_what_is_not_text(pair: Pair, tmp_path: Path) -> None:
    program = tmp_path / "join"
    program.write_text('#!/bin/sh\ncat "$1" "$2" "$3" > "$4"\n')
    program.chmod(0o755)
    await apart(pair, "f.bin", b"\0base ", b"\0a ", b"\0b ")
    merging = Merging(pair.b.volume)
    merging.drivers = Drivers({"*.bin": (str(program), "{base}", "{ours}", "{theirs}", "{out}")})
    merger = Merger(pair.b.volume, merging)
    merger.look_again()
    await run(merger)
    assert await shown(pair) == [{"f.bin": b"\0base \0a \0b "}] * 2


@pytest.mark.parametrize(
    "script", ["exit 1", "exit 0", "kill -9 $$"], ids=["refuses", "makes nothing", "dies"]
)
async def test_a_program_that_makes_nothing_leaves_the_conflict(
    pair: Pair, tmp_path: Path, script: str
) -> None:
    program = tmp_path / "join"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    await apart(pair, "f.bin", b"\0base ", b"\0a ", b"\0b ")
    merging = Merging(pair.b.volume)
    merging.drivers = Drivers({"*.bin": (str(program), "{out}")})
    with pytest.raises(Exception, match=r"cannot merge them|ended by signal"):
        await merging.merged(pair.b.walk("f.bin").id, b"f.bin")
    assert len(pair.b.listing("")) == 2


def test_the_last_rule_that_matches_counts_and_a_rule_nobody_understands_does_not() -> None:
    settings = {
        setting_name(pattern): encode_rule(rule)
        for pattern, rule in {
            "*.txt": Rule(2, "*.txt", "newest"),
            "notes/": Rule(3, "notes/", "both"),
            "*.json": Rule(4, "*.json", "merge"),
            "x": Rule(5, "x", "no such policy"),
        }.items()
    }
    broken = {"conflict-policy/zzz": b"?", "conflict-policy/yyy": b"\x94\x01\xa1\xff\xa1\xff\xa0"}
    broken["conflict-policy/xxx"] = b"\x95\x01\xa1a\xa4mine\xa0" + b"\x91" * 30_000
    policies = Policies(rules_in({**settings, **broken, "copies": b"all"}))
    found = {path: policies.of(path) for path in (b"a.txt", b"notes/a.txt", b"b.json", b"x", b"y.svg")}
    assert {path: rule and rule.policy for path, rule in found.items()} == {
        b"a.txt": "newest", b"notes/a.txt": "both", b"b.json": "merge", b"x": None, b"y.svg": "both",
    }  # fmt: skip


async def test_a_file_saved_by_renaming_a_published_one_over_it_has_its_past_and_is_merged(
    pair: Pair,
) -> None:
    """As many editors do it; some sync the file first, so that it is published under its other name."""
    await pair.a.write("f.txt", BASE)
    await pair.settle()
    assert await pair.b.fetch("f.txt") == BASE
    await pair.a.write("f.txt.tmp", OF_A)
    await pair.a.publish()
    await pair.a.rename("f.txt.tmp", "f.txt")
    pair.b.clock.advance(2)
    await pair.b.write(".f.swp", OF_B)
    await pair.b.publish()
    await pair.b.rename(".f.swp", "f.txt")
    a, b = mergers(pair)
    await pair.settle()
    await run(a, b)
    assert await shown(pair) == [{"f.txt": BOTH}] * 2
