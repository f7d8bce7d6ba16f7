"""The local API as data, continued: what of a volume lies on this device, by its user's word.

`volume` is always the name that this device gives it. See `protocol` for the rules.
"""

from typing import Literal

from msgspec import Struct


class PlaceRequest(Struct, frozen=True):
    """Let contents at and below `path` go from this device ("evict"), or keep them here ("pin", "unpin")."""

    volume: str
    action: Literal["evict", "pin", "unpin"]
    path: str = ""  # inside the volume; empty: all of it
    path_raw: bytes = b""
    is_forced: bool = False  # evict although fewer devices have it than `copies` asks for; never the last one
    is_dry: bool = False  # evict: only say how much there is that may go


class Kept(Struct, frozen=True):
    """A file that stays, and why."""

    path: str
    reason: str
    path_raw: bytes = b""


class PlaceResult(Struct, frozen=True):
    """What was done. Of `evict`: what went was proven by other devices an instant before."""

    volume: str
    action: Literal["evict", "pin", "unpin"]
    files: int = 0  # evict: that went; pin: below the path now; unpin: 0
    bytes: int = 0  # of these, not on this device any more; pin: to be fetched still
    room_bytes: int = 0  # evict: given back to the disk
    kept: tuple[Kept, ...] = ()  # at most 100
    kept_files: int = 0
    kept_bytes: int = 0
    was_so: bool = False  # pin, unpin: nothing had to be changed
    pinned_above: str = ""  # unpin: a directory above is pinned, so it stays pinned
