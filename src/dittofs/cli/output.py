"""What people read: sizes, counts, times, names that cannot harm a terminal, progress; and JSON for programs.

Results go to stdout, progress and errors to stderr. Nothing here is coloured.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")
_JOINERS: Final = "\u200c\u200d"  # shape scripts and emoji; they move nothing on a terminal
_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
PROGRESS_INTERVAL_S: Final = 0.2


def escaped(name: bytes | str) -> str:
    """A name that shows every character for what it is: control, direction and invalid bytes as escapes."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    return "".join(map(_escaped_character, text))


def harmless(sentence: str) -> str:
    """A sentence that may hold names: no control character but the newline reaches the terminal."""
    return "".join(one if one in "\n\\" else _escaped_character(one) for one in sentence)


def _escaped_character(character: str) -> str:
    if short := _SHORT.get(character):
        return short
    if character.isprintable() or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def human_size(size: int) -> str:
    """`size` bytes in decimal units: "812 bytes", "4.1 GB", "41 MB"."""
    if size < 1000:
        return "1 byte" if size == 1 else f"{size} bytes"
    value = float(size)
    for unit in _UNITS:
        value /= 1000
        rounded = round(value, 1) if value < 99.95 else round(value)
        if rounded < 1000:
            return f"{rounded:g} {unit}"
    return f"{value:,.0f} {_UNITS[-1]}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """ "1 file", "1,204 files", "2 directories"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {plural or noun + 's'}"


def duration(seconds: float) -> str:
    """ "6 s", "4 min", "2 h", "3 days"."""
    if seconds < 59.5:
        return f"{max(0, seconds):.0f} s"
    if seconds < 59.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def when(time_ns: int, now_ns: int) -> str:
    """How long ago within a month, else the local date."""
    seconds = (now_ns - time_ns) / 1e9
    if 0 <= seconds < 30 * 86400:
        return f"{duration(seconds)} ago"
    try:
        return time.strftime("%Y-%m-%d", time.localtime(time_ns // 1_000_000_000))
    except (ValueError, OverflowError, OSError):
        return "?"


def listed(names: Sequence[str]) -> str:
    """ "desktop", "desktop and nas", "desktop, nas and phone"; each shown harmlessly."""
    shown = [escaped(name) for name in names]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def say(line: str) -> None:
    """A line of the result."""
    print(line)


def warn(line: str) -> None:
    """A line beside the result."""
    print(line, file=sys.stderr)


def say_json(value: object) -> None:
    """One JSON value on a line of its own, as the local API has it."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")


class Progress:
    """A line on stderr that tells how far it is, if stderr is a terminal; nothing otherwise.

    Leaving the block takes the line away.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._is_shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._last = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def update(self, done: int, total: int, detail: str = "") -> None:
        """`total` 0: not known."""
        self._show(lambda elapsed_s: progress_line(self._label, done, total, elapsed_s, detail))

    def note(self, text: str) -> None:
        """Where it is, when no bytes can be told."""
        self._show(lambda _elapsed_s: f"{self._label}   {text}")

    def _show(self, line: Callable[[float], str]) -> None:
        now = time.monotonic()
        if self._is_shown and now - self._last >= PROGRESS_INTERVAL_S:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{line(now - self._began)}")
            sys.stderr.flush()


def progress_line(label: str, done: int, total: int, elapsed_s: float, detail: str = "") -> str:
    """Bytes done, of how many, and the time left once it can be told."""
    line = f"{label}   {human_size(done)}"
    if total:
        line += f" of {human_size(total)}"
        if 0 < done <= total and elapsed_s >= 1:
            line += f", {duration(elapsed_s * (total - done) / done)} left"
    return f"{line}   {detail}".rstrip()
