"""Histories of whole replicas, with compaction, restarts and copied devices, converge and lose nothing.

`python -m tests.property.exchange_histories --count 5000 --seed 1` runs as many as one likes.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.exchange_histories import run

HISTORIES = 160
BATCHES = 8


@pytest.mark.parametrize("batch", range(BATCHES))
def test_replicas_that_compact_when_they_like_converge_and_lose_nothing(batch: int) -> None:
    for seed in range(batch, HISTORIES, BATCHES):
        run(seed)


@given(seed=st.integers(1 << 32, (1 << 44) - 1), replicas=st.integers(2, 5), steps=st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_histories_of_any_seed_and_size_converge_and_lose_nothing(
    seed: int, replicas: int, steps: int
) -> None:
    run(seed, replicas=replicas, steps=steps)


@pytest.mark.logs_warning("another copy of this device")
@pytest.mark.parametrize("batch", range(4))
def test_copies_of_a_device_that_go_on_as_one_writer_converge_with_all_others(batch: int) -> None:
    for seed in range(batch, 48, 4):
        run(seed, forks=True, replicas=2 + seed % 2)
