"""Byte streams in memory that hold a bounded amount, as a socket does, so that a sender waits."""

import trio

PIECE_BYTES = 4096
PIECES_MAX = 16

Pipe = trio.StapledStream["PipeSender", "PipeReceiver"]


class PipeSender(trio.abc.SendStream):
    def __init__(self, channel: trio.MemorySendChannel[bytes]) -> None:
        self._channel = channel

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        await trio.lowlevel.checkpoint()
        for begin in range(0, len(view), PIECE_BYTES):
            await self._channel.send(bytes(view[begin : begin + PIECE_BYTES]))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._channel.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


class PipeReceiver(trio.abc.ReceiveStream):
    def __init__(self, channel: trio.MemoryReceiveChannel[bytes]) -> None:
        self._channel = channel
        self._left = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._left:
            await trio.lowlevel.checkpoint()
        else:
            try:
                self._left = await self._channel.receive()
            except trio.EndOfChannel:
                return b""
        data, self._left = self._left[:max_bytes], self._left[max_bytes or PIECE_BYTES :]
        return data

    def close(self) -> None:
        self._channel.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


def pipe_pair() -> tuple[Pipe, Pipe]:
    """Two ends of a stream, each with `send_eof`."""
    there_send, there_receive = trio.open_memory_channel[bytes](PIECES_MAX)
    back_send, back_receive = trio.open_memory_channel[bytes](PIECES_MAX)
    return (
        trio.StapledStream(PipeSender(there_send), PipeReceiver(back_receive)),
        trio.StapledStream(PipeSender(back_send), PipeReceiver(there_receive)),
    )


def cut(pipe: Pipe) -> None:
    """End both directions at once, as a crash does."""
    pipe.send_stream.close()
    pipe.receive_stream.close()
