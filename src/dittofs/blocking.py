"""The one way to leave the event loop: `run_blocking(function, *args)`.

A blocking function runs to its end even if its caller is cancelled, so that one disk
change is either not begun or whole.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

import trio

Result = TypeVar("Result")
Args = TypeVarTuple("Args")


class RunBlocking(Protocol):
    """Runs a function that may block, somewhere it disturbs nobody."""

    async def __call__(self, function: Callable[[*Args], Result], /, *args: *Args) -> Result: ...


async def run_in_thread(function: Callable[[*Args], Result], /, *args: *Args) -> Result:
    """Run `function` in a worker thread; it is never abandoned half-way."""
    return await trio.to_thread.run_sync(function, *args)


async def run_inline(function: Callable[[*Args], Result], /, *args: *Args) -> Result:
    """Run `function` here and now: what simulations use, where order must be reproducible."""
    await trio.lowlevel.checkpoint()
    return function(*args)
