"""Bytes between a data channel and the daemon's socket, with a channel whose pace a test chooses."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from aiortc import RTCDataChannel, RTCPeerConnection

from dittofs.links.webrtc_process import BUFFERED_MAX, Carrier
from dittofs.links.webrtc_window import Window

SENT = bytes(range(256)) * 512
HEARD_MEANWHILE = 40
"""More events than the seconds the other side has."""


class Channel:
    """An open data channel and who is at its other end, who takes nothing before `release`."""

    readyState = "open"
    bufferedAmountLowThreshold = 0

    def __init__(self) -> None:
        self.bufferedAmount = BUFFERED_MAX + 1
        self.other = Window()
        self.taken = bytearray()
        self._handlers: dict[str, Callable[..., None]] = {}

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self._handlers[event] = handler

    def send(self, message: bytes) -> None:
        self.other.receive(message)
        while (piece := self.other.next_piece()) is not None:
            self.taken += piece
            self._give_back(len(piece))
        if self.other.has_got_end and len(self.taken) == len(SENT):
            self._give_back(1)

    def say(self, message: bytes) -> None:
        """What the other side sends arrives."""
        asyncio.get_running_loop().call_soon(self._handlers["message"], message)

    def release(self) -> None:
        self.bufferedAmount = 0
        self._handlers["bufferedamountlow"]()

    def _give_back(self, count: int) -> None:
        credit = self.other.take(count)
        if credit is not None:
            self.say(credit)


def test_what_the_daemon_said_before_it_closed_arrives_however_much_comes_meanwhile() -> None:
    async def converse() -> bytes:
        daemon, near = socket.socketpair()
        near.setblocking(False)
        daemon.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(SENT))
        daemon.sendall(SENT)
        daemon.close()
        connection, channel = RTCPeerConnection(), Channel()
        carried = asyncio.create_task(Carrier(connection, cast(RTCDataChannel, channel), near).run())
        await _turns()
        for _ in range(HEARD_MEANWHILE):
            channel.say(channel.other.data(b"more"))
            await _turns()
        channel.release()
        async with asyncio.timeout(60):
            await carried
        await connection.close()
        return bytes(channel.taken)

    assert asyncio.run(converse()) == SENT


async def _turns() -> None:
    """Let everything go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)
