"""A member that an owner takes out of the volume while it is out of reach, and goes on writing unaware.

Nobody else gets what it writes from then on, nor what it had not given before; it keeps all of that itself.
"""

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from dittofs.errors import DittoError, ReadOnlyVolume
from dittofs.identity.records import Role
from tests.simulation.device import SwarmDevice
from tests.simulation.ledger import Digest, Ledger
from tests.simulation.swarm_misfortunes import LOSS_S, held_elsewhere, until

if TYPE_CHECKING:
    from tests.simulation.swarm import Swarm

OWNER: Final = 0
"""It founded the volume, and never goes for good."""
REFUSED_S: Final = 120.0
"""What a removed device that reaches the others again may take to hear of it."""


@dataclass(frozen=True)
class Removal:
    """What was so when a device was removed."""

    at: float
    boots: int
    closed: frozenset[Digest]
    """What its users had closed, and nobody had replaced."""


def remove(swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    """Cut the device off for good. An owner that is there takes it out; else one does so in the end."""
    left = [one for one in swarm.present if one is not device]
    if device.number == OWNER or swarm.removed or len(left) < 2 or device.is_away:
        return
    for other in swarm.devices:
        if other is not device:
            swarm.network.part(device.device.id, other.device.id)
    closed = swarm.ledger.closed.items()
    own = frozenset(name for name, one in closed if one.device == device.number and one.is_sure)
    swarm.removed[device] = Removal(trio.current_time(), device.boots, own - swarm.ledger.superseded.keys())
    seen = held_elsewhere(swarm, device)
    for one in swarm.devices:  # what others wrote may be whole there only
        swarm.ledger.doubt(one.number, 0.0, seen)
    swarm.nursery.start_soon(_take_out, swarm, device)


async def _take_out(swarm: "Swarm", device: SwarmDevice) -> None:
    owner = swarm.devices[OWNER]
    if owner.is_up and not owner.is_dead:
        with suppress(DittoError):
            await owner.shared.remove_member(device.device.id)
            swarm.note(f"{device.number} is no member any more")


async def take_out_all(swarm: "Swarm") -> None:
    """At the end every device that is to be removed has been. The owner is there, or is restarted."""
    owner = swarm.devices[OWNER]
    for device in swarm.removed:
        while not owner.is_up or _role(owner, device) > Role.NONE:
            await _take_out(swarm, device)
            await trio.sleep(1.0)
        await until(partial(_is_out, swarm, device))


def forget_what_it_wrote(swarm: "Swarm") -> None:
    """What a removed device closed since is nobody else's to keep."""
    for device, removal in swarm.removed.items():
        swarm.ledger.doubt(device.number, removal.at, set())


async def check_removed(swarm: "Swarm") -> None:
    """A removed device comes back: it is refused, hears why, gives nothing, and has all that was its own."""
    before = {one: one.volume.replica.root_digest() for one in swarm.present}
    for device, removal in swarm.removed.items():
        device.calm()
        with trio.fail_after(REFUSED_S):
            await until(lambda: device.is_up and not device.is_dead)  # noqa: B023
            await swarm.programs[device.number].finish()
            while device.shared.role > Role.NONE:
                for other in swarm.present:
                    device.dial(other)
                await trio.sleep(1.0)
        for other in swarm.present:
            device.dial(other)
        await trio.sleep(5.0)
        assert not [one.number for one in swarm.present if device.is_connected(one)], "it is no member"
        try:
            with device.volume.replica.change() as change:
                change.group.set_setting("after", b"removal")
        except ReadOnlyVolume:
            pass
        else:
            raise AssertionError("a device that knows that it was removed goes on changing the volume")
        sure_until = removal.at - (LOSS_S if device.boots != removal.boots else 0.0)
        lost = [swarm.ledger.closed[name] for name in removal.closed - set(_kept(swarm, device))]
        lost = [one for one in lost if one.at <= sure_until]
        if "disk errors" not in swarm.script.misfortunes:  # what a failing disk was given nobody is promised
            assert not lost, f"a removed device lost what was its own: {lost}"
    for one, digest in before.items():
        assert one.volume.replica.root_digest() == digest, f"{one.number} took what a removed device gave"


def _is_out(swarm: "Swarm", device: SwarmDevice) -> bool:
    return all(one.is_up and _role(one, device) is Role.NONE for one in swarm.present)


def _role(one: SwarmDevice, device: SwarmDevice) -> Role:
    return one.shared.members.role(device.device.id)


def _kept(swarm: "Swarm", device: SwarmDevice) -> Iterator[Digest]:
    """Contents that the device shows or has staged, that others show, or that a user replaced since."""
    ledger: Ledger = swarm.ledger
    ledger.gather(device.volume.replica.chunks)
    yield from ledger.superseded
    yield from ledger.live(device.volume.replica)
    yield from ledger.live(swarm.devices[OWNER].volume.replica)
    for content in device.volume.state.contents:
        for layer in content.layers:
            yield ledger.name(swarm.programs[device.number].bytes_of(layer))
