"""Where devices were last reached, in a file."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from dittofs.address import Address
from dittofs.identity.keys import DeviceId
from dittofs.ids import VolumeId
from dittofs.known_addresses import KnownAddresses
from tests.simulation.disk import SimulatedDisk

VOLUME = VolumeId(b"\x01" * 32)
ONE, OTHER = DeviceId(b"\x02" * 32), DeviceId(b"\x03" * 32)
THERE = Address.parse("192.0.2.1:4242")


@pytest.mark.usefixtures("autojump_clock")
async def test_two_that_save_at_the_same_time_save_one_after_the_other_and_all() -> None:
    disk, running = SimulatedDisk(), 0

    async def slowly(function: Callable[..., Any], /, *args: Any) -> Any:
        nonlocal running
        running += 1
        assert running == 1
        await trio.sleep(1)
        function(*args)
        running -= 1

    run_blocking: Any = slowly
    known = KnownAddresses(disk)
    known.note(VOLUME, ONE, THERE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(known.save_changes, run_blocking)
        await trio.sleep(0.5)
        known.note(VOLUME, OTHER, THERE)
        nursery.start_soon(known.save_changes, run_blocking)
    assert KnownAddresses(disk).of(VOLUME) == [(ONE, THERE), (OTHER, THERE)]
