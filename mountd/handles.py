"""Open files and directories by the number the kernel holds."""

from dittofs.volume.directories import DirectoryHandle
from dittofs.volume.files import Handle


class Handles:
    """Numbers for open things, never reused while open. EBADF is a bug of the kernel or ours: KeyError."""

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
        return self._files[number]

    def directory(self, number: int) -> DirectoryHandle:
        return self._directories[number]

    def remove_file(self, number: int) -> Handle:
        return self._files.pop(number)

    def remove_directory(self, number: int) -> DirectoryHandle:
        return self._directories.pop(number)

    def drain(self) -> tuple[list[Handle], list[DirectoryHandle]]:
        """Everything still open, removed: the kernel is gone."""
        left = list(self._files.values()), list(self._directories.values())
        self._files.clear()
        self._directories.clear()
        return left
