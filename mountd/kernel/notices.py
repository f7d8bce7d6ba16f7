"""What the kernel is told without having asked."""

import os

from mountd.kernel import wire
from mountd.kernel.wire import Notice


class Notices:
    """Written to one connection, by any thread: one write(2) is one message.

    Methods raise OSError; FileNotFoundError says that the kernel does not know what was named.
    """

    def __init__(self) -> None:
        self._descriptor = -1

    def connect(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def invalidate_inode(self, number: int, attr_only: bool = False) -> None:
        """Attributes, and unless `attr_only` all pages, are stale. With pages it may wait for requests."""
        self._write(Notice.INVAL_INODE, wire.INVAL_INODE_OUT.pack(number, -1 if attr_only else 0, 0))

    def invalidate_entry_async(self, number: int, name: bytes, *, ignore_enoent: bool) -> None:
        """A name shows something else. May wait for requests."""
        try:
            body = wire.INVAL_ENTRY_OUT.pack(number, len(name), 0) + name + b"\0"
            self._write(Notice.INVAL_ENTRY, body)
        except FileNotFoundError:
            if not ignore_enoent:
                raise

    def _write(self, notice: Notice, body: bytes) -> None:
        os.write(self._descriptor, wire.REPLY.pack(wire.REPLY.size + len(body), notice, 0) + body)
