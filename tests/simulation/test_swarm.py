"""Whole devices together, through what happens to devices and networks: a few seeds of many.

`python -m tests.simulation.swarm --count 500` runs as many as one likes.
"""

import pytest

from tests.simulation.swarm import EXPECTED, EXPECTED_OF_BACKUPS, EXPECTED_OF_DISKS, run
from tests.simulation.swarm_faults import FAULTS, finds
from tests.simulation.swarm_script import Script

pytestmark = pytest.mark.logs_warning(*EXPECTED, *EXPECTED_OF_BACKUPS, *EXPECTED_OF_DISKS)


@pytest.mark.parametrize("seed", [1, 5, 85, 272, 301, 304, 1016])
def test_what_users_closed_is_kept_and_all_devices_come_to_the_same(seed: int) -> None:
    run(Script.of(seed))


def test_the_same_seed_gives_the_same_run() -> None:
    assert len({run(Script.of(17)).digest() for _ in range(2)}) == 1


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(FAULTS))
@pytest.mark.filterwarnings("ignore")
@pytest.mark.logs_warning("")
def test_a_planted_fault_is_found(name: str) -> None:
    assert finds(name, first=1) is not None


@pytest.mark.soak
def test_hundreds_of_runs_keep_every_promise() -> None:
    for seed in range(1, 501):
        run(Script.of(seed))
