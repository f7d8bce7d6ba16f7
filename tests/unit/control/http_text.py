"""HTTP by hand, for what a well-behaved client would never send."""

import json
from typing import Any

import trio


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything until the server closes."""
    received = bytearray()
    try:
        async for piece in stream:
            received += piece
    except trio.BrokenResourceError:
        pass  # closed with a reset: what came before it counts
    return bytes(received)


async def talk(stream: trio.abc.HalfCloseableStream, request: bytes) -> tuple[int, dict[str, Any]]:
    """Send one request, end, and return status and JSON of the only reply."""
    await stream.send_all(request)
    await stream.send_eof()
    return parse(await read_all(stream))


def parse(reply: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)
