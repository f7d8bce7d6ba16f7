"""What each device may do, by what was said of it, of its user, of the user's groups, and of everybody.

A pure function of the records that decide, so alike on all replicas that have the same. The role of a device
that was let in, by the first of these that says one:

1. the device itself: owner, or store;
2. its user, if nothing is what the user may do: whoever revokes a user revokes every device of it;
3. the device itself: a role that was given to it on purpose;
4. its user and the groups that the user is in: the greatest of what they were given;
5. the default: of guests reader, else writer, unless another was set.

A group that may do nothing gives nothing, and who is in it and was given nothing else may do nothing.
Nothing here makes an owner, nor unmakes one: ranks do not depend on it.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from dittofs.identity.records import Kind, Record, Role

GUEST: Final = "guest"
"""The user that guests' devices belong to."""
DEFAULT_ROLE: Final = Role.WRITER
GUEST_ROLE: Final = Role.READER


class Subject(NamedTuple):
    """What a record is about: of the records about one thing, one decides."""

    kind: Kind
    device: bytes
    user: str
    group: str


def subject_of(record: Record) -> Subject | None:
    """What `record` is about; None of generations and wraps."""
    body = record.body
    match record.kind:
        case Kind.MEMBER | Kind.USER:
            return Subject(record.kind, body.subject, "", "")
        case Kind.STANDING | Kind.GROUP:
            return Subject(record.kind, b"", body.name, body.group)
        case _:
            return None


def severity(record: Record) -> tuple[int, int]:
    """Of records that were made apart by equals the one with the least of this decides.

    What is said outright before what is inherited, then the least role; of a device's own the least role
    first.
    """
    inherits, role = int(record.body.inherits), int(record.role)
    return (role, inherits) if record.kind == Kind.MEMBER else (inherits, role)


class By(enum.Enum):
    """What said a role."""

    DEVICE = enum.auto()
    USER = enum.auto()
    GROUP = enum.auto()
    DEFAULT = enum.auto()


@dataclass(frozen=True, slots=True)
class Standing:
    """A role, and what said it."""

    role: Role
    by: By = By.DEVICE
    group: str = ""


NOBODY: Final = Standing(Role.NONE)


class People:
    """Users, groups, and the standing of every device that was let in."""

    def __init__(self, deciding: Mapping[Subject, Record]) -> None:
        self._given: dict[Subject, Role | None] = {}
        self._user_of: dict[bytes, str] = {}
        self._groups_of: dict[str, set[str]] = {}
        for subject, record in deciding.items():
            body = record.body
            match subject.kind:
                case Kind.STANDING:
                    self._given[subject] = None if body.inherits else record.role
                case Kind.USER if body.name:
                    self._user_of[body.subject] = body.name
                case Kind.GROUP if body.inherits:
                    self._groups_of.setdefault(body.name, set()).add(body.group)
        self._standings = {
            record.body.subject: self._standing(record)
            for subject, record in deciding.items()
            if subject.kind == Kind.MEMBER and record.is_grant
        }

    def standing(self, device: bytes) -> Standing:
        """What `device` may do."""
        return self._standings.get(device, NOBODY)

    def of_user(self, user: str) -> Standing:
        """What a device of `user` may do that was given no role of its own; empty: of nobody."""
        own = self.given(user=user) if user else None
        if own == Role.NONE:
            return Standing(Role.NONE, By.USER)
        said = [] if own is None else [Standing(own, By.USER)]
        for group in self.groups_of(user):
            role = self.given(group=group)
            if role is not None:
                said.append(Standing(role, By.GROUP, group))
        if said:
            return max(said, key=lambda one: one.role)  # of equals the user's own, then the first group
        return Standing(GUEST_ROLE if user == GUEST else self.default, By.DEFAULT)

    def would(self, role: Role | None, user: str) -> Standing:
        """What a device of `user` may do that was given `role`; None: it was given none of its own."""
        if role in (Role.OWNER, Role.STORE):
            return Standing(role)
        inherited = self.of_user(user)
        is_revoked = inherited == Standing(Role.NONE, By.USER)
        return inherited if role is None or is_revoked else Standing(role)

    @property
    def default(self) -> Role:
        """What a device may do that was given nothing, nor its user, nor a group."""
        role = self.given()
        return DEFAULT_ROLE if role is None else role

    def given(self, *, user: str = "", group: str = "") -> Role | None:
        """What a user, a group, or with neither the default was set to; None: nothing was."""
        return self._given.get(Subject(Kind.STANDING, b"", user, group))

    def user_of(self, device: bytes) -> str:
        """Whose `device` is; empty: nobody's."""
        return self._user_of.get(device, "")

    def devices_of(self, user: str) -> list[bytes]:
        """The devices of `user` that were let in, by id."""
        return sorted(device for device in self._standings if self.user_of(device) == user)

    def groups_of(self, user: str) -> list[str]:
        """The groups `user` is in."""
        return sorted(self._groups_of.get(user, ()))

    def users_in(self, group: str) -> list[str]:
        """The users in `group`."""
        return sorted(user for user, groups in self._groups_of.items() if group in groups)

    def users(self) -> list[str]:
        """The users there are: who is revoked, has no device and is in no group is none any more.

        The guests are among them while there are any, or they were given a role.
        """
        found = {user for device, user in self._user_of.items() if device in self._standings}
        found |= {user for user, groups in self._groups_of.items() if groups}
        found |= {
            one.user
            for one, role in self._given.items()
            if role != Role.NONE and (one.user != GUEST or role is not None)
        }
        return sorted(found - {""})

    def groups(self) -> list[str]:
        """The groups there are: one that is revoked and has no user is none any more."""
        found = {group for groups in self._groups_of.values() for group in groups}
        found |= {one.group for one, role in self._given.items() if role != Role.NONE}
        return sorted(found - {""})

    def _standing(self, record: Record) -> Standing:
        """Of a device that was let in."""
        return self.would(None if record.body.inherits else record.role, self.user_of(record.body.subject))
