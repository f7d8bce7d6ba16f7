"""Changes of other devices are made once more through the mount, so that programs which watch hear of them.

No invalidation raises an event of inotify(7): only a call does. It is made by a thread that the front end
knows, and changes nothing. Only what somebody watches is told.
"""

import ctypes
import errno
import math
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
import trio

from dittofs.errors import DittoError
from dittofs.replication.upkeep import kept_up
from dittofs.tree.entry import Change, Effect
from dittofs.tree.record import Kind
from dittofs.volume.echoes import Deed, Echo, Reading
from dittofs.volume.state import State
from mountd.kernel.echoes import NO_THREAD, Making
from mountd.kernel.notices import Notices
from mountd.watches import watched_inodes

log = structlog.get_logger()

EFFECTS_MAX: Final = 16_384
ECHOES_MAX: Final = 16_384  # what inotify itself holds for a watcher (inotify(7), max_queued_events)
AT_ONCE_MAX: Final = 64
SCAN_APART_S_MAX: Final = 1.0
SCAN_SHARE: Final = 20
"""Looking who watches takes one part in so many of the time; once in SCAN_APART_S_MAX it looks anyway."""
PAUSE_PATIENCE_S: Final = 2.0
OVERTAKEN: Final = (errno.ENOENT, errno.EEXIST, errno.EBUSY, errno.ESTALE, errno.ENOTEMPTY)
"""The name has gone on meanwhile: who watches heard of that."""
NODE_TYPES: Final = {
    Kind.FILE: stat.S_IFREG,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
NAMING: Final = (Deed.MAKE, Deed.REMOVE, Deed.MOVE)
UTIME_OMIT: Final = (1 << 30) - 2  # linux/stat.h
_library: Final = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Echoing:
    """Of one mount. `run` is one task, `making` what the front end needs to know its thread."""

    def __init__(self, state: State, notices: Notices, path: str) -> None:
        self._state = state
        self._notices = notices
        self._path = path
        self._device = 0
        self._changes: list[Sequence[Effect]] = []
        """What each change did; of all together EFFECTS_MAX at most."""
        self._waiting = 0
        self._arrived = trio.Event()
        self._watched: frozenset[int] = frozenset()
        self._scan_due = 0.0
        self._late: list[Sequence[Effect]] = []
        """Told to those who were known to watch; who began since then has not heard of them."""
        self.making = Making()
        self._at_work = trio.Lock()
        self.untold = 0
        """What programs that watch did not hear of: too much at once, or refused by the kernel."""

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Until the block ends no call of ours keeps the mount busy, unless one takes too long."""
        with trio.move_on_after(PAUSE_PATIENCE_S) as waiting:
            await self._at_work.acquire()
        try:
            yield
        finally:
            if not waiting.cancelled_caught:
                self._at_work.release()

    def follow(self, change: Change) -> None:
        """A listener of the replica: what programs here did themselves needs no echo."""
        if not change.effects or not (change.via or change.is_round or change.is_unasked):
            return
        room = EFFECTS_MAX - self._waiting
        if kept := change.effects[:room]:
            self._changes.append(kept)
            self._waiting += len(kept)
        self.untold += len(change.effects) - len(kept)
        self._arrived.set()

    async def run(self) -> None:
        """Until it is cancelled. What fails is logged, and the next change is told all the same."""
        self._state.replica.listeners.append(self.follow)
        try:
            await kept_up(self._tell_all, failure="telling programs that watch failed")
        finally:
            self._state.replica.listeners.remove(self.follow)

    async def _tell_all(self) -> None:
        while True:
            with trio.move_on_after(self._until_scan_s() if self._late else math.inf):
                await self._arrived.wait()
            self._arrived = trio.Event()
            try:
                await self._tell()
            except (DittoError, OSError) as error:
                log.info("programs that watch did not hear of a change", reason=str(error))

    async def _tell(self) -> None:
        """Those who are known to watch at once; who began since then, when it is time to look for them."""
        changes, self._changes, self._waiting = self._changes, [], 0
        if self._until_scan_s():
            room = EFFECTS_MAX - sum(map(len, self._late))
            for effects in changes:
                if kept := effects[: max(0, room)]:
                    self._late.append(kept)
                self.untold += len(effects) - len(kept)
                room -= len(kept)
        else:
            known, late = self._watched, self._late
            self._late = []
            self._watched, cpu_s = await trio.to_thread.run_sync(self._scan, abandon_on_cancel=True)
            self._scan_due = time.monotonic() + min(SCAN_APART_S_MAX, cpu_s * SCAN_SHARE)
            await self._make_of(late, self._watched - known)
        await self._make_of(changes, self._watched)

    def _until_scan_s(self) -> float:
        return max(0.0, self._scan_due - time.monotonic())

    def _scan(self) -> tuple[frozenset[int], float]:
        """Who watches, and the processor time that it took to find out."""
        begun = time.thread_time()
        if not self._device:
            self._device = Path(self._path).stat().st_dev
        return watched_inodes(self._device), time.thread_time() - begun

    async def _make_of(self, changes: list[Sequence[Effect]], watched: frozenset[int]) -> None:
        if not watched:
            return
        echoes: list[Echo] = []
        for effects in changes:
            if len(echoes) >= ECHOES_MAX:
                self.untold += len(effects)
                continue
            reading = Reading(self._state, watched)
            for start in range(0, len(effects), AT_ONCE_MAX):
                reading.take(effects[start : start + AT_ONCE_MAX])
                await trio.lowlevel.checkpoint()
            echoes += reading.told()
        self.untold += max(0, len(echoes) - ECHOES_MAX)
        del echoes[ECHOES_MAX:]
        for start in range(0, len(echoes), AT_ONCE_MAX):
            async with self._at_work:
                await self._in_thread(echoes[start : start + AT_ONCE_MAX])

    async def _in_thread(self, echoes: list[Echo]) -> None:
        await trio.to_thread.run_sync(self._make_all, echoes, abandon_on_cancel=True)

    def _make_all(self, echoes: list[Echo]) -> None:
        """Blocking. A cancelled one ends with the mount, whose calls then fail."""
        self.making.thread = threading.get_native_id()
        try:
            for self.making.echo in echoes:
                self._make(self.making.echo)
        finally:
            self.making.thread, self.making.echo = NO_THREAD, None

    def _make(self, echo: Echo) -> None:
        if echo.deed in NAMING:
            self._forget(echo)
        try:
            with self._directory(echo.place.above) as directory:
                match echo.deed:
                    case Deed.MAKE:
                        _make_name(directory, echo)
                    case Deed.REMOVE:
                        _remove_name(directory, echo)
                    case Deed.MOVE:
                        assert echo.source is not None
                        with self._directory(echo.source.above) as source:
                            os.rename(
                                echo.source.name, echo.place.name, src_dir_fd=source, dst_dir_fd=directory
                            )
                    case Deed.WRITE:
                        _write(directory, echo.place.name)
                    case Deed.TOUCH:
                        _set_times(directory, echo.place.name, touches_access=True)
        except OSError as error:
            if error.errno not in OVERTAKEN:
                self.untold += 1
                log.debug("an echo was refused", deed=echo.deed.name, reason=str(error))
        finally:
            if echo.deed in NAMING:
                self._forget(echo)

    def _forget(self, echo: Echo) -> None:
        """The kernel asks what the names show: for the sake of the echo, and afterwards what is so."""
        for place in (echo.place, echo.source):
            if place is not None:
                with suppress(OSError):
                    self._notices.invalidate_entry_async(place.directory, place.name, ignore_enoent=True)

    @contextmanager
    def _directory(self, above: bytes) -> Iterator[int]:
        """A directory of this mount and of nothing else, whatever stands at that path now."""
        path = os.fsencode(self._path) + b"/" + above
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_dev != self._device:
                raise OSError(errno.ESTALE, "not of this mount")
            yield descriptor
        finally:
            os.close(descriptor)


def _make_name(directory: int, echo: Echo) -> None:
    name = echo.place.name
    if echo.kind is Kind.DIRECTORY:
        os.mkdir(name, dir_fd=directory)
    elif echo.kind is Kind.SYMLINK:
        os.symlink(b"x", name, dir_fd=directory)
    else:
        os.mknod(name, NODE_TYPES[echo.kind] | 0o600, dir_fd=directory)


def _remove_name(directory: int, echo: Echo) -> None:
    if echo.kind is Kind.DIRECTORY:
        os.rmdir(echo.place.name, dir_fd=directory)
    else:
        os.unlink(echo.place.name, dir_fd=directory)


def _write(directory: int, name: bytes) -> None:
    """As when a program saves: IN_OPEN, IN_MODIFY, IN_CLOSE_WRITE; without the right to open, IN_MODIFY."""
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.ETXTBSY):
            raise
        _set_times(directory, name, touches_access=False)
        return
    try:
        _set_times(directory, name, touches_access=False)
    finally:
        os.close(descriptor)


def _set_times(directory: int, name: bytes, *, touches_access: bool) -> None:
    """The modification time alone is IN_MODIFY, both are IN_ATTRIB (linux/fsnotify.h, fsnotify_change)."""
    times = (_Time * 2)(_Time(0, 0 if touches_access else UTIME_OMIT), _Time(0, 0))
    if _library.utimensat(directory, name, times, 0x100):  # AT_SYMLINK_NOFOLLOW (linux/fcntl.h)
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
