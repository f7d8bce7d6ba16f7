"""How much of the disk contents may take that other devices have, too: `[cache]` in the settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

BYTES_MAX: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """How much room the contents of all volumes may take on this device; 0: as much as there is."""

    bytes_max: int = 0
    disk_share_max: float = 0.0
    """Of the disk they lie on."""
    free_bytes_min: int = 0
    """So much stays free there for others."""
    free_share_min: float = 0.0

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return bool(self.bytes_max or self.disk_share_max or self.free_bytes_min or self.free_share_min)

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Self:
        """What a file says, that was found to be as `is_bytes` and `is_part` want it."""

        def number(name: str) -> float:
            value = given.get(name, 0)
            return value if isinstance(value, int | float) else 0

        return cls(
            int(number("bytes_max")),
            float(number("disk_share_max")),
            int(number("free_bytes_min")),
            float(number("free_share_min")),
        )


def is_bytes(value: object) -> bool:
    """Whether it is a number of bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= BYTES_MAX


def is_part(value: object) -> bool:
    """Whether it is a part of something, or 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


NO_LIMIT: Final = CacheSettings()
CACHE_RULES: Final = {
    "bytes_max": (is_bytes, "a whole number of bytes; 0: no limit"),
    "disk_share_max": (is_part, "a part of the disk, from 0 (no limit) to 1"),
    "free_bytes_min": (is_bytes, "a whole number of bytes; 0: no floor"),
    "free_share_min": (is_part, "a part of the disk, from 0 (no floor) to 1"),
}
"""Of each setting what it must be, and how that is said."""
