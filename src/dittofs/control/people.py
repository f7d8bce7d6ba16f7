"""The local API as data, continued: users, groups, and what they, devices and the default may do.

See `protocol` for the rules. A device is named by its name or the beginning of its id.
"""

from typing import Literal

from msgspec import Struct

from dittofs.control.protocol import RoleName

RoleWord = Literal["none", "store", "reader", "writer", "owner", "inherit"]
"""A role that was given; "inherit": none."""
Given = Literal["", "reader", "writer"]


class RoleChange(Struct, frozen=True):
    """A device that may do something else now."""

    device: str
    id: str
    role: RoleName
    was: RoleName


class GrantRequest(Struct, frozen=True):
    """Give a device, a user, a group or all that was given nothing ("default") another role.

    "device:", "user:" or "group:" before the name says what is meant where several are called so. "none"
    takes a device out of the volume.
    """

    volume: str
    name: str
    role: Literal["none", "reader", "writer", "owner", "inherit"]
    is_forced: bool = False  # although who can read no more holds files that nobody else has


class GrantResult(Struct, frozen=True):
    """It is signed and durable here; who is connected has heard of it, or will at once."""

    volume: str
    name: str  # as it is called now; "default"
    kind: Literal["device", "user", "group", "default"]
    role: RoleWord  # that was given
    was: RoleWord
    may: RoleName  # what follows for the device; for a user's that have no role of their own; else as `role`
    id: str = ""  # of a device
    changed: tuple[RoleChange, ...] = ()
    kept: tuple[str, ...] = ()  # devices of the user that go by a role of their own
    owners: tuple[str, ...] = ()  # devices of the user that are owners, whatever the user may
    by_group: str = ""  # the group that says what a user may
    invited: tuple[str, ...] = ()  # members whom a device that was taken out had let in, and who stay


class UserRequest(Struct, frozen=True):
    """Make a user, give a user devices or take them away, or take a user out with every device.

    "add" makes one if there is none; "leave" makes `devices` nobody's; "remove" takes them out of the volume.
    """

    volume: str
    action: Literal["add", "leave", "remove"]
    name: str
    devices: tuple[str, ...] = ()
    role: Given = ""  # with "add"; empty: it stays as it is
    is_forced: bool = False  # as of a grant


class GroupRequest(Struct, frozen=True):
    """Make a group, put users in or take them out, or end it. "add" makes one if there is none."""

    volume: str
    action: Literal["add", "join", "leave", "remove"]
    name: str
    users: tuple[str, ...] = ()
    role: Given = ""
    is_forced: bool = False  # as of a grant


class UserStatus(Struct, frozen=True):
    """A person: devices that are asked for together."""

    name: str
    role: RoleWord  # given to the user
    may: RoleName  # a device of the user that has no role of its own
    by: str = ""  # what says so: "user", "group", "default"
    by_group: str = ""
    groups: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    is_online: bool = False  # one of the devices is
    last_seen_ns: int = 0  # the latest of the devices


class GroupStatus(Struct, frozen=True):
    """Users that are asked for together."""

    name: str
    role: RoleWord  # given to the group
    users: tuple[str, ...] = ()


class PeopleRequest(Struct, frozen=True):
    """Who are the users and groups of a volume?"""

    volume: str


class PeopleReport(Struct, frozen=True):
    """All of them, by name. `default`: what a device may do that was given nothing; `guest`: a guest's."""

    volume: str
    users: tuple[UserStatus, ...]
    groups: tuple[GroupStatus, ...]
    default: RoleName
    guest: RoleName


class PeopleResult(Struct, frozen=True):
    """It is signed and durable here; who is connected has heard of it, or will at once."""

    volume: str
    name: str
    is_new: bool = False
    is_changed: bool = True
    user: UserStatus | None = None  # as the user is now; null: there is none any more
    group: GroupStatus | None = None
    changed: tuple[RoleChange, ...] = ()
    kept: tuple[str, ...] = ()  # devices of the user that go by a role of their own
    owners: tuple[str, ...] = ()  # devices of the user that are owners, whatever the user may
