"""What two devices over a cable owe in bytes, and what they take in time: times are printed, bytes are held.

The figures of the design are those of `pytest -m soak -s` of this file, on a machine with nothing else to do.
"""

import os
import statistics
import time
from collections.abc import Sequence

import pytest

from tests.e2e.alike import are_alike, assert_alike
from tests.e2e.network import Device, Network, eventually

PIECE = 1 << 20
WIRE_BYTES_MAX = 1_500_000
READS = 20
SMALL = 4096
CHANGED = 16 << 10
MEETING_BYTES = 1 << 20  # what two devices say until they agree, however little has changed


def shows_alike(a: Device, b: Device, names_min: int) -> bool:
    """Whether both list the same names, and the file that was written last of what both had.

    A look at every file takes the daemons as long as what it is to time.
    """
    names = set(os.listdir(a.root))
    if len(names) < names_min or names != set(os.listdir(b.root)):
        return False
    last = max((name for name in names if name.startswith("old")), key=lambda name: int(name[3:]))
    return (a.root / last).stat().st_mtime_ns == (b.root / last).stat().st_mtime_ns


def report(what: str, took_s: Sequence[float]) -> None:
    """Print the middle and the tail."""
    ordered = sorted(took_s)
    tail = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    print(f"{what}: p50 {statistics.median(ordered) * 1000:.1f} ms, p95 {tail * 1000:.1f} ms")


@pytest.mark.parametrize(
    "size", [96 << 20, pytest.param(1 << 30, marks=pytest.mark.soak)], ids=["96 MiB", "1 GiB"]
)
def test_a_piece_of_a_large_file_moves_little_more_than_itself(
    pair: tuple[Network, Device, Device], size: int
) -> None:
    _, a, b = pair
    a.run("copies", "on-demand")
    with (a.root / "large").open("wb") as file:
        for _ in range(size // (8 << 20)):
            file.write(os.urandom(8 << 20))
    closed = time.monotonic()
    eventually(lambda: (b.root / "large").stat().st_size == size, 60)
    print(f"its size after {(time.monotonic() - closed) * 1000:.0f} ms")
    a.await_in_step()
    took, moved = [], []
    with (a.root / "large").open("rb") as there, (b.root / "large").open("rb", buffering=0) as here:
        for number in range(READS):
            place = size // 4 + number * (size // 2 // READS)
            there.seek(place)
            expected = there.read(PIECE)
            before = a.sent_bytes() + b.sent_bytes()
            begun = time.monotonic()
            data = os.pread(here.fileno(), PIECE, place)
            took.append(time.monotonic() - begun)
            moved.append(a.sent_bytes() + b.sent_bytes() - before)
            assert data == expected
    print(f"bytes on the wire for 1 MiB: median {statistics.median(moved):.0f}, most {max(moved)}")
    report("1 MiB to the last byte", took)
    assert statistics.median(moved) <= WIRE_BYTES_MAX


@pytest.mark.parametrize("trials", [15, pytest.param(100, marks=pytest.mark.soak)])
def test_a_small_file_is_readable_on_the_other_side_at_once(
    pair: tuple[Network, Device, Device], trials: int
) -> None:
    _, a, b = pair
    took = []
    for number in range(trials):
        data = os.urandom(SMALL)
        begun = time.monotonic()
        (a.root / f"small{number}").write_bytes(data)
        path = b.root / f"small{number}"
        eventually(lambda path=path, data=data: path.read_bytes() == data, 5)  # type: ignore[misc]
        took.append(time.monotonic() - begun)
        time.sleep(0.06)  # one change at a time
    report("4 KiB", took)


@pytest.mark.parametrize("changes", [100, pytest.param(1_000, marks=pytest.mark.soak)])
def test_changes_made_apart_move_little_more_than_themselves(
    pair: tuple[Network, Device, Device], changes: int
) -> None:
    net, a, b = pair
    for number in range(changes):
        (a.root / f"old{number}").write_bytes(os.urandom(CHANGED))
    a.await_in_step(120)
    net.pull(a, b)
    for device in (a, b):
        for number in range(changes):
            name = f"old{number}" if device is a and number % 2 else f"{device.label}{number}"
            (device.root / name).write_bytes(os.urandom(CHANGED))
        device.run("sync", "--timeout", "1", check=False)  # all is published; nobody is there to have it
    before = a.sent_bytes() + b.sent_bytes()
    net.plug(a, b)
    plugged = time.monotonic()
    eventually(lambda: shows_alike(a, b, 2 * changes), 30, "the same names and the last change on both sides")
    shown = time.monotonic() - plugged
    eventually(lambda: are_alike(a, b), 60, "the same names, sizes and times on both sides")
    looked = time.monotonic() - plugged
    print(f"2 x {changes} changes made apart: alike {shown * 1000:.0f} ms after the cable is back,", end=" ")
    print(f"all of it seen through both mounts after {looked * 1000:.0f} ms")
    a.await_in_step(120)
    moved = a.sent_bytes() + b.sent_bytes() - before
    print(f"bytes on the wire: {moved / (2 * changes * CHANGED):.3f} times those changed")
    allowed = 1.1 * 2 * changes * CHANGED
    assert moved <= allowed + (MEETING_BYTES if changes < 1_000 else 0)
    assert_alike(a, b)
