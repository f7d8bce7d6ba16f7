"""What happens to the devices of a swarm, and to the network between them, beside what their users do."""

import math
import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from dittofs.errors import DiskError, DiskFull, DittoError, ReadOnlyVolume
from dittofs.history.live_content import LiveContents
from dittofs.replication.custody import Item
from dittofs.replication.policy import Policy
from dittofs.replication.wholeness import whole
from tests.simulation.device import CAPACITY, SwarmDevice
from tests.simulation.ledger import Ledger
from tests.simulation.swarm_checks import check_custody

if TYPE_CHECKING:
    from tests.simulation.swarm import Swarm

LOSS_S: Final = 7.0
"""What a power cut may cost: the time between two syncs, and a little."""
DAY_S: Final = 86_400.0
RETIRE_S: Final = 30.0
"""How long a device that is to be retired waits for others to have what it has."""
ATTEND_S: Final = 15.0
LOOKS: Final = 12
"""At what others believe of a device that was put back, once it is there again."""
Cause = Callable[["Swarm", SwarmDevice, random.Random], None]


async def until(condition: Callable[[], bool], look_s: float = 0.5) -> None:
    """Return when `condition` holds. The time is the run's."""
    while not condition():  # noqa: ASYNC110 - it looks at many things
        await trio.sleep(look_s)


# -- processes and machines


def _kill(_swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    if device.is_up:
        device.die_after(chance.choice((0, 3, 30)), is_power_cut=False)


def _power_cut(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    if device.is_up:
        device.die_after(chance.choice((0, 3, 30)), is_power_cut=True)
        swarm.nursery.start_soon(_doubt, swarm, device)


async def _doubt(swarm: "Swarm", device: SwarmDevice) -> None:
    await until(lambda: not device.is_up or device.is_dead, 0.01)
    if device.is_power_cut:
        since = min(trio.current_time(), device.disk_fails_since) - LOSS_S
        swarm.ledger.doubt(device.number, since, _seen(swarm, device))
        device.disk_fails_since = math.inf


def _seen(swarm: "Swarm", device: SwarmDevice) -> set[str]:
    """Contents that other devices know of."""
    seen: set[str] = set()
    for other in swarm.devices:
        if other is not device and other not in swarm.removed and other.is_up and not other.is_dead:
            swarm.ledger.gather(other.volume.replica.chunks)
            seen |= swarm.ledger.history(other.volume.replica)
    return seen


def held_elsewhere(swarm: "Swarm", device: SwarmDevice) -> set[str]:
    """Contents that are whole on other devices: to know of them is not enough when a store goes back."""
    held: set[str] = set()
    elsewhere = Ledger(swarm.ledger.keys)
    try:
        others = [one for one in swarm.present if one is not device and one.is_up and not one.is_dead]
        for other in others:
            elsewhere.gather(other.volume.replica.chunks)
        for other in others:
            held |= elsewhere.history(other.volume.replica)
    finally:
        elsewhere.close()
    return held


def _restart(swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    if device.is_up and not device.is_dead:
        swarm.nursery.start_soon(device.leave)


def _back_up(swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    if device.is_up and not device.is_dead:
        swarm.backups.append((device.number, trio.current_time(), device.disk.fork()))


def _restore(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    """Put back what was copied of the running device some time ago."""
    copies = [one for one in swarm.backups if one[0] == device.number]
    if not copies or not device.is_up or device.is_dead:
        return
    _, when, disk = copies[0]
    seen = held_elsewhere(swarm, device)
    device.go_back(disk)
    swarm.restored.add(device.number)
    for one in swarm.devices:  # what others wrote may have been here only, if they went back or have gone
        swarm.ledger.doubt(one.number, when if one is device else 0.0, seen)
    swarm.note(f"{device.number} is as it was at {when:.2f}")
    swarm.nursery.start_soon(_look_at_beliefs, swarm, device, random.Random(chance.random()))


async def _look_at_beliefs(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    """Who meets a device that was put back must not go on believing that it holds what it held since."""
    await until(lambda: device.is_up and not device.is_dead, 0.05)
    for _ in range(LOOKS):
        for other in swarm.present:
            is_met = other.is_up and not other.is_dead and device.is_up and not device.is_dead
            if other is not device and is_met and other.is_connected(device):
                check_custody(other, [device], chance)
        await trio.sleep(0.25)


# -- disks


def _full_disk(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    """Nothing more fits for a while."""
    if device.is_up and not device.is_dead and device.mend_disk is None:
        disk = device.disk
        disk.capacity = disk.total_bytes() - disk.free_bytes() + chance.choice((0, 5_000, 200_000))
        swarm.nursery.start_soon(_mend_later, swarm, device, chance.choice((1.0, 5.0, 20.0)))
        device.mend_disk = lambda: setattr(device.disk, "capacity", CAPACITY)


def _disk_errors(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    """Every change of the disk fails for a while, some changes from now."""
    if device.is_up and not device.is_dead and device.mend_disk is None:
        device.disk.fail_after(chance.choice((0, 5, 50)))
        device.disk_fails_since = min(device.disk_fails_since, trio.current_time())
        swarm.nursery.start_soon(_mend_later, swarm, device, chance.choice((0.5, 3.0)))
        device.mend_disk = lambda: device.disk.fail_after(None)


async def _mend_later(swarm: "Swarm", device: SwarmDevice, seconds: float) -> None:
    """The disk works again."""
    await trio.sleep(seconds)
    device.mend()
    swarm.note(f"the disk of {device.number} works again")


async def attend(swarm: "Swarm") -> None:
    """Somebody restarts devices whose volume stays read-only though their disk works again."""
    seen: set[SwarmDevice] = set()
    while True:
        await trio.sleep(ATTEND_S)
        bad = {
            one
            for one in swarm.devices
            if one.is_up and not one.is_dead and one.mend_disk is None and one.volume.replica.read_only
        }
        for device in swarm.devices:
            if device in bad & seen:
                swarm.note(f"{device.number} is read-only and is restarted")
                device.is_power_cut = False
                device.die()
        seen = bad


# -- networks


def _part(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    other = chance.choice(swarm.devices)
    if other is not device:
        heal = swarm.network.part(device.device.id, other.device.id)
        swarm.nursery.start_soon(_later, swarm, chance.choice((2.0, 10.0, 40.0)), heal)


def _alone(swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    for other in swarm.devices:
        if other is not device:
            heal = swarm.network.part(device.device.id, other.device.id)
            swarm.nursery.start_soon(_later, swarm, 20.0, heal)


async def _later(swarm: "Swarm", seconds: float, act: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    if not swarm.is_meeting:
        act()


def _cut(swarm: "Swarm", _device: SwarmDevice, _chance: random.Random) -> None:
    swarm.network.cut_some()


# -- time


def _jump(_swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    device.clock.skew_s += chance.choice((-3600.0, -5.0, 5.0, 3600.0, 40_000.0))


def _months(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    """A device is away for months; the others go on."""
    if device.is_up and not device.is_dead and not device.is_away:
        swarm.nursery.start_soon(_be_away, swarm, device, chance)


async def _be_away(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    device.is_away = True
    await device.leave()
    await trio.sleep(chance.uniform(1.0, 10.0))
    days = chance.randint(30, 300)
    for one in swarm.devices:
        one.clock.skew_s += days * DAY_S
    swarm.note(f"{days} days pass")
    await trio.sleep(chance.uniform(1.0, 10.0))
    device.is_away = False


# -- what owners and programs of the volume do


def _compact(_swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    if device.is_up and not device.is_dead:
        with suppress(DiskError, DiskFull, ReadOnlyVolume):
            device.compact()


def _audit(swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    if device.is_up and not device.is_dead:
        # One that is as it was before has not said so while it is down.
        others = [one for one in swarm.present if one.is_up or one.number not in swarm.restored]
        check_custody(device, others, chance)


def _policy(_swarm: "Swarm", device: SwarmDevice, chance: random.Random) -> None:
    if device.is_up and not device.is_dead and device.volume.replica.not_allowed is None:
        with suppress(DiskError, DiskFull, ReadOnlyVolume):
            device.shared.ruling.set_all(Policy.parse(chance.choice(("all", "on-demand", "2"))))


def _collect(_swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    """The past is forgotten, and a round of garbage begins, or goes on, without a day's grace."""
    if device.is_up and not device.is_dead and device.nursery is not None:
        device.nursery.start_soon(_sweep, device)


async def _sweep(device: SwarmDevice) -> None:
    journal, collector = device.volume.replica.journal, device.shared.collector
    collector._grace_ns = 0
    with suppress(DittoError):
        with journal.transaction():
            for row in list(journal.history.since(0)):
                journal.history.remove(row)
        await collector.collect()


def _evict(swarm: "Swarm", _device: SwarmDevice, chance: random.Random) -> None:
    """Some devices let contents go at the same time, also below the number of copies asked for."""
    for device in swarm.present:
        if chance.random() < 0.6 and device.is_up and not device.is_dead and device.nursery is not None:
            device.nursery.start_soon(_let_some_go, device, random.Random(chance.random()))


async def _let_some_go(device: SwarmDevice, chance: random.Random) -> None:
    await trio.sleep(chance.choice((0.0, 0.0, 0.01, 0.3)))
    await let_go(device, lambda _item: chance.random() < 0.8, is_forced=chance.random() < 0.7)


async def let_go(device: SwarmDevice, is_one: Callable[[Item], bool], *, is_forced: bool) -> None:
    """Have a device let go of its contents those that are such."""
    items = LiveContents(device.volume.replica).content_roots()
    some = [item for item in list(items) if item[0][0] != "." and is_one(item)]
    with suppress(DittoError):
        await device.shared.evicting.evict(some, is_forced=is_forced)


def _retire(swarm: "Swarm", device: SwarmDevice, _chance: random.Random) -> None:
    """A device goes for good, once another one has everything that it has."""
    others = [one for one in swarm.present if one is not device]
    if device.number and len(others) > 1 and device.is_up and not device.is_dead:
        swarm.nursery.start_soon(_go, swarm, device)


async def _go(swarm: "Swarm", device: SwarmDevice) -> None:
    users = swarm.programs[device.number]
    users.plan = ()
    device.peers.proving.keeps = lambda: False
    await users.finish()
    with trio.move_on_after(RETIRE_S):
        await until(lambda: _is_dispensable(swarm, device), 0.2)
        if device in swarm.removed:
            return
        swarm.retired.add(device)
        swarm.note(f"{device.number} goes for good")
        await device.leave()


def _is_dispensable(swarm: "Swarm", device: SwarmDevice) -> bool:
    """Whether somebody else has seen all that this device has, and holds it on the platter."""
    if swarm.is_meeting or not device.is_up or device.is_dead:
        return False
    replica = device.volume.replica
    if not device.volume.publisher.is_idle or device.volume.publisher.waiting:
        return False
    contents = [(root, size) for _, root, size in LiveContents(replica).content_roots()]
    for other in swarm.devices:
        if other is device or other not in swarm.present or not other.is_up or other.is_dead:
            continue
        if other.peers.intents:
            continue  # what it has now may be what it lets go, by this device's word
        theirs = other.volume.replica
        if theirs.root_digest() == replica.root_digest() and all(whole(theirs.chunks, contents)):
            return True
    return False


CAUSES: Final[dict[str, Cause]] = {
    "alone": _alone,
    "audit": _audit,
    "back up": _back_up,
    "collect": _collect,
    "compact": _compact,
    "cut": _cut,
    "disk errors": _disk_errors,
    "evict": _evict,
    "full disk": _full_disk,
    "jump": _jump,
    "kill": _kill,
    "months": _months,
    "part": _part,
    "policy": _policy,
    "power cut": _power_cut,
    "restart": _restart,
    "restore": _restore,
    "retire": _retire,
}
