"""Where asyncio and trio meet."""

import asyncio
import threading

import pytest
import trio
import trio.testing

from dittofs.links.asyncio_thread import AsyncioStopped, AsyncioThread, Inbound, open_asyncio_thread


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


async def fail() -> None:
    await asyncio.sleep(0)
    raise LookupError("no such thing")


async def test_results_and_errors_come_back() -> None:
    async with open_asyncio_thread() as thread:
        assert await thread.run(answer(1)) == 2
        with pytest.raises(LookupError, match="no such thing"):
            await thread.run(fail())
        assert await thread.run(answer(2)) == 3


async def test_it_is_another_thread_and_one_for_all_calls() -> None:
    async def where() -> int:
        return threading.get_ident()

    async with open_asyncio_thread() as thread:
        first, second = await thread.run(where()), await thread.run(where())
    assert first == second != threading.get_ident()


async def test_calls_run_beside_each_other() -> None:
    ready, go = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        ready.set()
        await go.wait()
        return "waited"

    async def release() -> None:
        await ready.wait()
        go.set()

    found: list[str] = []

    async def keep(thread: AsyncioThread) -> None:
        found.append(await thread.run(wait()))

    async with open_asyncio_thread() as thread, trio.open_nursery() as nursery:
        nursery.start_soon(keep, thread)
        nursery.start_soon(thread.run, release())
    assert found == ["waited"]


async def test_a_cancelled_call_has_ended_on_the_other_side_when_it_returns() -> None:
    begun, steps = trio.Event(), []
    token = trio.lowlevel.current_trio_token()

    async def wait() -> None:
        token.run_sync_soon(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    async with open_asyncio_thread() as thread:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(thread.run, wait())
                await begun.wait()
                scope.cancel()
            pytest.fail("it was not cancelled")
        assert scope.cancelled_caught
        assert steps == ["cleaned up"]


async def test_a_result_that_was_ready_survives_cancellation() -> None:
    async def insist() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        raise AssertionError

    async with open_asyncio_thread() as thread:
        with trio.move_on_after(0.01):
            assert await thread.run(insist()) == "done all the same"


async def test_cancellation_on_the_other_side_is_an_error_here() -> None:
    async def give_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with open_asyncio_thread() as thread:
        with pytest.raises(AsyncioStopped):
            await thread.run(give_up())


async def test_the_end_cancels_what_still_runs_and_waits_for_it() -> None:
    steps = []
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def wait(name: str) -> None:
        token.run_sync_soon(begun.set)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            steps.append(name)

    background = set()

    async def leave() -> None:
        background.add(asyncio.create_task(wait("left behind")))
        await asyncio.sleep(0)

    async def call(thread: AsyncioThread) -> None:
        with pytest.raises(AsyncioStopped):
            await thread.run(wait("awaited"))

    async with trio.open_nursery() as nursery, open_asyncio_thread() as thread:
        await thread.run(leave())
        await begun.wait()
        begun = trio.Event()
        nursery.start_soon(call, thread)
        await begun.wait()
    assert sorted(steps) == ["awaited", "left behind"]
    with pytest.raises(AsyncioStopped):
        await thread.run(answer(1))


async def test_an_error_in_the_block_ends_the_thread_too() -> None:
    with pytest.RaisesGroup(LookupError):
        async with open_asyncio_thread() as thread:
            raise LookupError
    with pytest.raises(AsyncioStopped):
        await thread.run(answer(1))


async def test_cancelling_the_block_ends_the_thread_too() -> None:
    with trio.move_on_after(0.01) as scope:
        async with open_asyncio_thread() as thread:
            await thread.run(asyncio.Event().wait())
    assert scope.cancelled_caught


async def test_items_arrive_in_order_and_no_more_wait_than_may() -> None:
    put: list[int] = []

    async def produce(inbound: Inbound[int]) -> None:
        for number in range(20):
            await inbound.put(number)
            put.append(number)

    async with open_asyncio_thread() as thread, trio.open_nursery() as nursery:
        inbound = thread.inbound(3)
        nursery.start_soon(thread.run, produce(inbound))
        assert await inbound.receive() == 0
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert len(put) <= 5
        assert [await inbound.receive() for _ in range(19)] == list(range(1, 20))


async def test_what_was_put_is_received_after_the_thread_has_stopped() -> None:
    async def produce(inbound: Inbound[str]) -> None:
        await inbound.put("last")

    async with open_asyncio_thread() as thread:
        inbound = thread.inbound(3)
        await thread.run(produce(inbound))
    assert [item async for item in inbound] == ["last"]
