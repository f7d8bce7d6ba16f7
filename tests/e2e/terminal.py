"""A program in a terminal, driven by what it shows."""

import os
import pty
import select
from pathlib import Path
from typing import Final, Self

PATIENCE_S: Final = 30.0


class Terminal:
    """Starts a program on a terminal of its own; leaving the block ends it."""

    def __init__(self, *command: str | Path) -> None:
        self._command = list(map(str, command))
        self._shown = b""

    def __enter__(self) -> Self:
        self._pid, self._descriptor = pty.fork()
        if not self._pid:
            try:
                os.environ.update(TERM="xterm", LC_ALL="C.UTF-8", LINES="24", COLUMNS="80")
                os.execvp(self._command[0], self._command)
            finally:
                os._exit(127)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        if self._pid:
            os.waitpid(self._pid, 0)  # the terminal is gone, and with it the program

    def type(self, keys: bytes) -> None:
        """Press keys. What was shown before does not count any more."""
        self._shown = b""
        os.write(self._descriptor, keys)

    def await_output(self, text: bytes) -> None:
        """Return when the program has shown `text`."""
        while text not in self._shown:
            assert self._read(), f"{self._command[0]} ended and never showed {text!r}: {self._shown!r}"

    def await_end(self) -> None:
        """Return when the program has ended well."""
        while self._read():
            pass
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        assert status == 0, f"{self._command[0]} ended with status {status}: {self._shown!r}"

    def _read(self) -> bool:
        shown = select.poll()  # takes any descriptor, where select(2) ends at 1,023
        shown.register(self._descriptor, select.POLLIN)
        assert shown.poll(PATIENCE_S * 1000), f"{self._command[0]} shows nothing more: {self._shown!r}"
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:
            return False  # EIO: the other side is closed
        self._shown += data
        return bool(data)
