"""Histories of replicas converge, the index equals the oracle, and no content is lost.

`python -m tests.property.histories --count 5000 --seed 1` runs as many as one likes.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.histories import run
from tests.property.history_users import PROFILES

HISTORIES = 240
BATCHES = 8


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_histories_converge_and_lose_nothing(batch: int) -> None:
    for seed in range(batch, HISTORIES, BATCHES):
        run(seed)


@given(seed=st.integers(1 << 32, (1 << 48) - 1), replicas=st.integers(2, 4), steps=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_histories_of_any_seed_and_size_converge_and_lose_nothing(
    seed: int, replicas: int, steps: int
) -> None:
    run(seed, replicas=replicas, steps=steps)


def test_long_histories_of_each_kind_converge_and_lose_nothing() -> None:
    for seed in range(len(PROFILES)):
        run(1_000 + seed, replicas=4, steps=150)
