"""Few rows are late in a simulation, so that they are written to their tables every few transactions."""

from collections.abc import Iterator

import pytest

from dittofs.journal import redo

LATE_ROWS_MAX = 24


@pytest.fixture(scope="package", autouse=True)
def _rows_are_soon_written() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redo, "LATE_ROWS_MAX", LATE_ROWS_MAX)
        yield
