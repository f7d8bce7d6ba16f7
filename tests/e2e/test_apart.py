"""Devices that work apart: all they did is kept, and all show the same within seconds of meeting again."""

import os
import time

import pytest

from tests.e2e.alike import are_alike, assert_alike
from tests.e2e.network import Device, Network, eventually
from tests.e2e.outcomes import ROWS, Row, Side

TOGETHER_S = 3.0


# -- both sides work on


def begin(a: Device) -> None:
    """What both know before the cable is pulled."""
    for number in range(20):
        (a.root / f"file{number}").write_text(f"file {number}")
    (a.root / "d").mkdir()
    (a.root / "d/inside").write_text("inside")


def work(device: Device, first: int) -> None:
    """Everything a person does to files, on files from number `first` on; both make one directory."""
    root, name = device.root, device.label
    (root / f"new of {name}").write_bytes(os.urandom(100_000))
    (root / f"file{first}").write_text(f"written by {name}")
    (root / f"file{first + 1}").rename(root / f"renamed by {name}")
    (root / f"file{first + 2}").unlink()
    os.link(root / f"file{first + 3}", root / f"linked by {name}")
    (root / f"file{first + 4}").chmod(0o600)
    (root / "together").mkdir()
    (root / "together" / name).write_text(name)
    (root / "file19").write_text(f"{name} wrote this")  # on both sides
    (root / "d" / name).write_text(name)


@pytest.mark.parametrize("apart_s", [0.0, 5.0])
def test_what_both_sides_did_apart_is_on_both_within_seconds_of_meeting_again(
    pair: tuple[Network, Device, Device], apart_s: float
) -> None:
    net, a, b = pair
    begin(a)
    a.await_in_step()
    net.pull(a, b)
    work(a, 0)
    work(b, 5)
    time.sleep(apart_s)  # retransmissions are further apart the longer a break is
    net.plug(a, b)
    took_s = eventually(lambda: are_alike(a, b), 30, "both trees are identical")
    print(f"identical {took_s:.2f} s after the cable was back")
    a.await_in_step()
    assert_alike(a, b)
    names = os.listdir(a.root)
    for label in ("alder", "birch"):
        assert {f"new of {label}", f"renamed by {label}", f"linked by {label}"} <= set(names)
        assert (b.root / "together" / label).read_text() == label
    written = {(a.root / name).read_text() for name in names if name.startswith("file19")}
    assert written == {"alder wrote this", "birch wrote this"}
    assert not {"file1", "file2", "file6", "file7"} & set(names)
    assert took_s < TOGETHER_S


def test_a_break_without_a_word_from_the_kernel_is_noticed_and_mended(
    pair: tuple[Network, Device, Device],
) -> None:
    """As when a cable is pulled behind the next switch: packets vanish, and no interface goes down."""
    net, a, b = pair
    (a.root / "before").write_text("before")
    a.await_in_step()
    net.lose(a, b)
    (a.root / "of alder").write_text("alder")
    (b.root / "of birch").write_text("birch")
    time.sleep(5)
    net.find(a, b)
    took_s = eventually(lambda: are_alike(a, b), 30, "both trees are identical")
    print(f"identical {took_s:.2f} s after packets arrived again")
    assert_alike(a, b)


# -- the table


def directory_of(row: Row, is_alder_first: bool) -> str:
    return f"{row.name}, {'alder' if is_alder_first else 'birch'} first".replace(" ", "_")


def act(device: Device, other: Device, *, as_first: bool) -> None:
    """Do the device's part of all rows in which it acts first, or in which it acts second."""
    is_alder = device.label == "alder"
    for row in ROWS:
        name = directory_of(row, is_alder == as_first)
        side = Side(device.label, device.root / name, other.root / name, is_second=not as_first)
        (row.alder if is_alder else row.birch)(side)


@pytest.mark.parametrize("is_alder_heard_first", [True, False], ids=["alder's first", "birch's first"])
def test_every_concurrent_pair_has_its_outcome_on_every_device_in_whatever_order_it_is_heard(
    three: tuple[Network, Device, Device, Device], is_alder_heard_first: bool
) -> None:
    net, a, b, c = three
    orders = [(row, is_alder_first) for row in ROWS for is_alder_first in (True, False)]
    for row, order in orders:
        place = a.root / directory_of(row, order)
        place.mkdir()
        row.before(Side("alder", place, place))
    a.await_in_step()
    net.pull_all()
    for row, order in orders:
        name = directory_of(row, order)
        if row.divided is not None:
            for divided, device in zip(row.divided, (a, b), strict=True):
                divided(Side(device.label, device.root / name, device.root / name))
    net.plug_all()
    eventually(lambda: are_alike(a, b, c), 20)

    net.pull_all()
    act(a, b, as_first=True)
    act(b, a, as_first=False)
    act(b, a, as_first=True)
    act(a, b, as_first=False)
    for device in (a, b):
        (device.root / f"all of {device.label}").write_text("done")
    first, second = (a, b) if is_alder_heard_first else (b, a)
    net.plug(first, c)
    eventually((c.root / f"all of {first.label}").exists, 20)
    net.pull(first, c)
    net.plug(second, c)
    eventually((c.root / f"all of {second.label}").exists, 20)
    eventually((second.root / f"all of {first.label}").exists, 20)
    net.pull(second, c)
    net.plug(a, b)
    eventually((first.root / f"all of {second.label}").exists, 20)
    net.plug_all()
    eventually(lambda: are_alike(a, b, c), 20)

    problems = []
    for row, order in orders:
        for device in (a, b, c):
            try:
                row.assert_shown(device.root / directory_of(row, order), is_alder_first=order)
            except AssertionError as error:
                problems.append(f"{device.label}: {error}")
    assert not problems, "\n\n".join(problems)
    assert_alike(a, b, c)
