"""Tasks whose bugs must not take the mount along: what they raise is logged, and ends nothing else."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import structlog
import trio

from dittofs.errors import DittoError

log = structlog.get_logger()

RESTART_S: Final = 2.0
PART_FAILED: Final = "a part of replication failed"
"""What is logged, unless the task has another name."""


async def kept_up(
    task: Callable[[], Awaitable[None]],
    restarted: Callable[[], None] = lambda: None,
    *,
    failure: str = PART_FAILED,
) -> None:
    """Run a task that never ends by itself, for ever: if it fails it begins again after a moment."""
    while True:
        await contained(task, failure)
        await trio.sleep(RESTART_S)
        restarted()


async def contained(task: Callable[[], Awaitable[None]], failure: str = PART_FAILED) -> None:
    """Run a task to its end, whatever that is. Its cancellation goes on, whatever failed beside it."""
    try:
        await task()
    except* DittoError as group:
        log.error(failure, reason="; ".join(map(str, _reasons(group))))
    except* Exception as group:
        log.error(f"{failure} by a bug", exc_info=group)


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """What tasks of a nursery raised, one by one."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _reasons(one)
    else:
        yield error
