"""Whole devices together, through what happens to devices and networks: a few seeds of many.

`sh packaging/dev simulate --seeds 500` runs as many as one likes.
"""

import os
import subprocess
import sys

import pytest

from tests.property.exchange_histories import run_script
from tests.property.exchange_scripts import Script as TreeScript
from tests.simulation.failed_seeds import MANY, STACK, TREE
from tests.simulation.swarm import EXPECTED, EXPECTED_OF_BACKUPS, EXPECTED_OF_DISKS, run
from tests.simulation.swarm_faults import FAULTS, finds
from tests.simulation.swarm_script import Script

pytestmark = pytest.mark.logs_warning(*EXPECTED, *EXPECTED_OF_BACKUPS, *EXPECTED_OF_DISKS)
DIGEST = (
    "from tests.simulation.swarm import run; from tests.simulation.swarm_script import Script;"
    "print(run(Script.of(7)).digest())"
)


@pytest.mark.parametrize("seed", [1, 5])
def test_what_users_closed_is_kept_and_all_devices_come_to_the_same(seed: int) -> None:
    run(Script.of(seed))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_last_verified_copy_is_never_let_go_whatever_is_lost_meanwhile(seed: int) -> None:
    run(Script.of_losses(seed))


@pytest.mark.parametrize("seed", sorted(STACK))
def test_a_seed_that_failed_once_passes(seed: int) -> None:
    run(Script.of(seed))


@pytest.mark.soak
@pytest.mark.parametrize("seed", sorted(MANY))
def test_a_seed_of_many_devices_that_failed_once_passes(seed: int) -> None:
    run(Script.of(seed))


@pytest.mark.parametrize("seed", [103_001, 103_037, *sorted(TREE)])
def test_histories_of_seeds_that_failed_with_any_scripts_pass(seed: int) -> None:
    run_script(TreeScript.mixed(seed))


def test_the_same_seed_gives_the_same_run_in_every_process() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for _ in range(2)
    }
    assert len(digests) == 1


@pytest.mark.soak
def test_eight_devices_come_to_the_same() -> None:
    run(Script.of(2, 8))


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
