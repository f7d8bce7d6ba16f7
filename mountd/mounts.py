"""One mount: a front end on a directory, from mount(2) to the last release."""

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Final, Protocol

import structlog
import trio

from dittofs.control.options import MountOptions
from dittofs.errors import FSError
from dittofs.volume.volume import Volume
from mountd.echoing import Echoing
from mountd.invalidation import Invalidation
from mountd.kernel.frontend import KernelFrontEnd
from mountd.pyfuse3_frontend import Pyfuse3FrontEnd

log = structlog.get_logger()

UNMOUNT_PATIENCE_S = 10.0


class FrontEnd(Protocol):
    """What stands between the kernel and a volume."""

    invalidation: Invalidation
    echoing: Echoing | None
    """What tells programs that watch of changes elsewhere; None: nothing does, or it is not mounted."""

    def start(self, path: str, source: str, options: MountOptions) -> None:
        """Blocking: mount(2). `source` is what df(1) shows. FSError if the kernel or fusermount3 refuses."""

    async def run(self) -> None:
        """Answer requests until the mount is gone."""

    def close(self) -> None:
        """Give back what the kernel held, once nothing is on its way there."""


FRONT_ENDS: Final[Mapping[str, Callable[[Volume], FrontEnd]]] = {
    "kernel": KernelFrontEnd,
    "pyfuse3": Pyfuse3FrontEnd,
}


class Mount:
    """The volume called `name` on a directory. `run` returns when it is unmounted, by us or by anybody."""

    def __init__(self, name: str, volume: Volume, path: str, options: MountOptions) -> None:
        self.name = name
        self.volume = volume
        self.path = path
        self.options = options
        self._front_end = FRONT_ENDS[options.front_end](volume)
        self._ended = trio.Event()

    def start(self) -> None:
        """Blocking: mount(2). FSError if the kernel or fusermount3 refuses."""
        self._front_end.start(self.path, self.options.fsname or self.name, self.options)

    async def run(self) -> None:
        """Answer requests until the mount is gone."""
        try:
            await self._front_end.run()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._front_end.invalidation.stop)
            self._front_end.close()
            self._ended.set()

    @property
    def untold(self) -> int:
        """Changes elsewhere that programs which watch did not hear of."""
        return self._front_end.echoing.untold if self._front_end.echoing is not None else 0

    async def unmount(self, *, lazy: bool) -> None:
        """Unmount. EBUSY if programs use it and `lazy` is not set; lazily it is out of sight at once."""
        if self._ended.is_set():
            return
        echoing = self._front_end.echoing
        async with nullcontext() if echoing is None else echoing.paused():
            await self._unmount(lazy=lazy)

    async def _unmount(self, *, lazy: bool) -> None:
        command = ["umount", "-l"] if lazy else ["umount"]
        if os.geteuid():
            command = ["fusermount3", "-u", "-q", *(["-z"] if lazy else [])]
        done = await trio.run_process(
            [*command, self.path], check=False, capture_stderr=True, capture_stdout=True
        )
        if done.returncode and not self._ended.is_set():
            detail = done.stderr.decode(errors="replace").strip()
            raise FSError(errno.EBUSY, detail or f"{self.path} is in use")
        if not lazy:
            with trio.move_on_after(UNMOUNT_PATIENCE_S):
                await self._ended.wait()
