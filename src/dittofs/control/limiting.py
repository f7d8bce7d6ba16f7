"""The local API as data, continued: how fast this device sends and receives. See `protocol` for the rules."""

from typing import Literal

from msgspec import Struct

DirectionName = Literal["up", "down"]


class LimitRequest(Struct, frozen=True):
    """Show the limits ("show"), add one ("set"), or take all away ("clear")."""

    action: Literal["show", "set", "clear"]
    direction: DirectionName = "up"
    rate: str = ""  # like "2MB/s", or "off"
    device: str = ""  # its name, or the beginning of its id; empty: all together
    at: str = ""  # like "mon-fri 08:00-18:00"; empty: always


class LimitRule(Struct, frozen=True):
    """One rule. Of those about the same that hold at a time the last one counts."""

    direction: DirectionName
    rate: int  # bytes a second; 0: no limit
    device: str = ""  # its name, as far as it is known
    id: str = ""  # of the device, hexadecimal; empty: all together
    at: str = ""
    counts_now: bool = False


class LimitReport(Struct, frozen=True):
    """All rules, and what is limited now."""

    rules: tuple[LimitRule, ...] = ()
    up: int = 0  # bytes a second to all devices together, now; 0: no limit
    down: int = 0
    problems: tuple[str, ...] = ()  # lines of the file that are no rule, and are passed over
    file: str = ""  # where the rules are kept
