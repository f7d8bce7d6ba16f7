"""A process that is found and finds: `python -m tests.e2e.mdns_speaker PORT`, in a network namespace.

Its input is lines of tags to be found by; its output is lines of JSON, one for each sighting, and
`{"log": ...}` for each line of the log. It says goodbye at the end of its input.
"""

import json
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
import trio

from dittofs.discovery.mdns import Mdns
from dittofs.links.asyncio_thread import open_asyncio_thread


def tell(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")  # in one piece: two threads tell
    sys.stdout.flush()


def tell_log(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    tell(log=event["event"])
    raise structlog.DropEvent


async def main(port: int) -> None:
    async with open_asyncio_thread() as thread, trio.open_nursery() as nursery:
        mdns = Mdns(thread, port, os.urandom(8))

        async def hear() -> None:
            async for sighting in mdns.sightings:
                tell(
                    instance=sighting.instance,
                    tags=sorted(tag.decode() for tag in sighting.tags),
                    addresses=[str(address) for address in sighting.addresses],
                    is_gone=sighting.is_gone,
                )

        nursery.start_soon(hear)
        await nursery.start(mdns.run)
        tell(own=mdns.instance)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            await mdns.advertise(tag.encode() for tag in line.split())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    structlog.configure(processors=[tell_log])
    trio.run(main, int(sys.argv[1]))
