"""A daemon in a process of its own: the lock, the socket, a small service; with --broken it cannot run."""

import fcntl
import sys

import trio

from dittofs.config import Paths
from dittofs.control.protocol import EXIT_ALREADY_RUNNING
from dittofs.control.server import serve
from tests.unit.control.small_service import SmallService


async def run(paths: Paths) -> None:
    service = SmallService()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, service, paths.socket)
        await service.stopped.wait()
        nursery.cancel_scope.cancel()


def main() -> int:
    paths = Paths.find()
    if "--broken" in sys.argv:
        print("timestamp='x' event='a line of the log'")
        print("the key file is open to others. Run: chmod 600 device.key", file=sys.stderr)
        return 1
    with (paths.state / "daemon.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return EXIT_ALREADY_RUNNING
        trio.run(run, paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
