"""Waiting for requests: one reader at a time, requests in a row without the scheduler, everybody's turn."""

import os
from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mountd.request_loop import TURN_S, Readiness, ReadLock

IN_A_ROW = 100


class HandClock:
    """Time that moves when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_requests_in_a_row_are_taken_without_the_scheduler(pipe: tuple[int, int]) -> None:
    readiness = Readiness(HandClock())
    os.write(pipe[1], b"requests")
    await readiness.wait_readable(pipe[0])
    others: list[str] = []

    async def other() -> None:
        others.append("ran")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(IN_A_ROW):
            await readiness.wait_readable(pipe[0])
        assert not others


async def test_every_other_task_runs_before_the_second_turn_ends(pipe: tuple[int, int]) -> None:
    clock = HandClock()
    readiness = Readiness(clock)
    os.write(pipe[1], b"requests")
    await readiness.wait_readable(pipe[0])
    others: list[str] = []

    async def other() -> None:
        others.append("ran")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(2):
            clock.now_s += TURN_S
            await readiness.wait_readable(pipe[0])
        assert others


async def test_without_a_request_the_reader_sleeps_until_there_is_one(pipe: tuple[int, int]) -> None:
    readiness = Readiness(HandClock())
    os.write(pipe[1], b"1")
    await readiness.wait_readable(pipe[0])
    os.read(pipe[0], 1)
    woken: list[str] = []

    async def reader() -> None:
        await readiness.wait_readable(pipe[0])
        woken.append("woken")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        assert not woken
        os.write(pipe[1], b"2")
    assert woken


async def test_one_reads_and_the_next_does_while_the_first_is_busy() -> None:
    lock = ReadLock()
    order: list[str] = []
    is_answered = trio.Event()

    async def first() -> None:
        async with lock:
            order.append("first reads")
            await wait_all_tasks_blocked()
        order.append("first is busy")
        await is_answered.wait()
        order.append("first answers")

    async def second() -> None:
        async with lock:
            order.append("second reads")
        is_answered.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        nursery.start_soon(second)
    assert order == ["first reads", "first is busy", "second reads", "first answers"]


async def test_the_lock_admits_one_at_a_time_and_leaves_nobody_waiting() -> None:
    lock = ReadLock()
    turns: list[str] = []
    inside: list[str] = []

    async def reader(name: str) -> None:
        for _ in range(3):
            async with lock:
                assert not inside
                inside.append(name)
                await trio.lowlevel.checkpoint()
                inside.remove(name)
            turns.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            nursery.start_soon(reader, name)
    assert sorted(turns) == sorted("abc" * 3)
