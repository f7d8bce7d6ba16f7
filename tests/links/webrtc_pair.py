"""Two WebRTC processes of this machine, connected; their descriptions are carried by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from dittofs.links.webrtc import call, take

PATIENCE_S = 60.0


@asynccontextmanager
async def webrtc_streams() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """The caller's stream and the other's. Both processes have ended when this ends."""
    offers, offered = trio.open_memory_channel[str](1)
    answers, answered = trio.open_memory_channel[str](1)
    streams: dict[bool, trio.SocketStream] = {}

    async def exchange(description: str) -> str:
        await offers.send(description)
        return await answered.receive()

    async def call_one() -> None:
        streams[True], _ = await call((), exchange, processes)

    async def take_one() -> None:
        streams[False], _ = await take((), await offered.receive(), answers.send, processes)

    async with trio.open_nursery() as processes:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call_one)
                nursery.start_soon(take_one)
        async with streams[True], streams[False]:
            yield streams[True], streams[False]
        processes.cancel_scope.deadline = trio.current_time() + PATIENCE_S
    assert not processes.cancel_scope.cancelled_caught, "a process did not end with its stream"
