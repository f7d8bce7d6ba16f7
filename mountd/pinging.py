"""What the local API asks about one other device: does it answer, how fast, and which way."""

from collections.abc import AsyncGenerator

import trio

from dittofs.control.faults import Refusal
from dittofs.control.sharing import PingDone, PingItem, PingReply, PingRequest
from dittofs.errors import ConfigError
from dittofs.identity.keys import DeviceId
from dittofs.node import Node


async def ping(node: Node, request: PingRequest) -> AsyncGenerator[PingItem, None]:
    """See `Service.ping`."""
    opened = node.require_open(request.volume)
    try:
        member = opened.find_member(request.device)
    except ConfigError as error:
        raise Refusal("not_found", str(error), "dittofs devices") from error
    device = DeviceId(member.device)
    if device == node.device_id:
        raise Refusal("usage", f'"{member.name}" is this very device', "Name another:  dittofs devices")
    received = 0
    for number in range(1, request.count + 1):
        begun = trio.current_time()
        session = opened.peers.session(device)
        took = None if session is None else await session.liveness.probe(request.patience_s)
        received += took is not None
        yield PingReply(number, took, "" if session is None else session.link.description)
        if number < request.count:
            await trio.sleep_until(begun + request.interval_s)
    yield PingDone(member.name, device.hex(), request.count, received)
