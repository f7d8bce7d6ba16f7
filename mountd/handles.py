"""Open files and directories by the number the kernel holds."""

import errno
from typing import TypeVar

from dittofs.errors import FSError
from dittofs.volume.directories import DirectoryHandle
from dittofs.volume.files import Handle

Open = TypeVar("Open")


class Handles:
    """Numbers for open things, never reused. Of one that is not open: FSError(EBADF)."""

    def __init__(self) -> None:
        self._files: dict[int, Handle] = {}
        self._directories: dict[int, DirectoryHandle] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._files) + len(self._directories)

    def add_file(self, handle: Handle) -> int:
        number = self._next
        self._next += 1
        self._files[number] = handle
        return number

    def add_directory(self, handle: DirectoryHandle) -> int:
        number = self._next
        self._next += 1
        self._directories[number] = handle
        return number

    def file(self, number: int) -> Handle:
        return _known(self._files.get(number))

    def directory(self, number: int) -> DirectoryHandle:
        return _known(self._directories.get(number))

    def remove_file(self, number: int) -> Handle:
        return _known(self._files.pop(number, None))

    def remove_directory(self, number: int) -> DirectoryHandle:
        return _known(self._directories.pop(number, None))

    def drain(self) -> tuple[list[Handle], list[DirectoryHandle]]:
        """Everything still open, removed: the kernel is gone."""
        left = list(self._files.values()), list(self._directories.values())
        self._files.clear()
        self._directories.clear()
        return left


def _known(found: Open | None) -> Open:
    if found is None:
        raise FSError(errno.EBADF)
    return found
