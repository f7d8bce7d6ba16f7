"""Three devices and more, however joined: all converge, nothing is lost, nothing returns from the dead."""

import os
import random
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from dittofs.tree.shard import GARBAGE_ITEMS_MIN
from tests.e2e.alike import are_alike, assert_alike
from tests.e2e.network import Device, Network, eventually
from tests.e2e.processes import Child

COMPACTED = "event='a document was compacted'"
GARBAGE = 4 * GARBAGE_ITEMS_MIN
"""Changes after which a document is surely due."""


def row_of(net: Network, *labels: str) -> list[Device]:
    """Devices of which each has a cable to the next only. All but the last may invite."""
    devices = [net.device(label) for label in labels]
    devices[0].found()
    for one, other in pairwise(devices):
        net.cable(one, other)
        one.share_with(other, role="writer" if other is devices[-1] else "owner")
    return devices


def at_once(*works: Callable[[], object]) -> None:
    """Do all at the same time; what one raises is raised."""
    children = [Child(work) for work in works]
    try:
        for child in children:
            child.result()
    finally:
        for child in children:
            child.end()


def work(root: Path, name: str, seed: int) -> None:
    """Write, rename, link, replace and remove files of one's own and, once in a while, everybody's."""
    chance = random.Random(seed)
    (root / name).mkdir()
    for number in range(40):
        path = root / name / f"{number}"
        path.write_bytes(f"{name} {number} ".encode() + chance.randbytes(chance.choice([10, 5_000, 150_000])))
        match number % 8:
            case 1:
                path.rename(root / name / f"{number} renamed")
            case 2:
                path.unlink()
            case 3:
                os.link(path, root / f"{number} of {name}")
            case 4:
                path.chmod(0o600)
            case 5:
                path.write_text(f"{name} {number} again")
            case 6:
                (root / "everybody's").write_text(f"{name} {number}")
            case 7:
                (root / f"shared {number}").mkdir(exist_ok=True)
                (root / f"shared {number}" / name).write_text(name)


def assert_worked(root: Path, name: str) -> None:
    """All that `work` leaves is there, and nothing that it removed."""
    expected = {
        f"{number} renamed" if number % 8 == 1 else f"{number}" for number in range(40) if number % 8 != 2
    }
    assert set(os.listdir(root / name)) == expected
    for entry in expected:
        assert (root / name / entry).read_bytes().startswith(f"{name} {entry.split()[0]} ".encode())
    for number in range(3, 40, 8):
        assert (root / f"{number} of {name}").stat().st_nlink == 2
    for number in range(7, 40, 8):
        assert (root / f"shared {number}" / name).read_text() == name


def settle(*devices: Device) -> float:
    """All devices become alike; seconds it took."""
    took_s = eventually(lambda: are_alike(*devices), 30, "all devices show the same")
    assert_alike(*devices)
    return took_s


def test_three_in_a_row_hear_each_other_through_the_one_between(net: Network) -> None:
    a, b, c = row_of(net, "alder", "birch", "cedar")
    at_once(*(partial(work, device.root, device.label, seed) for seed, device in enumerate((a, b, c))))
    settle(a, b, c)
    for device in (a, b, c):
        assert_worked(a.root, device.label)
    net.pull(a, b)
    (a.root / "file").write_text("of alder")
    (a.root / "alder/0").unlink()
    (c.root / "file").write_text("of cedar, later")
    (c.root / "cedar/0").unlink()
    net.plug(a, b)
    settle(a, b, c)
    assert (a.root / "file").read_text() == "of alder", "the earliest keeps the name"
    assert len([name for name in os.listdir(b.root) if name.startswith("file")]) == 2
    for device in (a, b, c):
        assert not (device.root / "alder/0").exists()
        assert not (device.root / "cedar/0").exists()


def test_a_ring_whose_cables_come_and_go_converges(net: Network) -> None:
    devices = row_of(net, "alder", "birch", "cedar", "dogwood")
    a, _, c, d = devices
    net.cable(d, a)
    over = threading.Event()

    def unsettle() -> None:
        cables = [*pairwise(devices), (d, a)]
        chance = random.Random(4)
        while not over.wait(chance.uniform(0.05, 0.4)):
            cable = chance.choice(cables)
            net.pull(*cable)
            over.wait(chance.uniform(0.05, 0.4))
            net.plug(*cable)

    pulling = threading.Thread(target=unsettle)
    pulling.start()
    try:
        at_once(*(partial(work, device.root, device.label, seed) for seed, device in enumerate(devices)))
    finally:
        over.set()
        pulling.join()
    settle(*devices)
    for device in devices:
        assert_worked(c.root, device.label)
    remains = sorted(path for path in c.root.iterdir() if path.name.startswith("everybody's"))
    assert remains, "whoever wrote it last, it is there"


def test_a_device_that_joins_in_the_middle_of_writes_has_all_of_them(
    pair: tuple[Network, Device, Device],
) -> None:
    net, a, b = pair
    c = net.device("cedar")
    net.cable(a, c)
    ticket = a.invite()
    writers = [Child(partial(work, device.root, device.label, seed)) for seed, device in enumerate((a, b))]
    try:
        c.join(ticket)
        (c.root / "cedar was here").write_text("while others write")
        for writer in writers:
            writer.result()
    finally:
        for writer in writers:
            writer.end()
    settle(a, b, c)
    for device in (a, b):
        assert_worked(c.root, device.label)


def rewrite(root: Path, names: list[str]) -> None:
    """Make garbage: the mode of each file and the name of its second link, again and again."""
    for number in range(GARBAGE // 2):
        for name in names:
            (root / name).chmod(0o600 + number % 8)
            (root / f"{name} link {number % 2}").rename(root / f"{name} link {1 - number % 2}")


def compactions(device: Device) -> int:
    return (device.home / "state/daemon.log").read_text().count(COMPACTED)


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.soak)], ids=["one", "ten"])
def test_one_absent_through_many_compactions_brings_nothing_back_and_loses_nothing(
    three: tuple[Network, Device, Device, Device], rounds: int
) -> None:
    net, a, b, c = three
    names = [f"file{number}" for number in range(4)]
    for name in (*names, "dead", "dead with a new name", "revived"):
        (a.root / name).write_text(name)
    for name in names:
        os.link(a.root / name, a.root / f"{name} link 0")
    (a.root / "d").mkdir()
    (a.root / "d/inside").write_text("inside")
    settle(a, b, c)
    net.pull(a, c)
    net.pull(b, c)

    (c.root / "of cedar").write_text("written while absent")
    (c.root / "file0").write_text("cedar wrote this")
    (c.root / "revived").write_text("written by cedar, removed by alder")
    (a.root / "dead").unlink()
    (a.root / "dead with a new name").rename(a.root / "renamed")
    (a.root / "renamed").unlink()
    (a.root / "revived").unlink()
    (a.root / "d/inside").unlink()
    (a.root / "d").rmdir()
    for number in range(rounds):
        seen = compactions(a) + compactions(b)
        at_once(partial(rewrite, a.root, names[:2]), partial(rewrite, b.root, names[2:]))
        # Four files lie in four documents, or in fewer: chance gives each of 256 its files.
        eventually(lambda seen=seen: compactions(a) + compactions(b) >= seen + 2, 30, "compaction")  # type: ignore[misc]
        (a.root / f"round {number}").write_text("made meanwhile")
    (c.root / "file1").chmod(0o640)

    net.plug_all()
    settle(a, b, c)
    assert (a.root / "of cedar").read_text() == "written while absent"
    assert (a.root / "file0").read_text() == "cedar wrote this"
    assert (a.root / "revived").read_text() == "written by cedar, removed by alder"
    assert (a.root / "file1").stat().st_mode & 0o777 == 0o640
    for device in (a, b, c):
        assert sorted(os.listdir(device.root)) == sorted(
            [
                *names,
                *(f"{name} link 0" for name in names),
                "of cedar",
                "revived",
                *(f"round {number}" for number in range(rounds)),
            ]
        )
    c.crash()
    settle(a, b, c)


def open_or_make(root: Path, name: str) -> None:
    for number in range(200):
        with (root / f"common {number}").open("a") as file:
            file.write(name)


def test_opening_or_making_a_file_never_fails_because_the_other_side_made_it_meanwhile(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    at_once(partial(open_or_make, a.root, "alder"), partial(open_or_make, b.root, "birch"))
    settle(a, b)
    for number in range(200):
        texts = [
            path.read_text() for path in a.root.iterdir() if path.name.split(" (")[0] == f"common {number}"
        ]
        assert "".join(sorted(texts)).count("alder") >= 1
        assert any("birch" in text for text in texts)
