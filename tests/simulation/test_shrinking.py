"""What a failing script is shrunk to."""

from collections.abc import Sequence

import pytest

from tests.property.exchange_histories import run_script, shortened
from tests.property.exchange_scripts import Script as TreeScript
from tests.simulation.shrinking import shrunken
from tests.simulation.swarm_faults import planted
from tests.simulation.swarm_script import Script


def test_the_steps_that_it_takes_are_left_and_no_other() -> None:
    def fails(steps: Sequence[int]) -> bool:
        return {3, 41, 77} <= {*steps}

    assert shrunken(range(100), fails) == [3, 41, 77]


def test_shrinking_ends_after_so_many_tries() -> None:
    tried: list[int] = []

    def fails(steps: Sequence[int]) -> bool:
        tried.append(len(steps))
        return 5 in steps

    assert 5 in shrunken(range(1000), fails, tries=7)
    assert len(tried) == 7


@pytest.mark.logs_warning("another copy of this device")
def test_a_history_with_a_planted_fault_is_shrunk_to_few_steps_that_show_it() -> None:
    with planted("latest only"):
        script = TreeScript.mixed(next(seed for seed in range(1, 100) if _fails(TreeScript.mixed(seed))))
        shorter = shortened(script)
        assert _fails(shorter)
    assert len(shorter.numbers()) < len(script.numbers()) / 2
    assert not _fails(shorter), "without the fault"


def _fails(script: TreeScript) -> bool:
    try:
        run_script(script)
    except Exception:  # noqa: BLE001 - that is what is asked
        return True
    return False


def test_a_step_left_out_changes_no_other_step() -> None:
    script = Script.of(5)
    users, world = script.plan()
    steps = [step for some in (*users, world) for step in some]
    left = script.part([step.number for step in steps[::2]])
    assert left.plan() == script.plan()
    assert [step for step in steps[::2] if step.what != "join"] == [
        step for step in steps if left.has(step) and step.what != "join"
    ]
    assert left.chance(steps[4]).random() == script.chance(steps[4]).random()
