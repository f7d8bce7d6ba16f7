"""Streams over WebRTC data channels, through NATs, each made by a process of its own (`webrtc_process`).

The daemon sees a socket. Two sides need to exchange a description each beforehand, by whatever way there is.
"""

import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from dittofs.errors import DittoError, FormatError
from dittofs.links.link import LinkBroken
from dittofs.links.webrtc_control import (
    LENGTH_BYTES,
    Answered,
    AnyControl,
    Begin,
    Described,
    Failed,
    Opened,
    decode,
    encode,
    length,
)
from dittofs.server_urls import IceServer

TRANSPORT: Final = "webrtc"
"""The first word of such a link's description."""
OPEN_S: Final = 45.0
"""A process takes a second to start, at most seven to find its addresses, and its own time to connect."""

_MODULE: Final = "dittofs.links.webrtc_process"

Exchange = Callable[[str], Awaitable[str]]
"""Takes a description to the other side and brings back that of the other side."""
Tell = Callable[[str], Awaitable[None]]
"""Takes a description to the other side."""


async def call(
    servers: Sequence[IceServer], exchange: Exchange, nursery: trio.Nursery
) -> tuple[trio.SocketStream, str]:
    """Connect to whoever `exchange` reaches: the stream, and where the other end is.

    `nursery` holds the process, which ends with the stream. LinkBroken; what `exchange` raises.
    """
    return await _opened(servers, "", exchange, None, nursery)


async def take(
    servers: Sequence[IceServer], offer: str, tell: Tell, nursery: trio.Nursery
) -> tuple[trio.SocketStream, str]:
    """Connect to whoever made `offer`, and hears by `tell`. As `call`."""
    return await _opened(servers, offer, None, tell, nursery)


async def _opened(
    servers: Sequence[IceServer],
    offer: str,
    exchange: Exchange | None,
    tell: Tell | None,
    nursery: trio.Nursery,
) -> tuple[trio.SocketStream, str]:
    stream = await _start(nursery)
    try:
        with trio.fail_after(OPEN_S):
            await stream.send_all(encode(Begin(tuple(map(str, servers)), offer)))
            described = await _heard(stream)
            if not isinstance(described, Described):
                raise _wrong(described)
            if exchange is not None:
                await stream.send_all(encode(Answered(await exchange(described.description))))
            elif tell is not None:
                await tell(described.description)
            opened = await _heard(stream)
            if not isinstance(opened, Opened):
                raise _wrong(opened)
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
        raise LinkBroken(f"{TRANSPORT}: no connection within {OPEN_S:g} s") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError, FormatError) as error:
        await trio.aclose_forcefully(stream)
        raise LinkBroken(f"{TRANSPORT}: {error}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream, opened.path


async def _start(nursery: trio.Nursery) -> trio.SocketStream:
    """The socket of a process that has been started."""
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    try:
        with theirs:
            command = [sys.executable, "-m", _MODULE, str(theirs.fileno())]
            run = partial(
                trio.run_process,
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
                check=False,
            )
            await nursery.start(run)
    except OSError as error:
        await trio.aclose_forcefully(stream)
        raise LinkBroken(f"{TRANSPORT}: its process cannot be started: {error.strerror}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _heard(stream: trio.SocketStream) -> AnyControl:
    return decode(await _exactly(stream, length(await _exactly(stream, LENGTH_BYTES))))


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    """No byte more: what follows is the link's."""
    data = b""
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        if not piece:
            raise LinkBroken(f"{TRANSPORT}: its process ended")
        data += piece
    return data


def _wrong(message: AnyControl) -> DittoError:
    if isinstance(message, Failed):
        return LinkBroken(f"{TRANSPORT}: {message.reason}")
    return FormatError("the process went on otherwise")
