"""What of the changes elsewhere is kept for programs that watch, and what they are said not to have heard."""

import math
from dataclasses import replace

from dittofs.tree.entry import Change
from mountd.echoing import EFFECTS_MAX, Echoing
from mountd.kernel.notices import Notices
from tests.simulation.pair import Pair


async def test_what_is_too_much_at_once_is_bounded_and_counted(pair: Pair) -> None:
    changes: list[Change] = []
    pair.b.volume.replica.listeners.append(changes.append)
    await pair.a.write("f", b"1")
    await pair.settle()
    change = next(one for one in changes if one.via and one.effects)
    big = replace(change, effects=tuple(change.effects) * EFFECTS_MAX)
    echoing = Echoing(pair.b.volume.state, Notices(), "/nowhere")
    echoing.follow(big)
    assert echoing.untold == len(big.effects) - EFFECTS_MAX
    echoing.follow(change)
    assert echoing.untold == len(big.effects) - EFFECTS_MAX + len(change.effects)
    echoing._scan_due = math.inf  # nobody is looked for: all of it waits for those who began to watch
    await echoing._tell()
    before = echoing.untold
    echoing.follow(change)
    await echoing._tell()
    assert echoing.untold == before + len(change.effects)
