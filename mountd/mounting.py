"""Which volume is mounted where: mounting, unmounting, and coming back after a restart."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from dittofs.control.faults import Refusal
from dittofs.control.mountpoint import Mountpoint, NotEmpty, prepare
from dittofs.control.options import parse_options
from dittofs.errors import ConfigError, DittoError
from dittofs.node import Node
from dittofs.registry import require_volume_name
from mountd.mounts import Mount

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mounted:
    """What `mount` did."""

    volume: str
    is_new_volume: bool
    is_new_directory: bool
    was_mounted: bool
    was_stale: bool
    warnings: tuple[str, ...]


class Mounting:
    """All mounts of this daemon."""

    def __init__(self, node: Node, nursery: trio.Nursery) -> None:
        self._node = node
        self._nursery = nursery
        self._mounts: dict[str, Mount] = {}  # by path
        self._failures: dict[str, str] = {}  # by volume
        self._lock = trio.Lock()
        self._is_stopping = False

    def at(self, path: str) -> Mount | None:
        """The mount on exactly this directory."""
        return self._mounts.get(path)

    def all_of_volume(self, name: str) -> list[Mount]:
        """Every mount of a volume."""
        return [mount for mount in self._mounts.values() if mount.name == name]

    def of_volume(self, name: str) -> Mount | None:
        """The first mount of a volume."""
        return next((mount for mount in self._mounts.values() if mount.name == name), None)

    def failure(self, name: str) -> str:
        """Why a volume was not mounted again when the daemon began, or empty."""
        return self._failures.get(name, "")

    def select(self, path: str, volume: str, *, everything: bool) -> list[Mount]:
        """The mounts a request means. Refuses with "not_found" if there is none."""
        if everything:
            return list(self._mounts.values())
        if path:
            wanted = str(Path(path).resolve()) if path not in self._mounts else path
            found = [mount for place, mount in self._mounts.items() if place == wanted]
        else:
            found = [mount for mount in self._mounts.values() if mount.name == volume]
        if not found:
            raise Refusal("not_found", f"nothing of DittoFS is mounted at {path or volume}", "dittofs status")
        return found

    async def mount(self, path: str, name: str, options: Sequence[str]) -> Mounted:
        """Mount a volume on a directory; return when it is usable."""
        async with self._lock:
            done: Mounted | None = None
            with trio.CancelScope(shield=True):  # half a mount is worse than a late answer
                done = await self._mount(path, name, options)
            assert done is not None
            return done

    async def _mount(self, path: str, name: str, options: Sequence[str]) -> Mounted:
        parsed = parse_options(options)
        present = self._mounts.get(path)
        if present is not None:
            if name and name != present.name:
                raise Refusal(
                    "refused",
                    f'{path} shows "{present.name}" already; "{name}" was not mounted',
                    f"dittofs unmount {shlex.quote(path)}",
                )
            if options and parsed != present.options:
                raise Refusal(
                    "refused",
                    f"{path} is mounted already, with other options; nothing was changed",
                    f"To mount it with these, first:  dittofs unmount {shlex.quote(path)}",
                )
            return Mounted(present.name, False, False, True, False, ())
        volume = name or self._node.volume_at(path) or Path(path).name
        is_new = volume not in self._node.names()
        if is_new:
            _check_name(volume, path)
        try:
            place: Mountpoint = await trio.to_thread.run_sync(prepare, path)
        except NotEmpty as refusal:
            if self._node.volume_at(path) == volume:
                raise refusal.of_unmounted() from refusal
            raise
        opened = await self._node.open(volume, trusts_root=parsed.trusts_root)
        mount = Mount(volume, opened.volume, path, parsed)
        try:
            await trio.to_thread.run_sync(mount.start)
        except DittoError as error:
            raise Refusal("failed", str(error), "dittofs doctor") from error
        self._mounts[path] = mount
        self._failures.pop(volume, None)
        self._nursery.start_soon(self._serve, mount)  # first: a mount that nobody answers hangs programs
        await self._node.remember(volume, path, options, is_mounted=True)
        self._node.on_state(volume)
        return Mounted(volume, is_new, place.is_new, False, place.was_stale, parsed.warnings)

    async def _serve(self, mount: Mount) -> None:
        """Answer a mount until it is gone. Its volume stays open: the local API reaches it all the same."""
        try:
            await mount.run()
        except Exception as error:
            log.error("a mount ended unexpectedly", path=mount.path, exc_info=error)
        finally:
            del self._mounts[mount.path]
            with trio.CancelScope(shield=True):
                if not self._is_stopping and mount.name in self._node.names():
                    record = self._node.record(mount.name)
                    try:
                        await self._node.remember(mount.name, record.path, record.options, is_mounted=False)
                    except DittoError as error:
                        log.error(
                            "that a mount is gone could not be noted", path=mount.path, reason=str(error)
                        )
                self._node.on_state(mount.name)

    async def restore(self) -> None:
        """Open every volume, and mount again what was mounted when the daemon last ended."""
        await self._node.open_all()
        for name in self._node.names():
            record = self._node.record(name)
            if not record.is_mounted or self._node.opened(name) is None:
                continue
            try:
                await self.mount(record.path, name, record.options)
            except DittoError as error:
                self._failures[name] = f"it was not mounted again: {error}"
                log.error(
                    "a volume could not be mounted again", volume=name, path=record.path, reason=str(error)
                )

    async def unmount(self, mount: Mount, *, force: bool) -> bool:
        """Unmount; everything written is durable when this returns. True if it had to be lazy."""
        is_lazy = False
        try:
            await mount.unmount(lazy=False)
        except DittoError as error:
            if not force:
                text = f"{mount.path} stays mounted: {_reason(error)}"
                mend = f"End what uses it, or:  dittofs unmount --force {shlex.quote(mount.path)}"
                raise Refusal("busy", text, mend) from error
            await mount.unmount(lazy=True)
            is_lazy = True
        await mount.volume.publisher.drain_all()
        await mount.volume.files.sync()
        return is_lazy

    async def unmount_all(self) -> None:
        """At the daemon's end: lazily where programs still use a mount. They come back with the daemon."""
        self._is_stopping = True
        for mount in list(self._mounts.values()):
            try:
                await self.unmount(mount, force=True)
            except DittoError as error:
                log.error("cannot unmount", path=mount.path, reason=str(error))


def _check_name(volume: str, path: str) -> None:
    try:
        require_volume_name(volume)
    except ConfigError as error:
        mend = f"Give it another:  dittofs mount {shlex.quote(path)} --name NAME"
        raise Refusal("usage", str(error), mend) from error


def _reason(error: DittoError) -> str:
    said = str(error)
    return "programs use it; nothing was changed" if "busy" in said else said
