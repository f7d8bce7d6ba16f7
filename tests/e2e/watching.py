"""A program that watches directories and files, as file managers do: inotify(7)."""

import os
import select
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.e2e.processes import libc

HEAD: Final = struct.Struct("iIII")
BYTES: Final = 1 << 16
NAMES: Final = {
    0x2: "MODIFY",
    0x4: "ATTRIB",
    0x8: "CLOSE_WRITE",
    0x20: "OPEN",
    0x40: "MOVED_FROM",
    0x80: "MOVED_TO",
    0x100: "CREATE",
    0x200: "DELETE",
    0x400: "DELETE_SELF",
    0x800: "MOVE_SELF",
}
ALL: Final = sum(NAMES)


class Event(NamedTuple):
    """What happened, to what in the watched directory; "" for what is watched itself."""

    what: str
    name: str


class Watcher:
    """Holds watches until it is closed."""

    def __init__(self, *paths: Path) -> None:
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0
        for path in paths:
            assert libc.inotify_add_watch(self._descriptor, os.fsencode(path), ALL) >= 0
        self.seen: list[Event] = []
        self.cookies: dict[Event, int] = {}

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self) -> list[Event]:
        """What has happened since the last look."""
        try:
            data = os.read(self._descriptor, BYTES)
        except BlockingIOError:
            return []
        found, offset = [], 0
        while offset < len(data):
            _, mask, cookie, length = HEAD.unpack_from(data, offset)
            name = data[offset + HEAD.size : offset + HEAD.size + length].rstrip(b"\0").decode()
            for bit in NAMES:
                if mask & bit:
                    found.append(Event(NAMES[bit], name))
                    self.cookies[found[-1]] = cookie
            offset += HEAD.size + length
        self.seen += found
        return found

    def wait(self, what: str, name: str, patience_s: float = 5.0) -> float:
        """When it was told of (time.monotonic). AssertionError if it is not."""
        end = time.monotonic() + patience_s
        while Event(what, name) not in self.read():
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            left_s = end - time.monotonic()
            assert left_s > 0, f"no {what} of {name!r}, but {self.seen}"
            poll.poll(left_s * 1000)
        return time.monotonic()
