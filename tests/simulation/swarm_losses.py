"""Disks that are lost for good, and contents that were let go by the word of a device that has gone since.

A content may be lost only if it was on such a disk and nobody else had it, or if who let it go could not
know yet that the only devices that had just proven it are gone. All else has to be readable in the end.
"""

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from dittofs.chunks.marking import Named
from dittofs.replication.targets import Target, going
from tests.simulation.device import SwarmDevice
from tests.simulation.swarm_misfortunes import held_elsewhere, let_go
from tests.simulation.swarm_removal import OWNER

if TYPE_CHECKING:
    from tests.simulation.swarm import Swarm

LEFT_MIN: Final = 2
"""Devices that go on whatever is lost."""


def lose(swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    """A disk is gone at this instant, and its device never comes back."""
    left = [one for one in swarm.present if one is not device]
    if device.number == OWNER or len(left) < LEFT_MIN or not device.is_up or device.is_dead:
        return
    swarm.retired.add(device)
    swarm.programs[device.number].plan = ()
    seen = held_elsewhere(swarm, device)
    device.is_power_cut = False
    device.die()
    for one in swarm.devices:  # what others wrote may be whole there only
        swarm.ledger.doubt(one.number, 0.0, seen)
    swarm.note(f"the disk of {device.number} is lost")


def lose_a_prover(swarm: "Swarm", _device: SwarmDevice, chance: random.Random) -> None:
    """All goes that one other has, from the one device that is never lost: so who proves it can be.

    Who proves something next loses its disk right after.
    """
    swarm.doomed, device = chance, swarm.devices[OWNER]
    if device.is_up and not device.is_dead and device.nursery is not None:
        act = partial(let_go, is_forced=True)
        device.nursery.start_soon(act, device, lambda _item: True)


async def _lose_who_proved(swarm: "Swarm", targets: Sequence[Target]) -> None:
    """If that is to be, and mostly so that who lets something go can know it."""
    chance = swarm.doomed
    for target in going(targets):
        proved = {one.device for one in target.provers}
        for device in swarm.present:
            if chance is not None and device.device.id in proved:
                lose(swarm, device, chance)
                if device in swarm.retired:
                    swarm.doomed = None
                    await trio.sleep(chance.choice((0.0, 2.0, 20.0, 20.0)))
                    return


def watch_letting_go(swarm: "Swarm", device: SwarmDevice) -> None:
    """Note what goes in good faith by the word of devices that have gone, or were put back."""
    evicting = device.shared.evicting
    changed, tell = evicting._changed, evicting._tell
    prove = evicting._asking.prove
    believed: dict[Target, bool] = {}

    async def proven(targets: Sequence[Target]) -> None:
        await prove(targets)
        await _lose_who_proved(swarm, targets)

    def look(targets: Sequence[Target], seen: set[Named]) -> list[Named]:
        found = changed(targets, seen)
        # The last look before they go: nothing awaits after it.
        swarm.ledger.gather(device.volume.replica.chunks)
        holders = set(device.peers.holders())
        for target in going(targets):
            believed[target] = all(one.is_open and one.device in holders for one in target.provers)
        return found

    def told(targets: Sequence[Target]) -> None:
        gone = {one.device.id for one in swarm.devices if _has_gone(swarm, one)}
        for target in going(targets):
            provers = {one.device for one in target.provers}
            if believed.pop(target, False) and provers and provers <= gone:
                swarm.ledger.may_be_lost(target.root, target.size)
        believed.clear()
        tell(targets)

    evicting._asking.prove = proven  # type: ignore[method-assign]  # it watches, and then calls it
    evicting._changed = look  # type: ignore[method-assign]  # as above
    evicting._tell = told  # type: ignore[method-assign]  # as above


def _has_gone(swarm: "Swarm", device: SwarmDevice) -> bool:
    return device in swarm.retired or device in swarm.removed or device.number in swarm.restored
