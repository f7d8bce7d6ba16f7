"""Two devices with two networks of unlike rate: what comes over which, by the interfaces' counters."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.network import Device, Network, eventually, network
from tests.e2e.spreading import packs_bytes
from tests.e2e.test_signalling import path_to

pytestmark = pytest.mark.soak

SLOW, FAST = "20mbit", "300mbit"
SIZE = 128 << 20
COME_S = 240.0


@pytest.fixture
def twice(tmp_path: Path) -> Iterator[tuple[Network, Device, Device]]:
    """Devices that met over a slow network, and have a fast one that is down."""
    with network(tmp_path) as net:
        a, b = net.device("alder"), net.device("birch")
        for number, rate in ((1, SLOW), (2, FAST)):
            net.switch([a, b], number, rate=rate)
        net.up(2, [a, b], is_up=False)
        a.found()
        a.run("copies", "all")
        a.share_with(b)
        b.await_in_step()
        net.up(2, [a, b], is_up=True)
        yield net, a, b


def comes(b: Device, before: int) -> None:
    eventually(lambda: packs_bytes(b) - before >= SIZE, COME_S)


def test_a_slow_link_gives_way_to_a_fast_one_that_is_there_too_and_nothing_comes_twice(
    twice: tuple[Network, Device, Device],
) -> None:
    _, a, b = twice
    assert path_to(b)
    stored, slow, fast = packs_bytes(b), a.sent_bytes("s1"), a.sent_bytes("s2")
    data = os.urandom(SIZE)
    (a.root / "large").write_bytes(data)
    comes(b, stored)
    slow, fast = a.sent_bytes("s1") - slow, a.sent_bytes("s2") - fast
    print(f"over the slow network {slow / 1e6:.1f} MB, over the fast one {fast / 1e6:.1f} MB")
    assert fast > 2 * slow
    assert slow + fast < SIZE * 1.15, "headers, and what was on its way"
    assert (b.root / "large").read_bytes() == data


def test_when_the_fast_one_is_cut_on_the_way_the_rest_comes_over_the_other(
    twice: tuple[Network, Device, Device],
) -> None:
    net, a, b = twice
    stored, before = packs_bytes(b), a.sent_bytes("s1") + a.sent_bytes("s2")
    data = os.urandom(SIZE)
    (a.root / "large").write_bytes(data)
    eventually(lambda: a.sent_bytes("s2") > SIZE // 4, COME_S)
    net.up(2, [a, b], is_up=False)
    comes(b, stored)
    assert a.sent_bytes("s1") + a.sent_bytes("s2") - before < SIZE * 1.25, "headers, and what was on its way"
    assert (b.root / "large").read_bytes() == data
