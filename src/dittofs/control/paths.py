"""Paths in requests and replies: any bytes, as readable text wherever they are UTF-8.

JSON holds text only and a file name is bytes. `path` is the text; when the bytes are not
UTF-8, `path` is a readable likeness and `path_raw` holds the bytes themselves (base64 in JSON).
"""

from typing import Final, Protocol, TypedDict

from dittofs.control.faults import Refusal

PATH_BYTES_MAX: Final = (
    16 << 10
)  # four times PATH_MAX, and its percent-encoded form still fits a request head
NAME_BYTES_MAX: Final = 255


class PathFields(TypedDict):
    """The two fields by which a struct carries a path; unpack with `**`."""

    path: str
    path_raw: bytes


class Located(Protocol):
    """A struct that carries a path."""

    @property
    def path(self) -> str: ...

    @property
    def path_raw(self) -> bytes: ...


def path_fields(path: bytes) -> PathFields:
    """The fields that carry `path` exactly."""
    try:
        return PathFields(path=path.decode(), path_raw=b"")
    except UnicodeDecodeError:
        return PathFields(path=path.decode(errors="replace"), path_raw=path)


def path_bytes(item: Located) -> bytes:
    """The path that `item` carries, exactly. Refuses what is longer than `PATH_BYTES_MAX` or holds NUL."""
    raw = item.path_raw or item.path.encode()
    if len(raw) > PATH_BYTES_MAX:
        raise Refusal("usage", f"a path of {len(raw):,} bytes is longer than {PATH_BYTES_MAX:,}")
    if b"\0" in raw:
        raise Refusal("usage", "a path holds no NUL byte")
    return raw


def components(path: bytes) -> tuple[bytes, ...]:
    """The names along a path inside a volume; empty for its root.

    Leading, trailing and double slashes and `.` say nothing. Refuses `..` (a path in a volume
    never leaves it) and names over 255 bytes.
    """
    names = tuple(name for name in path.split(b"/") if name not in (b"", b"."))
    if b".." in names:
        raise Refusal("usage", "a path inside a volume has no `..`")
    if any(len(name) > NAME_BYTES_MAX for name in names):
        raise Refusal("usage", f"a name is at most {NAME_BYTES_MAX} bytes long")
    return names
