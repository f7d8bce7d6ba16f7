"""What devices tell each other before chunks are swept, in settings of the volume (wire.md, decision 0030).

`gc/<device>` = k: that device has marked for the kth time; it sweeps what it found when all have answered.
`gc-seen/<device>` = {device: k}: it answers. `retired/<device>`: nobody waits for it. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from dittofs.identity.keys import DeviceId

ROUND: Final = "gc/"
SEEN: Final = "gc-seen/"
RETIRED: Final = "retired/"
_number = msgspec.msgpack.Decoder(int)
_numbers = msgspec.msgpack.Decoder(dict[bytes, int])


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
    answered: int
    """The last round it answered; 0: none."""


def encode(value: object) -> bytes:
    """A setting's value."""
    return msgspec.msgpack.encode(value)


def round_of(settings: Mapping[str, bytes], device: DeviceId) -> int:
    """The number of a device's last announced round; 0: there was none."""
    try:
        return max(0, _number.decode(settings.get(ROUND + device.hex(), b"\0")))
    except msgspec.MsgspecError:
        return 0


def answers_of(settings: Mapping[str, bytes], device: DeviceId) -> dict[bytes, int]:
    """Which round of whom a device has answered last."""
    try:
        return _numbers.decode(settings.get(SEEN + device.hex(), b"\x80"))
    except msgspec.MsgspecError:
        return {}  # of a later version: it has answered nothing


def retired(settings: Mapping[str, bytes]) -> dict[DeviceId, Retired]:
    """The devices that nobody waits for."""
    found: dict[DeviceId, Retired] = {}
    for name, value in settings.items():
        if name.startswith(RETIRED):
            try:
                found[DeviceId(bytes.fromhex(name[len(RETIRED) :]))] = _retired.decode(value)
            except (ValueError, msgspec.MsgspecError):
                continue
    return found


def outstanding(
    settings: Mapping[str, bytes], device: DeviceId, others: Iterable[DeviceId]
) -> list[Outstanding]:
    """Those of `others` that have not answered the last round of `device`, retired ones apart."""
    number, gone = round_of(settings, device), retired(settings)
    found = []
    for other in others:
        answered = answers_of(settings, other).get(device, 0)
        if other not in gone and answered < number:
            found.append(Outstanding(other, answered))
    return found
