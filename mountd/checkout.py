"""Writing a view of the past into a directory of this machine."""

import errno
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import trio

from dittofs.control.faults import Refusal
from dittofs.control.history import CheckoutDone, CheckoutProgress
from dittofs.errors import DittoError, FSError
from dittofs.tree.record import Kind
from dittofs.volume.views import View, ViewEntry, settled
from dittofs.volume.volume import Volume

PROGRESS_INTERVAL_S: Final = 0.5
PART_BYTES: Final = 1 << 20
LEFT_OUT_MAX: Final = 20
NAME_BYTES: Final = 200


class Checkout:
    """One run. Nothing that is there is replaced without `force`; a file appears whole or not at all."""

    def __init__(self, volume: Volume, view: View, directory: str, *, force: bool) -> None:
        self._volume = volume
        self._view = view
        self._directory = directory
        self._force = force
        self._files = self._bytes = self._directories = 0
        self._left_out: list[str] = []

    async def run(self, names: tuple[bytes, ...]) -> AsyncGenerator[CheckoutProgress | CheckoutDone, None]:
        """Write what was at a path and below it."""
        entry = await self._find(names)
        await trio.to_thread.run_sync(self._require_empty)
        last = trio.current_time()
        waiting = [(os.fsencode(self._directory), entry)]
        times: list[tuple[bytes, ViewEntry]] = []
        if entry.kind is not Kind.DIRECTORY:
            waiting = [(os.fsencode(self._directory) + b"/" + names[-1], entry)]
        while waiting:
            path, one = waiting.pop()
            try:
                await self._write(path, one)
                if one.kind is Kind.DIRECTORY:
                    times.append((path, one))
                    below = await settled(self._view.entries(one))
                    waiting += [(path + b"/" + name, found) for name, found in reversed(below.items())]
            except (DittoError, OSError) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise Refusal("no_space", "the disk is full; what was written stays") from error
                if len(self._left_out) < LEFT_OUT_MAX:
                    self._left_out.append(f"{path.decode(errors='replace')}: {error}")
            if trio.current_time() - last >= PROGRESS_INTERVAL_S:
                last = trio.current_time()
                yield CheckoutProgress(self._files, self._bytes)
            await trio.lowlevel.checkpoint()
        for path, one in reversed(times):
            await trio.to_thread.run_sync(_finish_directory, path, one)
        yield CheckoutDone(self._files, self._bytes, self._directories, left_out=tuple(self._left_out))

    async def _find(self, names: tuple[bytes, ...]) -> ViewEntry:
        entry = self._view.top()
        for name in names:
            below = await settled(self._view.entries(entry)) if entry.kind is Kind.DIRECTORY else {}
            if name not in below:
                text = f"{b'/'.join(names).decode(errors='replace')} was not there then"
                raise Refusal("not_found", text, "dittofs log says what happened")
            entry = below[name]
        return entry

    def _require_empty(self) -> None:
        """Blocking. Refuses ("exists") what holds something."""
        directory = self._directory
        if os.path.lexists(directory):
            if not os.path.isdir(directory):  # noqa: PTH112
                raise Refusal("exists", f"{directory} is no directory; nothing was written")
            if not self._force and any(Path(directory).iterdir()):
                text = f"{directory} holds something; nothing was written"
                raise Refusal("exists", text, "Name another directory, or replace files there with --force")
        else:
            Path(directory).mkdir(parents=True)

    async def _write(self, path: bytes, one: ViewEntry) -> None:
        match one.kind:
            case Kind.DIRECTORY:
                await trio.to_thread.run_sync(_make_directory, path)
                self._directories += 1
            case Kind.SYMLINK:
                await trio.to_thread.run_sync(_make_symlink, path, one, self._force)
                self._files += 1
            case Kind.FILE:
                await self._write_file(path, one)
                self._files += 1
            case _:
                raise FSError(errno.EOPNOTSUPP, "a special file is not written")

    async def _write_file(self, path: bytes, one: ViewEntry) -> None:
        base = self._volume.state.contents.reader(one.root, one.size)
        above, _, name = path.rpartition(b"/")
        temporary = above + b"/." + name[:NAME_BYTES] + b".part"
        if not self._force and await trio.to_thread.run_sync(os.path.lexists, path):
            raise FSError(errno.EEXIST)
        descriptor = await trio.to_thread.run_sync(
            lambda: os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        )
        try:
            offset = 0
            while offset < one.size:
                answer = self._volume.files.read_base(base, offset, min(PART_BYTES, one.size - offset))
                part = answer if isinstance(answer, bytes) else await answer
                if not part:
                    raise FSError(errno.EIO, "it is shorter than it says")
                await trio.to_thread.run_sync(_write_all, descriptor, part)
                offset += len(part)
                self._bytes += len(part)
            await trio.to_thread.run_sync(_finish_file, descriptor, temporary, path, one)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_discard, temporary)
            raise
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, part: bytes) -> None:
    view = memoryview(part)
    while view:
        view = view[os.write(descriptor, view) :]


def _finish_file(descriptor: int, temporary: bytes, path: bytes, one: ViewEntry) -> None:
    os.fchmod(descriptor, one.mode & 0o777)
    os.utime(descriptor, ns=(one.mtime, one.mtime))
    os.rename(temporary, path)  # noqa: PTH104


def _discard(temporary: bytes) -> None:
    if os.path.lexists(temporary):
        os.unlink(temporary)  # noqa: PTH108


def _make_directory(path: bytes) -> None:
    if not os.path.isdir(path):  # noqa: PTH112
        os.mkdir(path, 0o700)  # noqa: PTH102


def _finish_directory(path: bytes, one: ViewEntry) -> None:
    os.chmod(path, one.mode & 0o777)  # noqa: PTH101
    os.utime(path, ns=(one.mtime, one.mtime))


def _make_symlink(path: bytes, one: ViewEntry, force: bool) -> None:
    if force and os.path.islink(path):  # noqa: PTH114
        os.unlink(path)  # noqa: PTH108
    os.symlink(one.root, path)  # noqa: PTH211 - the name is bytes
    os.utime(path, ns=(one.mtime, one.mtime), follow_symlinks=False)
