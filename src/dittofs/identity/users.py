"""Deciding what devices, users and groups may do: an owner's words, written into a draft.

Each function leaves out what is so already. `NotAllowed` if the author may not say it, `ConfigError` for what
does not exist, `FormatError` for a name that is none or another's: then nothing of the draft is to be kept.
"""

from collections.abc import Iterable
from typing import Final

from dittofs.errors import ConfigError, FormatError
from dittofs.identity.authoring import Draft, NotAllowed, require_owner
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.membership import Member, Membership
from dittofs.identity.people import GUEST
from dittofs.identity.records import INHERITED, Role
from dittofs.labels import LABEL_BYTES_MAX, NOT_FREE, is_free, is_label

DEFAULT: Final = "default"
"""Stands for whatever was given nothing, where a device, a user or a group is named."""
INHERIT: Final = "inherit"
"""Said where a role is named: what was given ends."""


def give_device(draft: Draft, device: DeviceId, role: Role | None) -> None:
    """Give a device a role of its own; None: the one that its user, its groups or the default say."""
    _begin(draft, "give roles")
    member = _admitted(draft, device)
    if own_role(draft.membership, device) != role:
        _require_other(draft, member)
        draft.member(device, role, member.publics, member.name, ())


def give_user(draft: Draft, user: str, role: Role | None) -> None:
    """Give all devices of a user a role that have none of their own. Role none ends those, too."""
    _begin(draft, "give roles")
    _require_inheritable(role)
    require_user(draft.membership, user)
    if draft.membership.people.given(user=user) != role:
        draft.standing(role, user=user)
    if role == Role.NONE:
        for device in draft.membership.people.devices_of(user):
            if own_role(draft.membership, DeviceId(device)) == Role.OWNER:
                give_device(draft, DeviceId(device), None)


def give_group(draft: Draft, group: str, role: Role | None) -> None:
    """Give the users of a group a role; none: it gives nothing any more."""
    _begin(draft, "give roles")
    _require_inheritable(role)
    require_group(draft.membership, group)
    if draft.membership.people.given(group=group) != role:
        draft.standing(role, group=group)


def give_default(draft: Draft, role: Role | None) -> None:
    """Say what a device may do that was given nothing, nor its user, nor a group."""
    _begin(draft, "set the default permission")
    _require_inheritable(role)
    if draft.membership.people.given() != role:
        draft.standing(role)


def add_user(draft: Draft, user: str, devices: Iterable[DeviceId], role: Role | None) -> None:
    """Make a user, if there is none of that name, and `devices` the user's, which do what the user may.

    Role None: as it is; of a new one, what the groups or the default say. An owner among them stays it.
    """
    _begin(draft, "add users")
    _require_inheritable(role)
    if user not in (*draft.membership.people.users(), GUEST):
        _require_free(draft, user)
        draft.standing(role, user=user)
    elif role is not None:
        give_user(draft, user, role)
    for device in devices:
        member = _admitted(draft, device)
        if draft.membership.people.user_of(device) != user:
            draft.user(device, user)
        if own_role(draft.membership, device) not in (None, Role.OWNER, Role.STORE):
            draft.member(device, None, member.publics, member.name, ())


def take_from_user(draft: Draft, user: str, devices: Iterable[DeviceId]) -> None:
    """Make devices of a user nobody's."""
    _begin(draft, "change whose a device is")
    require_user(draft.membership, user)
    for device in devices:
        member = _admitted(draft, device)
        if draft.membership.people.user_of(device) != user:
            raise ConfigError(f'"{member.name}" is no device of {user}')
        draft.user(device, "")


def remove_user(draft: Draft, user: str) -> None:
    """Take out every device of a user, also those that others let in meanwhile."""
    _begin(draft, "remove users")
    require_user(draft.membership, user)
    if user != GUEST:  # who invites guests tomorrow shall not have to give them a role anew
        draft.standing(Role.NONE, user=user)
    for device in draft.membership.people.devices_of(user):
        _require_other(draft, _admitted(draft, DeviceId(device)))
        draft.member(device, Role.NONE, None, "", ())
    for group in draft.membership.people.groups_of(user):
        draft.group(user, group, is_in=False)


def add_group(draft: Draft, group: str, users: Iterable[str], role: Role | None) -> None:
    """Make a group, if there is none of that name, and put users into it. Role None: it stays as it is."""
    _begin(draft, "add groups")
    _require_inheritable(role)
    if group not in draft.membership.people.groups():
        _require_free(draft, group)
        draft.standing(role, group=group)
    elif role is not None:
        give_group(draft, group, role)
    join_group(draft, group, users)


def join_group(draft: Draft, group: str, users: Iterable[str]) -> None:
    """Put users into a group."""
    _begin(draft, "change groups")
    require_group(draft.membership, group)
    for user in users:
        require_user(draft.membership, user)
        if group not in draft.membership.people.groups_of(user):
            draft.group(user, group, is_in=True)


def leave_group(draft: Draft, group: str, users: Iterable[str]) -> None:
    """Take users out of a group."""
    _begin(draft, "change groups")
    require_group(draft.membership, group)
    for user in users:
        require_user(draft.membership, user)
        if group not in draft.membership.people.groups_of(user):
            raise ConfigError(f"{user} is not in the group {group}")
        draft.group(user, group, is_in=False)


def remove_group(draft: Draft, group: str) -> None:
    """End a group. Who was in it stays, with what else they were given."""
    _begin(draft, "remove groups")
    require_group(draft.membership, group)
    draft.standing(Role.NONE, group=group)
    for user in draft.membership.people.users_in(group):
        draft.group(user, group, is_in=False)


def own_role(membership: Membership, device: DeviceId) -> Role | None:
    """What a device was given itself; None: nothing. It was let in."""
    deciding = membership.deciding(device)
    assert deciding is not None
    return None if deciding.body.inherits else deciding.role


def require_user(membership: Membership, user: str) -> None:
    """Return if there is such a user."""
    users = membership.people.users()
    if user not in (*users, GUEST):
        raise ConfigError(f'there is no user "{user}"; there are: {", ".join(users) or "none yet"}')


def require_group(membership: Membership, group: str) -> None:
    """Return if there is such a group."""
    groups = membership.people.groups()
    if group not in groups:
        raise ConfigError(f'there is no group "{group}"; there are: {", ".join(groups) or "none yet"}')


def _begin(draft: Draft, wish: str) -> None:
    if isinstance(draft.author, Device):
        require_owner(draft.membership, draft.author.id, wish)


def _admitted(draft: Draft, device: DeviceId) -> Member:
    member = draft.membership.admitted(device)
    if member is None:
        raise NotAllowed("that device is no member of this volume")
    return member


def _require_other(draft: Draft, member: Member) -> None:
    if isinstance(draft.author, Device) and draft.author.id == member.device:
        raise NotAllowed(
            f'"{member.name}" is this very device, which an owner does not take anything from: another owner '
            "can, or it leaves"
        )


def _require_inheritable(role: Role | None) -> None:
    if role not in (None, *INHERITED):
        raise FormatError("only a device can be an owner: a user, a group and the default read or write")


def _require_free(draft: Draft, label: str) -> None:
    """Return if a user or a group may be called that."""
    if not is_label(label) or ":" in label:
        raise FormatError(
            f"a user or a group is called by 1 to {LABEL_BYTES_MAX} bytes of text that can be printed, "
            "without / and : and without spaces around it"
        )
    people = draft.membership.people
    taken = {
        DEFAULT: "what stands for all that was given nothing",
        GUEST: "the user that guests belong to",
        **{one.name.lower(): "a role" for one in Role},
        INHERIT: "what takes a role away",
        **{one.name: "a device" for one in draft.membership.all_admitted()},
        **dict.fromkeys(people.users(), "a user"),
        **dict.fromkeys(people.groups(), "a group"),
    }
    if label not in taken and not is_free(label):
        raise FormatError(f"the name of a user or a group is {NOT_FREE}")
    if label in taken:
        raise FormatError(f'"{label}" is {taken[label]} already')
