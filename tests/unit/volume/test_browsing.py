"""A volume read without a mount."""

import errno
import os
import random
from collections.abc import AsyncIterator

import pytest

from dittofs.errors import FSError
from dittofs.ids import ROOT
from dittofs.volume.browsing import PART_BYTES, Browsing
from dittofs.volume.state import Caller
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

BIG = random.Random(3).randbytes(3 << 20)


async def test_a_file_published_while_it_is_read_is_read_to_its_end(rig: Rig) -> None:
    data = os.urandom(3 * PART_BYTES)
    await rig.write("a", data)
    _, parts = Browsing(rig.volume).read([b"a"], 0, -1)
    found = await anext(parts)
    await rig.publish()
    await rig.volume.files.sync()
    assert found + b"".join([part async for part in parts]) == data
    assert rig.disk.listdir("staging") == []


async def test_a_file_that_is_elsewhere_is_fetched(pair: Pair) -> None:
    await pair.a.write("f", BIG)
    await pair.settle()
    _, parts = Browsing(pair.b.volume).read([b"f"], 0, -1)
    assert b"".join([part async for part in parts]) == BIG
    assert pair.from_a.prefetched, "the next part was asked for while this one was handed out"


async def test_both_kinds_of_conflict_are_marked(pair: Pair) -> None:
    await pair.a.write("versions", b"base")
    await pair.settle()
    for rig, content in ((pair.a, b"from a"), (pair.b, b"from b")):
        await rig.write("versions", content)
        await rig.write("names", content)
    await pair.settle()
    seen = list(Browsing(pair.b.volume).walk([], recursive=True))
    assert sum(one.is_conflict for one in seen) == pair.b.volume.summary().conflicts == 2
    assert {one.path for one in seen if not one.is_conflict} == {b"versions", b"names"}
    for one in seen:
        (again,) = Browsing(pair.b.volume).walk([one.path], recursive=True)
        assert again.is_conflict == one.is_conflict


async def test_what_a_listing_says_is_missing_is_what_a_read_would_fetch(pair: Pair) -> None:
    await pair.a.write("big", BIG)
    await pair.a.write("small", b"x" * 100)
    await pair.a.write("empty", b"")
    await pair.settle()
    await pair.b.write("mine", b"here")
    browsing = Browsing(pair.b.volume)

    def missing() -> dict[bytes, int]:
        return {seen.path: seen.missing_bytes for seen in browsing.walk([], recursive=True)}

    assert missing() == {b"big": len(BIG), b"small": 100, b"empty": 0, b"mine": 0}
    await pair.b.fetch("big", 0, 1)
    assert 0 < missing()[b"big"] < len(BIG)
    handle = pair.b.open_file("small", os.O_RDWR)
    await pair.b.write_at(handle, 10, b"y" * 50)
    assert missing()[b"small"] == 50
    await pair.b.write_at(handle, 0, b"y" * 100)
    assert missing()[b"small"] == 0, "nothing of it shows any more"
    pair.b.close_file(handle)
    await pair.b.fetch("big")
    assert missing()[b"big"] == 0


@pytest.mark.parametrize("names", [[b".dittofs"], [b".dittofs", b"m"]])
@pytest.mark.parametrize("replace", [True, False])
async def test_nothing_is_added_under_the_reserved_name(rig: Rig, names: list[bytes], replace: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"

    caller = Caller(0, 0, os.getpid())
    with pytest.raises(FSError) as refused:
        await Browsing(rig.volume).add(
            names, parts(), caller=caller, mode=0o644, mtime=None, parents=True, replace=replace
        )
    assert refused.value.errno == errno.EPERM
    assert rig.volume.replica.tree.lookup(ROOT, b".dittofs") is None
