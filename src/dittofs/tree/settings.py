"""The meta document: settings of the volume, one register each, by name.

The value of a key `<name>:<slot>` is the msgpack array [stamp, slot bytes, value or nil]. Nil: removed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from dittofs.errors import FormatError
from dittofs.ids import SLOT_BYTES, Stamp
from dittofs.tree.index import IndexStore
from dittofs.tree.record import STAMP_END

VALUE_BYTES_MAX = 32 << 10
_TABLE = "setting"
_NAME = re.compile(r"[a-z][a-z0-9./_-]{0,199}")


class Setting(NamedTuple):
    """A register: the latest (stamp, slot) wins."""

    stamp: Stamp
    slot: bytes
    value: bytes | None


_decoder = msgspec.msgpack.Decoder(tuple[int, bytes, bytes | None])


def is_setting_name(name: str) -> bool:
    """Whether a setting can be called so."""
    return _NAME.fullmatch(name) is not None


def encode_setting(setting: Setting) -> bytes:
    return msgspec.msgpack.encode(setting)


def decode_setting(raw: bytes) -> Setting:
    """Raises FormatError, and nothing else, for bytes that are no setting."""
    try:
        stamp, slot, value = _decoder.decode(raw)
    except msgspec.DecodeError:
        raise FormatError("a setting of unknown form") from None
    if not 0 <= stamp < STAMP_END or len(slot) != SLOT_BYTES or len(value or b"") > VALUE_BYTES_MAX:
        raise FormatError("a setting out of bounds")
    return Setting(Stamp(stamp), slot, value)


def join_settings(settings: Iterable[Setting]) -> Setting:
    """The latest of one or more."""
    return max(settings, key=lambda one: (one.stamp, one.slot, one.value is not None, one.value or b""))


class Settings:
    """The settings as rows of the index, cached."""

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        self._known: dict[str, Setting] | None = None

    def forget(self) -> None:
        """Drop what is cached: the store was rolled back."""
        self._known = None

    def get(self, name: str) -> Setting | None:
        return self._all().get(name)

    def put(self, name: str, setting: Setting) -> None:
        self._all()[name] = setting
        self._store.put(_TABLE, name.encode("ascii"), encode_setting(setting))

    def values(self) -> Mapping[str, bytes]:
        """The value of every setting that has one."""
        return {name: one.value for name, one in self._all().items() if one.value is not None}

    def registers(self) -> Mapping[str, Setting]:
        """Every setting, also what has no value any more."""
        return self._all()

    def _all(self) -> dict[str, Setting]:
        if self._known is None:
            rows = self._store.scan(_TABLE, b"")
            self._known = {key.decode("ascii"): decode_setting(row) for key, row in rows}
        return self._known
