"""Streams of bytes over Bluetooth, of the descriptors that BlueZ hands out."""

import errno
import socket
from contextlib import suppress
from typing import Final

import trio

_RESET: Final = {errno.ECONNRESET, errno.ENOTCONN}


class RfcommStream(trio.abc.Stream):
    """One connection to one device. It cannot be closed by halves: `shutdown` ends both directions."""

    def __init__(self, connected: socket.socket) -> None:
        """Takes `connected`, and closes it at the end."""
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))

    @property
    def is_closed(self) -> bool:
        """Whether this side has closed it."""
        return self._stream.socket.fileno() < 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As every stream. RFCOMM ends with what TCP would call a reset, so that is the end."""
        try:
            return await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _RESET:
                return b""
            raise

    async def aclose(self) -> None:
        """Close; what was sent still arrives. Without the shutdown the other side hears of it 10 s later."""
        self.end()
        await self._stream.aclose()

    def end(self) -> None:
        """End both directions, whoever uses them."""
        with suppress(OSError):  # it is gone already
            self._stream.socket.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Close at once; nobody uses it."""
        self.end()
        self._stream.socket.close()
