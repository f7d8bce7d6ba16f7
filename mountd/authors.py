"""The devices whose changes a user may mean, and what he types for each. A device is itself, not its name:
several may be called the same, as where one was removed and its place taken by another.
"""

import shlex
from collections.abc import Container, Iterable, Mapping
from typing import Final

from dittofs.control.faults import Refusal
from dittofs.identity.lookup import Names, is_id
from dittofs.shared_volume import SharedVolume
from dittofs.volume.writers import Writers, writers_in

UNSIGNED: Final = "unsigned:"
"""Before the label of a writer that no device signed for: it may say whatever it likes."""


class Authors:
    """What each is called, by `Writers.key`."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = Names(names)
        self._keys = list(names)

    @classmethod
    def of(cls, writers: Writers, keys: Iterable[str]) -> "Authors":
        """Those of `keys`."""
        return cls({key: writers.called(key) for key in keys})

    @property
    def names(self) -> list[str]:
        """What to type for each of them."""
        return sorted(map(self.known_as, self._keys))

    def find(self, text: str, named: Container[str] | None = None) -> str:
        """Who is meant by a name, by the beginning of an id, or exactly by the whole of one; empty: nobody.

        A name is looked for among `named`, an id among all. Refuses ("usage") what may mean several.
        """
        found = self._meant(text)
        if named is not None:
            found = {key for key in found if key in named} | (found & self._names.by_id(text))
        if len(found) > 1:
            ids = ", ".join(sorted(map(self.known_as, found)))
            what = f'several devices are meant by "{text}": {ids}. Nothing was done'
            raise Refusal(
                "usage", what, f"Type one of these instead of {text}; who is who:  dittofs devices -v"
            )
        return next(iter(found), "")

    def known_as(self, key: str) -> str:
        """The least that `find` takes for it: its name, else as much of its id as tells it apart."""
        name = self._names.name(key)
        if self._meant(name) == {key}:
            return name
        return self._names.digits(key) if is_id(key) else UNSIGNED + key

    def _meant(self, text: str) -> set[str]:
        label = text.removeprefix(UNSIGNED)
        if label != text and label in self._names and not is_id(label):
            return {label}
        return self._names.meant(text)


def authors_of(opened: SharedVolume) -> Authors:
    """All that have written, or of whom something is held, and all members: an id may be meant of each."""
    members = {one.device.hex() for one in opened.membership.all_admitted()}
    return Authors.of(opened.volume.replica.writers, _written(opened) | members)


def author(opened: SharedVolume, text: str) -> str:
    """The key of who is meant; of a member that has not written, too. Refuses ("not_found") who is nobody."""
    authors = authors_of(opened)
    if found := authors.find(text):
        return found
    there = ", ".join(sorted(map(authors.known_as, _written(opened)))) or "none"
    what = f'no device has written here that is called "{text}"; there are: {there}. Nothing was done'
    raise Refusal("not_found", what, "dittofs devices")


def held_author(opened: SharedVolume, text: str) -> str:
    """As `author`, of those of whom something is held."""
    authors, held = authors_of(opened), _held(opened)
    found = authors.find(text, named=held)
    if found and found in held:
        return found
    there = ", ".join(map(authors.known_as, held)) or "none"
    what = f'nothing is held of a device called "{text}"; there are: {there}. Nothing was done'
    raise Refusal("not_found", what, f"dittofs brake list {shlex.quote(opened.name)}")


def _written(opened: SharedVolume) -> set[str]:
    replica = opened.volume.replica
    return {replica.writers.key(slot) for slot in writers_in(replica.tree.settings())} | set(_held(opened))


def _held(opened: SharedVolume) -> list[str]:
    return [one.device for one in opened.volume.replica.tree.brake.holds.tally()]
