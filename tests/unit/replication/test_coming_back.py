"""Devices that may do nothing for a while, and can dial and not be dialled."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from dittofs.identity import users
from dittofs.identity.authoring import Draft
from dittofs.identity.granting import remove
from dittofs.identity.records import Role
from tests.simulation.rig import SeededEntropy
from tests.unit.identity.devices import LAPTOP
from tests.unit.replication.pair import SECRETS, Side, sides, until
from tests.unit.replication.test_whereabouts import Place, Wires

Say = Callable[[Draft, Role], None]
SAYS: dict[str, Say] = {
    "user": lambda draft, role: users.give_user(draft, "ada", role),
    "default": users.give_default,
}


def say(owner: Side, write: Callable[[Draft], None]) -> None:
    draft = Draft(owner.members.membership, LAPTOP)
    write(draft)
    owner.members.add(draft.signed)


def wires_of_diallers(nursery: trio.Nursery, owner: Side, *others: Side) -> tuple[Place, list[Place]]:
    """An owner whom everybody can dial, and others whom nobody can."""
    wires = Wires(nursery)
    alder = wires.place(owner, "198.51.100.1")
    alder.add()
    diallers = [wires.place(side, f"198.51.100.{number}") for number, side in enumerate(others, 2)]
    for one in diallers:
        del wires.places[one.address]
        one.add(alder)
    return alder, diallers


@pytest.mark.parametrize("by", SAYS)
async def test_a_device_that_can_only_dial_is_back_when_it_was_granted_again(
    autojump_clock: MockClock, by: str
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        say(a, lambda draft: users.add_user(draft, "ada", [b.device.id], None))
        say(a, lambda draft: users.give_device(draft, b.device.id, None))
        alder, (birch,) = wires_of_diallers(nursery, a, b)
        await until(lambda: alder.sees(birch))
        say(a, lambda draft: SAYS[by](draft, Role.NONE))
        await until(lambda: b.members.role(b.device.id) == Role.NONE and not birch.sees(alder))
        await trio.sleep(3600)
        assert not alder.sees(birch)
        say(a, lambda draft: SAYS[by](draft, Role.WRITER))
        await until(lambda: alder.sees(birch) and birch.sees(alder), 600)
        await b.write("letter", b"kept meanwhile")
        await until(lambda: a.rig.exists("letter"))
        nursery.cancel_scope.cancel()


async def test_it_comes_back_by_a_device_that_was_granted_again_with_it(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        say(a, lambda draft: users.give_device(draft, b.device.id, None))
        say(a, lambda draft: users.give_device(draft, c.device.id, None))
        say(a, lambda draft: users.give_default(draft, Role.NONE))
        for one in (b, c):
            one.members.add(a.members.records())
        say(a, lambda draft: users.give_default(draft, Role.WRITER))
        b.members.add(a.members.records())  # and its owner is gone
        birch, (cedar,) = wires_of_diallers(nursery, b, c)
        await until(lambda: birch.sees(cedar) and cedar.sees(birch), 600)
        nursery.cancel_scope.cancel()


async def test_a_device_that_was_taken_out_dials_nobody(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        records, _ = remove(a.members.membership, SECRETS, LAPTOP, b.device.id, SeededEntropy(1))
        for side in (a, b):
            side.members.add(records)
        wires = Wires(nursery)
        alder, birch = wires.place(a, "198.51.100.1"), wires.place(b, "198.51.100.2")
        alder.add()
        birch.add(alder)
        await trio.sleep(3600)
        assert wires.dialled == []
        nursery.cancel_scope.cancel()
