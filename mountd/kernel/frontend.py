"""The front end that speaks the protocol of /dev/fuse itself: requests to the volume and back. No logic."""

import errno
import os

import trio

from dittofs.control.options import MountOptions
from dittofs.errors import FSError
from dittofs.volume.state import ORIGIN
from dittofs.volume.volume import Volume
from mountd.accesses import Accesses
from mountd.echoing import Echoing
from mountd.handles import Handles
from mountd.invalidation import Invalidation
from mountd.kernel.attributes import AttributeRequests
from mountd.kernel.context import Context
from mountd.kernel.device import Device
from mountd.kernel.directories import DirectoryRequests
from mountd.kernel.echoes import EchoRequests
from mountd.kernel.files import FileRequests
from mountd.kernel.mounting import mount, unmount_at_once
from mountd.kernel.names import NameRequests
from mountd.kernel.negotiation import negotiate
from mountd.kernel.notices import Notices
from mountd.kernel.reading_ahead import ReadingAhead
from mountd.kernel.request import Handlers, Request
from mountd.kernel.wire import Opcode
from mountd.lookups import Lookups

# Of files that are open already whoever got the descriptor may go on with it (libfuse, allow_root).
FREE_TO_ALL = frozenset(
    {
        *(Opcode.READ, Opcode.WRITE, Opcode.FSYNC, Opcode.RELEASE, Opcode.READDIR, Opcode.READDIRPLUS),
        *(Opcode.FSYNCDIR, Opcode.RELEASEDIR, Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT),
    }
)


def handlers_of(context: Context) -> Handlers:
    """What answers each kind of request."""
    groups = NameRequests, FileRequests, DirectoryRequests, AttributeRequests
    return {opcode: one for group in groups for opcode, one in group(context).handlers.items()}


class KernelFrontEnd:
    """One mount of a volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._notices = Notices()
        self.invalidation = Invalidation(self._notices)
        self._lookups = Lookups(volume, self.invalidation)
        self._handles = Handles()
        self._accesses = Accesses(volume)
        self._reading_ahead = ReadingAhead(volume.replica.clock.monotonic)
        self._descriptor = -1
        self.echoing: Echoing | None = None
        self._lets_root_in_alone = False

    def start(self, path: str, source: str, options: MountOptions) -> None:
        """Blocking: mount, and agree with the kernel. FSError if it refuses."""
        try:
            self._descriptor = mount(path, source, options)
        except OSError as error:
            raise FSError(error.errno or errno.EIO, error.strerror or str(error)) from error
        try:
            negotiate(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            unmount_at_once(path)
            raise
        self._lets_root_in_alone = "allow_root" in options.kernel
        self._accesses.heed(options)
        self._notices.connect(self._descriptor)
        self._reading_ahead.connect(path)
        self.echoing = Echoing(self._volume.state, self._notices, path)

    async def run(self) -> None:
        """Answer requests until the mount is gone."""
        assert self.echoing is not None, "started first"
        context = Context(
            self._volume,
            self._lookups,
            self._handles,
            self._notices,
            self._accesses,
            self._reading_ahead,
        )
        ORIGIN.set(self._lookups)
        self._lookups.start()
        is_denied = self._is_denied if self._lets_root_in_alone else None
        handlers = handlers_of(context)
        making = self.echoing.making
        device = Device(
            self._descriptor,
            handlers,
            self._volume.replica.rebuild_index,
            is_denied,
            making,
            EchoRequests(context, making, handlers).handlers,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.echoing.run)
            await device.run()
            nursery.cancel_scope.cancel()

    def _is_denied(self, request: Request) -> bool:
        return request.uid not in (0, os.geteuid()) and request.opcode not in FREE_TO_ALL

    def close(self) -> None:
        """The mount is gone and no notice is on its way: give back what the kernel held."""
        os.close(self._descriptor)
        self._lookups.close(self._handles)
