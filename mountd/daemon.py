"""The daemon: one per DITTOFS_HOME. Opens the node, serves the local API, mounts, waits for signals."""

import argparse
import ctypes
import dataclasses
import logging
import logging.handlers
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog
import trio

from dittofs.address import Address
from dittofs.blocking import run_in_thread
from dittofs.clock import SystemClock, system_entropy
from dittofs.config import Paths, Settings
from dittofs.control.events import EventFeed
from dittofs.control.protocol import EXIT_ALREADY_RUNNING, StoppingEvent
from dittofs.control.server import serve
from dittofs.disk import InUse
from dittofs.errors import ConfigError, DittoError, FormatError
from dittofs.local_disk import require_writable
from dittofs.node import Node
from mountd.happenings import Happenings
from mountd.mounting import Mounting
from mountd.service import DaemonService

log = structlog.get_logger()

LOG_BYTES_MAX = 4 << 20
LOG_FILES_KEPT = 3
PR_SET_DUMPABLE = 4
SWITCH_INTERVAL_S = 0.0005  # a hashing thread gives the event loop its turn this soon


def main(argv: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT. Exit status 75 if another daemon has this DITTOFS_HOME."""
    try:
        paths = Paths.find()
        settings = settings_with(Settings.read(paths.settings), argv)
        require_writable(paths.state)
        _set_up_logging(paths.state / "daemon.log", settings.log_level)
        _keep_secrets_in()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        trio.run(run, paths, settings)
    except DittoError as error:
        return _end_with(error)
    except BaseExceptionGroup as group:
        expected, unexpected = group.split(DittoError)
        if unexpected is not None or expected is None:
            log.critical("the daemon ends by a bug", exc_info=group)
            raise
        return max(_end_with(error) for error in _leaves(expected))
    return 0


def settings_with(settings: Settings, argv: Sequence[str]) -> Settings:
    """The settings of the file, with what `dittofs daemon` was given in their place. ConfigError."""
    parser = argparse.ArgumentParser("python -m mountd", allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--bind", default=settings.bind)
    parser.add_argument("--port", type=int, default=settings.port)
    parser.add_argument("--peer", action="append", default=[])
    try:
        given = parser.parse_args(argv)
        if given.bind:
            Address.of(given.bind, 1)
        if given.port:
            Address.of("localhost", given.port)
        peers = tuple(map(Address.parse, given.peer))
    except (argparse.ArgumentError, FormatError) as error:
        raise ConfigError(f"an option of the daemon is not understood: {error}") from error
    return dataclasses.replace(
        settings, bind=given.bind, port=given.port, peers=tuple(dict.fromkeys([*settings.peers, *peers]))
    )


def _end_with(error: DittoError) -> int:
    """Say why the daemon cannot run; its exit status."""
    if logging.getLogger().handlers:  # else the settings are what was wrong, and there is no log yet
        log.error("the daemon cannot run", reason=str(error))
    print(error, file=sys.stderr)
    return EXIT_ALREADY_RUNNING if isinstance(error, InUse) else 1


def _leaves(group: BaseExceptionGroup[DittoError]) -> Iterator[DittoError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def run(paths: Paths, settings: Settings) -> None:
    """The root of all tasks."""
    feed = EventFeed()
    async with trio.open_nursery() as nursery:
        node = Node(
            paths,
            settings,
            clock=SystemClock(),
            entropy=system_entropy,
            run_blocking=run_in_thread,
            nursery=nursery,
        )
        await run_in_thread(node.start)
        stopping = trio.Event()
        mounting = Mounting(node, nursery)
        service = DaemonService(node, mounting, feed, stopping.set)
        node.on_state = service.publish_state
        node.on_peer = service.publish_peer
        node.on_open = Happenings(feed).follow
        await nursery.start(serve, service, paths.socket)
        log.info("daemon is ready", pid=os.getpid())
        nursery.start_soon(_wait_for_signal, stopping)
        nursery.start_soon(mounting.restore)
        await stopping.wait()
        log.info("daemon is stopping")
        feed.publish(StoppingEvent())
        with trio.CancelScope(shield=True):
            await mounting.unmount_all()
            await node.close()
        nursery.cancel_scope.cancel()
    log.info("daemon has stopped")


async def _wait_for_signal(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number != signal.SIGHUP:
                stopping.set()


def _set_up_logging(path: Path, level: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES_KEPT
        )
        path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
            ]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _keep_secrets_in() -> None:
    """No core file and no other process of this user reads our keys from memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
