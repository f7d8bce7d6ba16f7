"""The first messages of a session: each side's Hello, the dialler's first."""

from collections.abc import Callable
from typing import Final

import trio

from dittofs.ids import VolumeId
from dittofs.links.link import Link, LinkBroken
from dittofs.replication.calls import frame_bytes
from dittofs.replication.errors import ProtocolError, Refused
from dittofs.replication.outbox import Outbox
from dittofs.replication.peers import Peers
from dittofs.sync import messages as wire
from dittofs.sync.frame import FrameReader, frames

HELLO_S: Final = 10.0
MEMBERS_BYTES_MAX: Final = 16 << 20
"""What a message may hold before its sender is known to be a member."""


async def dialled(link: Link, peers: Peers, *, is_beside: bool = False) -> str:
    """Greet on a link that this side began, and hold the session. Returns why it ended.

    `is_beside`: it is for chunks alone, beside another session. Raises Refused in the peer's words,
    LinkBroken, or ProtocolError.
    """
    reader, ours = FrameReader(MEMBERS_BYTES_MAX), peers.hello(link.peer, is_beside=is_beside)
    await _say(link, ours)
    theirs = await _hear(link, reader)
    if theirs.volume != ours.volume:
        raise ProtocolError("an answer about another volume")
    return await peers.serve(link, reader, Outbox(frame_bytes(link)), ours, theirs)


async def accepted(
    link: Link, find: Callable[[VolumeId], Peers | None]
) -> tuple[Peers, wire.Hello, FrameReader]:
    """Hear what a peer that dialled wants. Raises as `dialled`; it has been told why, then."""
    reader = FrameReader(MEMBERS_BYTES_MAX)
    theirs = await _hear(link, reader)
    peers = find(VolumeId(theirs.volume))
    if peers is None:
        await _say(link, wire.Refuse("unknown", "this device has no such volume"))
        raise Refused("unknown", "asks for a volume that is not here")
    return peers, theirs, reader


async def answered(link: Link, peers: Peers, theirs: wire.Hello, reader: FrameReader) -> str:
    """Greet back and hold the session. Returns why it ended."""
    ours = peers.hello(link.peer)
    await _say(link, ours)
    return await peers.serve(link, reader, Outbox(frame_bytes(link)), ours, theirs)


async def _say(link: Link, message: wire.Message) -> None:
    for parts in frames(wire.encode_header(message), b"", is_bulk=False):
        await link.send_all(b"".join(parts))


async def _hear(link: Link, reader: FrameReader) -> wire.Hello:
    """The peer's Hello. What follows it stays in the reader."""
    try:
        with trio.fail_after(HELLO_S):
            while True:
                data = await link.receive_some()
                if not data:
                    raise LinkBroken("the peer closed the link before it said anything")
                for header, _ in reader.feed(data):
                    match wire.decode_header(header):
                        case wire.Hello() as hello:
                            return hello
                        case wire.Refuse(code=code, text=text):
                            raise Refused(code, text if text.isprintable() else code)
                        case other:
                            raise ProtocolError(f"{type(other).__name__} before Hello")
    except trio.TooSlowError:
        raise LinkBroken(f"the peer said nothing for {HELLO_S:g} s") from None
