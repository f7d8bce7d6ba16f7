"""The devices whose changes a user may mean, and what he types for each. A device is itself, not its name:
several may be called the same, as where one was removed and its place taken by another.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Final

from dittofs.control.faults import Refusal
from dittofs.errors import ConfigError
from dittofs.shared_volume import SharedVolume
from dittofs.volume.writers import Writers, writers_in

UNSIGNED: Final = "unsigned:"
"""Before the label of a writer that no device signed for: it may say whatever it likes."""
DIGITS_MIN: Final = 4
"""Of an id, as a user may type it."""
DIGITS_SHOWN: Final = (8, 12, 16, 24, 32, 48, 64)
_ID: Final = re.compile(r"[0-9a-f]{64}")


class Authors:
    """What each is called, by `Writers.key`."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    @classmethod
    def of(cls, writers: Writers, keys: Iterable[str]) -> "Authors":
        """Those of `keys`."""
        return cls({key: writers.called(key) for key in keys})

    @property
    def names(self) -> list[str]:
        """What to type for each of them."""
        return sorted(map(self.known_as, self._names))

    def find(self, text: str) -> str:
        """Who is meant by a name, by the beginning of an id, or exactly by the whole of one; empty: nobody.

        Refuses ("usage") what may mean several.
        """
        found = self._meant(text)
        if len(found) > 1:
            ids = ", ".join(sorted(map(self.known_as, found)))
            what = f'several devices are meant by "{text}": {ids}. Nothing was done'
            raise Refusal(
                "usage", what, f"Type one of these instead of {text}; who is who:  dittofs devices -v"
            )
        return next(iter(found), "")

    def known_as(self, key: str) -> str:
        """The least that `find` takes for it: its name, else as much of its id as tells it apart."""
        name = self._names.get(key, key)
        if self._meant(name) <= {key}:
            return name
        if not _ID.fullmatch(key):
            return UNSIGNED + key
        return next(key[:digits] for digits in DIGITS_SHOWN if self._meant(key[:digits]) <= {key})

    def _meant(self, text: str) -> set[str]:
        if text in self._names and _ID.fullmatch(text):
            return {text}
        label = text.removeprefix(UNSIGNED)
        if label != text and label in self._names and not _ID.fullmatch(label):
            return {label}
        start = text.lower()
        is_start = len(start) >= DIGITS_MIN
        return {
            key
            for key, name in self._names.items()
            if name == text or (is_start and _ID.fullmatch(key) and key.startswith(start))
        }


def authors_of(opened: SharedVolume) -> Authors:
    """All that have written, or of whom something is held."""
    replica = opened.volume.replica
    keys = {replica.writers.key(slot) for slot in writers_in(replica.tree.settings())}
    return Authors.of(replica.writers, keys | set(_held(opened)))


def author(opened: SharedVolume, text: str) -> str:
    """The key of who is meant; of a member that has not written, too. Refuses ("not_found") who is nobody."""
    authors = authors_of(opened)
    if found := authors.find(text):
        return found
    try:
        return opened.find_member(text).device.hex()
    except ConfigError:
        there = ", ".join(authors.names) or "none"
        what = f'no device has written here that is called "{text}"; there are: {there}. Nothing was done'
        raise Refusal("not_found", what, "dittofs devices") from None


def held_author(opened: SharedVolume, text: str) -> str:
    """As `author`, of those of whom something is held."""
    replica = opened.volume.replica
    authors = Authors.of(replica.writers, _held(opened))
    if found := authors.find(text):
        return found
    there = ", ".join(map(authors_of(opened).known_as, _held(opened))) or "none"
    what = f'nothing is held of a device called "{text}"; there are: {there}. Nothing was done'
    raise Refusal("not_found", what, f"dittofs brake list {shlex.quote(opened.name)}")


def _held(opened: SharedVolume) -> list[str]:
    return [one.device for one in opened.volume.replica.tree.brake.holds.tally()]
