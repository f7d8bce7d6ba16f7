"""Unified diffs of text, as `patch` takes them. Pure."""

import difflib

from dittofs.merging.lines import lines_of

_NO_NEWLINE = "\n\\ No newline at end of file\n"


def unified(old: str, new: str, before: bytes, after: bytes) -> str:
    """What makes `after` of `before`, without a last newline; empty if they are equal.

    A line is what ends with a line feed; a last one without is marked. Bytes that are not UTF-8 are shown as
    `\\xNN`.
    """
    found = difflib.unified_diff(_shown(before), _shown(after), old, new)
    return "".join(line if line.endswith("\n") else line + _NO_NEWLINE for line in found).removesuffix("\n")


def _shown(content: bytes) -> list[str]:
    return [line.decode(errors="backslashreplace") for line in lines_of(content)]
