"""Tasks that fail end nothing else, and what is logged says whether it is a bug."""

import pytest
import trio
import trio.testing

from dittofs.errors import DiskFull
from dittofs.replication.upkeep import contained


async def _fail_in_a_nursery(error: Exception) -> None:
    async def fail() -> None:
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)


@pytest.mark.logs_warning("a part of replication failed")
@pytest.mark.parametrize("is_bug", [False, True])
async def test_a_full_disk_met_by_one_of_several_tasks_is_no_bug(
    caplog: pytest.LogCaptureFixture, is_bug: bool
) -> None:
    error = KeyError("x") if is_bug else DiskFull("no room left")
    await contained(lambda: _fail_in_a_nursery(error))
    (record,) = caplog.records
    assert ("by a bug" in record.getMessage()) == is_bug
    assert is_bug or "no room left" in record.getMessage()


@pytest.mark.logs_warning("a part of replication failed")
async def test_a_task_that_fails_while_it_is_cancelled_takes_nothing_along() -> None:
    async def sleep_and_fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise DiskFull("no room left")

    async def task() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep_and_fail)
            nursery.start_soon(trio.sleep_forever)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(contained, task)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
