"""The one place where asyncio meets trio: an asyncio loop on a thread of its own.

Some libraries speak asyncio alone. Their coroutines run here and are awaited from trio; what
they have to tell by themselves comes through an `Inbound`. Cancellation crosses both ways.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

import trio

from dittofs.errors import DittoError

Result = TypeVar("Result")
Item = TypeVar("Item")


class AsyncioStopped(DittoError):
    """The asyncio side gave up the call, or does not run any more."""


class AsyncioThread:
    """A running asyncio loop, as trio sees it. `open_asyncio_thread` makes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inbound: list[Inbound[Any]] = []
        self._is_stopped = False

    async def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run `coroutine` on the asyncio loop: return what it returns, raise what it raises.

        When this is cancelled, so is the coroutine, and it has ended when this returns: one that
        takes long to end holds up its canceller. AsyncioStopped if it was cancelled on its own
        side, or the thread stops.
        """
        if self._is_stopped:
            coroutine.close()
            raise AsyncioStopped("the asyncio thread has stopped")
        call = _Call(coroutine)
        self._loop.call_soon_threadsafe(call.begin)
        try:
            await call.is_settled.wait()
        except trio.Cancelled:
            with suppress(RuntimeError):  # the loop is closed: it has cancelled the call itself
                self._loop.call_soon_threadsafe(call.cancel)
            with trio.CancelScope(shield=True):
                await call.is_settled.wait()
            if call.is_cancelled():
                raise
        return call.result()

    def inbound(self, items_max: int) -> "Inbound[Any]":
        """A new channel from asyncio to trio."""
        inbound = Inbound[Any](self._loop, items_max)
        self._inbound.append(inbound)
        return inbound

    def _stop(self) -> None:
        self._is_stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _close(self) -> None:
        for inbound in self._inbound:
            inbound.close()


@asynccontextmanager
async def open_asyncio_thread() -> AsyncIterator[AsyncioThread]:
    """An asyncio loop for the length of the block. What still runs there then is cancelled and awaited."""
    loop = asyncio.new_event_loop()
    thread = AsyncioThread(loop)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_live, loop)
            try:
                yield thread
            finally:
                thread._stop()
    finally:
        thread._close()


class Inbound(Generic[Item]):
    """A channel from asyncio to trio that holds a bounded number of items; `put` waits while it is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop, items_max: int) -> None:
        self._loop = loop
        self._token = trio.lowlevel.current_trio_token()
        self._sender, self._receiver = trio.open_memory_channel[Item](items_max)
        self._room = asyncio.Semaphore(items_max)

    async def put(self, item: Item) -> None:
        """On the asyncio side: hand over `item`. It is dropped if the trio side has closed."""
        await self._room.acquire()
        self._token.run_sync_soon(self._deliver, item)

    async def receive(self) -> Item:
        """On the trio side: the next item. `trio.EndOfChannel` once the thread has stopped."""
        item = await self._receiver.receive()
        with suppress(RuntimeError):  # the loop is closed, and nobody puts any more
            self._loop.call_soon_threadsafe(self._room.release)
        return item

    def __aiter__(self) -> "Inbound[Item]":
        return self

    async def __anext__(self) -> Item:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """On the trio side: no more items come; those that came can still be received."""
        self._sender.close()

    def _deliver(self, item: Item) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._sender.send_nowait(item)


class _Call(Generic[Result]):
    """A coroutine on its way through the asyncio loop. `begin` and `cancel` belong to the asyncio thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, Result]) -> None:
        self.is_settled = trio.Event()
        self._coroutine = coroutine
        self._token = trio.lowlevel.current_trio_token()
        self._task: asyncio.Task[Result] | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self._token.run_sync_soon(self.is_settled.set))

    def cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()

    def is_cancelled(self) -> bool:
        return self._task is not None and self._task.cancelled()

    def result(self) -> Result:
        assert self._task is not None
        try:
            return self._task.result()
        except asyncio.CancelledError:
            raise AsyncioStopped("the asyncio side gave up the call") from None


async def _live(loop: asyncio.AbstractEventLoop) -> None:
    # Shielded: `_stop` ends it, in time, and nothing may be left running on the thread.
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(_run_loop, loop, limiter=trio.CapacityLimiter(1))


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
