"""Which device is meant by what somebody types: its name, or the beginning of its id.

Members name themselves, so no name stands before an id: what may mean several devices means none.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

DIGITS_MIN: Final = 4
"""Of an id, as a user may type it."""
DIGITS_SHOWN: Final = (8, 12, 16, 24, 32, 48, 64)
_ID: Final = re.compile(r"[0-9a-f]{64}")


def is_id(text: str) -> bool:
    """Whether it is the whole id of a device, as it is shown."""
    return _ID.fullmatch(text) is not None


class Names:
    """What devices are called, by id in hexadecimal digits; or whatever else has a name, by another key."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def name(self, key: str) -> str:
        """What it is called; itself if it has no name."""
        return self._names.get(key, key)

    def meant(self, text: str) -> set[str]:
        """All that are called so, and all whose id begins so. A whole id is exact, whoever is called that."""
        if is_id(text.lower()):
            return {text.lower()} & self._names.keys()
        return {key for key, name in self._names.items() if name == text} | self.by_id(text)

    def by_id(self, text: str) -> set[str]:
        """All whose id begins so."""
        start = text.lower()
        if len(start) < DIGITS_MIN:
            return set()
        return {key for key in self._names if key.startswith(start) and is_id(key)}

    def digits(self, key: str) -> str:
        """As much of an id as means that device alone."""
        return next((key[:count] for count in DIGITS_SHOWN if self.meant(key[:count]) == {key}), key)

    def several(self, text: str, keys: Iterable[str]) -> str:
        """Says that `text` may mean each of `keys`, and what to type instead."""
        which = ", ".join(f'{self.digits(key)} ("{self.name(key)}")' for key in sorted(keys))
        return f'several devices are meant by "{text}": {which}; give the id of one'
