"""Files that are mostly hole, on two devices."""

import os

from tests.e2e.network import Device, Network, eventually
from tests.e2e.test_file_histories import KEEP_SIZE, PUNCH_HOLE, data_of, fallocate

BLOCK = 4096
TEBIBYTE = 1 << 40
KILOBYTES = 1 << 20


def data_on(device: Device, name: str) -> list[tuple[int, int]]:
    descriptor = os.open(device.root / name, os.O_RDONLY)
    try:
        return data_of(descriptor)
    finally:
        os.close(descriptor)


def stored(device: Device) -> int:
    return sum(path.stat().st_size for path in device.home.rglob("*.pack"))


def test_a_terabyte_of_hole_costs_kilobytes_on_both_sides_and_stays_a_hole(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    places = [0, 5 << 30, 700 << 30, TEBIBYTE - BLOCK]
    descriptor = os.open(a.root / "sparse", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, TEBIBYTE)
    for place in places:
        os.pwrite(descriptor, os.urandom(BLOCK), place)
    os.close(descriptor)
    expected = [(place, place + BLOCK) for place in places]
    assert data_on(a, "sparse") == expected
    eventually(lambda: (b.root / "sparse").stat().st_size == TEBIBYTE, 20)
    a.await_in_step()
    assert data_on(b, "sparse") == expected
    with (a.root / "sparse").open("rb") as one, (b.root / "sparse").open("rb") as other:
        for place in (*places, 1 << 30):
            one.seek(place)
            other.seek(place)
            assert one.read(BLOCK) == other.read(BLOCK)
    descriptor = os.open(b.root / "sparse", os.O_RDWR)
    fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, places[1], BLOCK)
    os.close(descriptor)
    del expected[1]
    eventually(lambda: data_on(a, "sparse") == expected, 20)
    assert max(stored(a), stored(b)) < KILOBYTES
