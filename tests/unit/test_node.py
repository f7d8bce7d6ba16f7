"""What a node remembers of its volumes."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar, TypeVarTuple

import pytest
import trio
import trio.testing

from dittofs.clock import SystemClock, system_entropy
from dittofs.config import Paths, Settings
from dittofs.errors import Damaged, DiskError, DiskFull, DittoError, FormatError
from dittofs.home import Home
from dittofs.node import Node

Result = TypeVar("Result")
Args = TypeVarTuple("Args")


async def run_later(function: Callable[[*Args], Result], /, *args: *Args) -> Result:
    """Run `function`; the registry is replaced only once every other task has done what it can."""
    if function.__name__ == "_save":
        await trio.testing.wait_all_tasks_blocked()
    else:
        await trio.lowlevel.checkpoint()
    return function(*args)


def node(home: Path, nursery: trio.Nursery) -> Node:
    paths = Paths.find({"DITTOFS_HOME": str(home)})
    return Node(
        paths,
        Settings("laptop"),
        clock=SystemClock(),
        entropy=system_entropy,
        run_blocking=run_later,
        nursery=nursery,
    )


async def test_a_volume_made_while_another_is_remembered_is_in_the_registry(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        one = node(tmp_path, nursery)
        one.start()
        await one.open("A", trusts_root=False)
        async with trio.open_nursery() as both:
            both.start_soon(partial(one.remember, "A", "/mnt", (), is_mounted=True))
            both.start_soon(partial(one.open, "B", trusts_root=False))
        await one.close()
        again = node(tmp_path, nursery)
        again.start()
        assert again.names() == ["A", "B"]
        assert again.record("A").path == "/mnt"
        await again.close()


async def test_a_place_that_is_not_utf_8_is_remembered(tmp_path: Path) -> None:
    place = os.fsdecode(b"/mnt/z\xff")
    async with trio.open_nursery() as nursery:
        one = node(tmp_path, nursery)
        one.start()
        await one.open("A", trusts_root=False)
        await one.remember("A", place, (), is_mounted=True)
        await one.open("B", trusts_root=False)
        await one.close()
        again = node(tmp_path, nursery)
        again.start()
        assert again.record("A").path == place
        assert again.volume_at(place) == "A"
        await again.remember("A", "/mnt/plain", (), is_mounted=False)
        await again.close()
        last = node(tmp_path, nursery)
        last.start()
        assert last.volume_at("/mnt/plain") == "A"
        await last.close()


@pytest.mark.parametrize(
    ("error", "is_damaged"),
    [
        (DiskError("journal.db: open: unable to open database file"), False),
        (DiskFull("journal.db: log: no room left"), False),
        (FormatError("journal.db has format 3; this program knows format 2"), False),
        (Damaged("chunks/00000001.pack", "journal.db"), False),
        (Damaged("journal.db: header", "a page fails its checksum"), True),
    ],
)
async def test_a_journal_is_made_anew_for_damage_only_and_for_no_passing_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: DittoError, is_damaged: bool
) -> None:
    def fail(*_: object) -> NoReturn:
        raise error

    async with trio.open_nursery() as nursery:
        one = node(tmp_path, nursery)
        one.start()
        monkeypatch.setattr(Home, "open_replica", fail)
        with pytest.raises(type(error)):
            await one.open("A", trusts_root=False)
        assert one.failure("A") == str(error)
        assert one.is_journal_damaged("A") == is_damaged
        await one.close()
