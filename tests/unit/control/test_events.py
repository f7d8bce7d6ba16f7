"""Listeners of the event feed."""

from contextlib import aclosing

import trio

from dittofs.control.events import LISTENER_EVENTS_MAX, EventFeed
from dittofs.control.protocol import DamageEvent, Event, Finding, LaggedEvent, StoppingEvent

DAMAGE = DamageEvent(volume="v", finding=Finding(severity="damage", what="pack", detail="torn"))


async def test_a_slow_listener_is_told_how_much_it_missed_and_holds_nobody_up() -> None:
    feed = EventFeed()
    seen: list[Event] = []

    async def listen() -> None:
        async with aclosing(feed.listen()) as events:
            async for event in events:
                seen.append(event)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(LISTENER_EVENTS_MAX + 7):
            feed.publish(DAMAGE)
        await trio.testing.wait_all_tasks_blocked()
        feed.publish(StoppingEvent())
    assert seen == [DAMAGE] * LISTENER_EVENTS_MAX + [LaggedEvent(missed=7), StoppingEvent()]


async def test_a_listener_that_left_costs_nothing() -> None:
    feed = EventFeed()
    async with aclosing(feed.listen()) as events:
        with trio.move_on_after(0):
            await anext(events)
    assert feed.listeners == 0
    feed.publish(DAMAGE)
