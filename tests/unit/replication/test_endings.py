"""A session may end at any moment, while anything is asked of it."""

from functools import partial

import trio
from trio.testing import MockClock

from dittofs.identity.granting import remove
from dittofs.identity.records import Role
from tests.simulation.rig import SeededEntropy
from tests.unit.replication.pair import SECRETS, Side, connect, sides, until

STEPS = 60


async def test_a_session_that_is_just_ending_keeps_no_change_of_members_from_others(
    autojump_clock: MockClock,
) -> None:
    """At whichever step of the end of a session its device is removed, all that listen hear of it."""
    for steps in range(STEPS):
        async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
            connect(nursery, a, b)
            connect(nursery, a, c)
            await until(partial(_are_open, a, 2))
            ending = next(one for one in a.peers.open_sessions if one.device == b.device.id)
            heard: list[int] = []
            a.members.listeners.append(partial(heard.append, 1))
            ending.end("for the test")
            for _ in range(steps):
                await trio.lowlevel.cancel_shielded_checkpoint()
            records, _ = remove(a.members.membership, SECRETS, a.device, b.device.id, SeededEntropy(steps))
            a.members.add(records)
            assert heard
            nursery.cancel_scope.cancel()


def _are_open(side: Side, count: int) -> bool:
    return len(side.peers.open_sessions) == count
