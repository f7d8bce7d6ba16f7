"""One mount: a front end on a directory, from mount(2) to the last release."""

import errno
import os
from collections.abc import Sequence

import structlog
import trio

from dittofs.errors import FSError
from dittofs.volume.volume import Volume
from mountd import pyfuse3_instance
from mountd.pyfuse3_frontend import Requests, operations

log = structlog.get_logger()

UNMOUNT_PATIENCE_S = 10.0


class Mount:
    """The volume called `name` on a directory. `run` returns when it is unmounted, by us or by anybody."""

    def __init__(self, name: str, volume: Volume, path: str, options: Sequence[str]) -> None:
        self.name = name
        self.volume = volume
        self.path = path
        self.options = tuple(options)
        self._fuse = pyfuse3_instance.load()
        self._requests: Requests | None = None
        self._ended = trio.Event()

    def start(self) -> None:
        """Blocking: mount(2). FSError if the kernel or fusermount3 refuses."""
        handlers, self._requests = operations(self._fuse, self.volume)
        try:
            self._fuse.init(handlers, self.path, set(self.options))
        except RuntimeError as error:
            raise FSError(errno.EIO, f"cannot mount on {self.path}: {error}") from error

    async def run(self) -> None:
        """Answer requests until the mount is gone."""
        assert self._requests is not None
        try:
            await self._fuse.main()
        finally:
            self._fuse.close(unmount=False)
            await trio.to_thread.run_sync(self._requests.invalidation.stop)
            self._requests.close()
            self._ended.set()

    async def unmount(self, *, lazy: bool) -> None:
        """Unmount. EBUSY if programs use it and `lazy` is not set; lazily it is out of sight at once."""
        if self._ended.is_set():
            return
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
