"""A long life: compaction, retention and garbage rounds lose nothing, and what is kept stays small."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.simulation import years


@pytest.mark.parametrize(
    ("operations", "length"),
    [(800, 0.2), pytest.param(30_000, 3.0, marks=pytest.mark.soak)],
    ids=["weeks", "years"],
)
async def test_a_long_life_keeps_every_file_and_no_more_than_a_share_beside(
    tmp_path: Path, autojump_clock: MockClock, operations: int, length: float
) -> None:
    assert autojump_clock.rate == 0
    last = (await years.run(tmp_path, operations, length, seed=1))[-1]
    assert last.state <= 2 * 400 * (last.files + last.removed)
    assert last.history <= 2 * operations
