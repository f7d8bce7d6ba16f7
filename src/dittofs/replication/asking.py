"""Finding who shows a code by way of a signalling server: the joiner's side."""

from collections.abc import Sequence
from functools import partial

import trio

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.links.link import Alpn, Link, LinkBroken
from dittofs.replication.calls import Calls
from dittofs.replication.pairing import close
from dittofs.replication.talk import Room, Talk
from dittofs.server_urls import IceServer, SignalUrl
from dittofs.signalling import sealing
from dittofs.signalling.client import ServerLost, open_connection
from dittofs.signalling.messages import Came, Enter, Gone, Part, Refused, Said
from dittofs.signalling.sealing import Answer, parse


async def dial_host(
    url: SignalUrl, slot: int, calls: Calls, ice: Sequence[IceServer], entropy: Entropy
) -> Link:
    """A link for pairing to whoever shows a code with that number there, waited for. ServerLost, LinkBroken.

    Nothing is said to it yet: the server may have brought anybody.
    """
    link: Link | None = None
    name = sealing.pairing_room(slot)
    try:
        async with open_connection(url) as connection:
            talk = Talk(connection, entropy(sealing.NONCE_BYTES), {name: Room(Part.GUEST)})
            talk.put(Enter(name, Part.GUEST))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk.send)
                who = await _host(talk, url)
                nursery.start_soon(_hear, talk)
                link = await calls.call(
                    talk.servers(url, ice, 0),
                    # The host cannot know this device's nonce otherwise, and answers to what is told here.
                    partial(talk.exchange, name, who, talk.nonce),
                    alpn=Alpn.PAIRING,
                    admits=lambda _who, _alpn: True,
                )
                nursery.cancel_scope.cancel()
    except BaseException:
        if link is not None:
            await close(link)
        raise
    assert link is not None
    return link


async def _host(talk: Talk, url: SignalUrl) -> int:
    while True:
        match await talk.connection.receive():
            case Refused():
                raise ServerLost(f"{url} lets nobody ask for that code just now")
            case Came(who=who):
                return who


async def _hear(talk: Talk) -> None:
    """Take the answer. LinkBroken if the host has gone."""
    while True:
        match await talk.connection.receive():
            case Said(body=body):
                try:
                    word = parse(body)
                except FormatError:
                    continue
                if isinstance(word, Answer) and word.to == talk.nonce:
                    talk.answered(word.number, word.description)
            case Gone():
                raise LinkBroken("the inviting device has left the signalling server")
