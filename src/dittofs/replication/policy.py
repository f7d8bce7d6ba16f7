"""How many copies of each content there should be: settings of the volume, the same on all devices."""

import re
from dataclasses import dataclass
from typing import Final, Self

from dittofs.errors import FormatError
from dittofs.ids import InodeId

SETTING: Final = "copies"
COPIES_MAX: Final = 1000
_RULE: Final = re.compile(r"copies/((?:[0-9a-f]{2}){16})")


def rule_setting(inode: InodeId) -> str:
    """The setting that says how many copies there should be of a file, or of all below a directory."""
    return f"{SETTING}/{inode.encode('ascii').hex()}"


def ruled_inode(setting: str) -> InodeId | None:
    """What a setting of that name is about; None: it is no such rule."""
    found = _RULE.fullmatch(setting)
    raw = bytes.fromhex(found[1]) if found else b""
    return InodeId(raw.decode("ascii")) if raw and raw.isascii() else None


@dataclass(frozen=True, slots=True)
class Policy:
    """`count` devices hold each content; None: all do. 1: contents go where they are asked for, only."""

    count: int | None = 2

    @classmethod
    def parse(cls, text: str) -> Self:
        """`all`, `on-demand`, or a number from 2. FormatError says so."""
        if text == "all":
            return cls(None)
        if text == "on-demand":
            return cls(1)
        if text.isascii() and text.isdecimal() and 2 <= int(text) <= COPIES_MAX:
            return cls(int(text))
        raise FormatError(f"copies is all, on-demand, or a number from 2 to {COPIES_MAX}, not {text!r}")

    def __str__(self) -> str:
        return "all" if self.count is None else "on-demand" if self.count == 1 else str(self.count)

    @property
    def rank(self) -> float:
        """Who asks for more stands higher."""
        return float("inf") if self.count is None else self.count

    @property
    def wants_all(self) -> bool:
        """Every device holds everything."""
        return self.count is None

    @property
    def is_on_demand(self) -> bool:
        """Nobody is to hold what he did not ask for."""
        return self.count == 1

    @property
    def pushes(self) -> bool:
        """Whether others are asked to hold what is here."""
        return self.count is not None and self.count > 1

    def copies(self, devices: int) -> int:
        """How many devices of `devices` should hold each content."""
        return devices if self.count is None else min(self.count, devices)
