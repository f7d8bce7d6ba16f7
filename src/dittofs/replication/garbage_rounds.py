"""What devices tell each other before chunks are swept, in settings of the volume (wire.md, decision 0030).

`gc/<device>` = name: that device has marked; it sweeps what it found when all have answered the round of that
name, which is random: a device that was set back to a backup names none as it did before.
`gc-seen/<device>` = {device: name}: it answers. `retired/<device>`: nobody waits for it. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from dittofs.identity.keys import DeviceId

ROUND: Final = "gc/"
SEEN: Final = "gc-seen/"
RETIRED: Final = "retired/"
NAME_BYTES: Final = 16
TIME_MAX: Final = (1 << 63) - 1
_name = msgspec.msgpack.Decoder(bytes)
_names = msgspec.msgpack.Decoder(dict[bytes, bytes])


class Retired(msgspec.Struct, array_like=True, frozen=True):
    """That a device is not waited for any more."""

    at: int
    """When that was said, nanoseconds since 1970."""
    by: str
    """The device that said so."""
    seen: int = 0
    """When the retired one was last heard of there; 0: never."""


_retired = msgspec.msgpack.Decoder(Retired)


class Outstanding(NamedTuple):
    """A device that has not answered the round yet."""

    device: DeviceId
    answered: bytes
    """The last round it answered; empty: none."""


def encode(value: object) -> bytes:
    """A setting's value."""
    return msgspec.msgpack.encode(value)


def round_of(settings: Mapping[str, bytes], device: DeviceId) -> bytes:
    """The name of a device's last announced round; empty: there was none, or what a writer set is no name."""
    try:
        name = _name.decode(settings.get(ROUND + device.hex(), b"\xc4\0"))
    except msgspec.MsgspecError:
        return b""
    return name if len(name) == NAME_BYTES else b""


def answers_of(settings: Mapping[str, bytes], device: DeviceId) -> dict[DeviceId, bytes]:
    """Which round of whom a device has answered last. What is no name answers nothing."""
    try:
        names = _names.decode(settings.get(SEEN + device.hex(), b"\x80"))
    except msgspec.MsgspecError:
        return {}  # of a later version: it has answered nothing
    return {DeviceId(one): name for one, name in names.items() if len(name) == NAME_BYTES}


def retired(settings: Mapping[str, bytes]) -> dict[DeviceId, Retired]:
    """The devices that nobody waits for. What is out of bounds retires nobody: others go on waiting."""
    found: dict[DeviceId, Retired] = {}
    for name, value in settings.items():
        if name.startswith(RETIRED):
            try:
                one = _retired.decode(value)
                device = DeviceId(bytes.fromhex(name[len(RETIRED) :]))
            except (ValueError, msgspec.MsgspecError, RecursionError):
                continue
            if 0 <= one.at <= TIME_MAX and 0 <= one.seen <= TIME_MAX:
                found[device] = one
    return found


def outstanding(
    settings: Mapping[str, bytes], device: DeviceId, name: bytes, others: Iterable[DeviceId]
) -> list[Outstanding]:
    """Those of `others` that have not answered the round `name` of `device`, retired ones apart.

    The name is what the device itself remembers: of the setting another history of it may have the last word.
    """
    gone = retired(settings)
    found = []
    for other in others:
        answered = answers_of(settings, other).get(device, b"")
        if other not in gone and answered != name:
            found.append(Outstanding(other, answered))
    return found
