"""Writing a view of the past into a directory of this machine."""

import errno
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Final

import trio

from dittofs.control.faults import Refusal
from dittofs.control.history import CheckoutDone, CheckoutProgress
from dittofs.errors import DittoError, FSError
from dittofs.history.views import View, ViewEntry, settled
from dittofs.tree.record import Kind
from dittofs.volume.volume import Volume
from mountd.checkout_target import Parts, Target
from mountd.outside import require_outside

PROGRESS_INTERVAL_S: Final = 0.5
PART_BYTES: Final = 1 << 20
LEFT_OUT_MAX: Final = 20
_OUTSIDE: Final = (
    "nothing was written",
    "Set it back in the volume:  dittofs restore PATH@TIME    Or name a directory outside of it",
)


class Checkout:
    """One run. Nothing that is there is replaced without `force`; a file appears whole or not at all.

    Nothing is ever written outside the directory, whatever is in it or in the view. No file of it is touched
    on the event loop: that would wait for itself if a mount of this daemon were in the way.
    """

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
        target = await trio.to_thread.run_sync(self._target)
        try:
            async with aclosing(self._write_all(target, entry, names)) as told:
                async for progress in told:
                    yield progress
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(target.close)
        yield CheckoutDone(self._files, self._bytes, self._directories, left_out=tuple(self._left_out))

    async def _write_all(
        self, target: Target, entry: ViewEntry, names: Parts
    ) -> AsyncGenerator[CheckoutProgress, None]:
        last = trio.current_time()
        waiting: list[tuple[Parts, ViewEntry]] = [((), entry)]
        full: list[tuple[Parts, ViewEntry]] = []
        if entry.kind is not Kind.DIRECTORY:
            waiting = [(names[-1:], entry)]
        while waiting:
            parts, one = waiting.pop()
            with self._leaving_out(parts):
                await self._write(target, parts, one)
                if one.kind is Kind.DIRECTORY:
                    full.append((parts, one))
                    below = await settled(self._view.entries(one))
                    waiting += [((*parts, name), found) for name, found in reversed(below.items())]
            if trio.current_time() - last >= PROGRESS_INTERVAL_S:
                last = trio.current_time()
                yield CheckoutProgress(self._files, self._bytes)
            await trio.lowlevel.checkpoint()
        for parts, one in reversed(full):
            with self._leaving_out(parts):
                await trio.to_thread.run_sync(target.finish_directory, parts, one)

    @contextmanager
    def _leaving_out(self, parts: Parts) -> Iterator[None]:
        """What cannot be written is told at the end. Refusal ("no_space") ends the run."""
        try:
            yield
        except (DittoError, OSError, ValueError) as error:  # ValueError: a link's target with a zero byte
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Refusal("no_space", "the disk is full; what was written stays") from error
            if len(self._left_out) < LEFT_OUT_MAX:
                path = b"/".join((os.fsencode(self._directory), *parts))
                self._left_out.append(f"{path.decode(errors='replace')}: {error}")

    async def _find(self, names: tuple[bytes, ...]) -> ViewEntry:
        entry = self._view.top()
        for name in names:
            below = await settled(self._view.entries(entry)) if entry.kind is Kind.DIRECTORY else {}
            if name not in below:
                text = f"{b'/'.join(names).decode(errors='replace')} was not there then"
                raise Refusal("not_found", text, "dittofs log says what happened")
            entry = below[name]
        return entry

    def _target(self) -> Target:
        """Blocking: the directory, made if it is not there.

        Refuses ("exists") what holds something, and ("refused") what is in a mount of ours, also by a link.
        """
        directory = self._directory
        require_outside(directory, *_OUTSIDE)
        directory = os.path.realpath(directory)
        require_outside(directory, *_OUTSIDE)
        if os.path.lexists(directory):
            if not os.path.isdir(directory):  # noqa: PTH112 - a name that is passed on as text
                raise Refusal("exists", f"{directory} is no directory; nothing was written")
            if not self._force and any(Path(directory).iterdir()):
                text = f"{directory} holds something; nothing was written"
                raise Refusal("exists", text, "Name another directory, or replace files there with --force")
        else:
            Path(directory).mkdir(parents=True)
        return Target(directory, force=self._force)

    async def _write(self, target: Target, parts: Parts, one: ViewEntry) -> None:
        match one.kind:
            case Kind.DIRECTORY:
                await trio.to_thread.run_sync(target.make_directory, parts)
                self._directories += 1
            case Kind.SYMLINK:
                await trio.to_thread.run_sync(target.make_symlink, parts, one)
                self._files += 1
            case Kind.FILE:
                await self._write_file(target, parts, one)
                self._files += 1
            case _:
                raise FSError(errno.EOPNOTSUPP, "a special file is not written")

    async def _write_file(self, target: Target, parts: Parts, one: ViewEntry) -> None:
        base = self._volume.state.contents.reader(one.root, one.size)
        file = await trio.to_thread.run_sync(target.begin_file, parts)
        try:
            offset = 0
            while offset < one.size:
                answer = self._volume.files.read_base(base, offset, min(PART_BYTES, one.size - offset))
                part = answer if isinstance(answer, bytes) else await answer
                if not part:
                    raise FSError(errno.EIO, "it is shorter than it says")
                await trio.to_thread.run_sync(file.write, part)
                offset += len(part)
                self._bytes += len(part)
            await trio.to_thread.run_sync(file.finish, one)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(file.discard)
            raise
