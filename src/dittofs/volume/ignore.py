"""`.dittoignore`: which names stay on this device, in gitignore syntax."""

from dittofs.errors import FormatError
from dittofs.volume.patterns import check, compiled

FILE_NAME = b".dittoignore"
FILE_BYTES_MAX = 1 << 20
BUILT_IN = ("*-shm",)
"""Shared memory of SQLite: meaningless on another machine."""


class IgnoreRules:
    """Compiled rules of a volume's root `.dittoignore`. Immutable."""

    def __init__(self, text: str = "") -> None:
        """Raises FormatError naming the offending line."""
        lines = [*BUILT_IN, *text.splitlines()]
        for number, line in enumerate(lines, 1 - len(BUILT_IN)):
            try:
                check(line)
            except ValueError as error:
                raise FormatError(f".dittoignore line {number}: {error}") from error
        self._spec = compiled(lines)
        self.is_plain = not text.strip()
        """Only the built-in rules, which look at the last component alone."""

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether `path`, relative to the root, stays local."""
        if self.is_plain:
            return path.endswith(b"-shm") and not is_directory
        if path == FILE_NAME:
            return False
        text = path.decode("utf-8", "surrogateescape")
        return self._spec.match_file(text + "/" if is_directory else text)
