"""What the local API asks about users, groups and roles."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, cast

from dittofs.cli.guess import did_you_mean
from dittofs.control.faults import Refusal
from dittofs.control.people import (
    GrantRequest,
    GrantResult,
    GroupRequest,
    GroupStatus,
    PeopleReport,
    PeopleRequest,
    PeopleResult,
    RoleChange,
    RoleWord,
    UserRequest,
    UserStatus,
)
from dittofs.control.protocol import MemberStatus
from dittofs.errors import ConfigError, FormatError
from dittofs.identity import users
from dittofs.identity.authoring import Draft
from dittofs.identity.keys import DeviceId
from dittofs.identity.lookup import is_id
from dittofs.identity.membership import Member
from dittofs.identity.people import GUEST
from dittofs.identity.records import Role
from dittofs.identity.users import DEFAULT, own_role
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from mountd.members import UNCHANGED, another, find, told_where
from mountd.parting import decide, take_out
from mountd.reports import ROLE_NAMES, Reports

Kind = Literal["device", "user", "group", "default"]


class PeopleDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node, reports: Reports) -> None:
        self._node = node
        self._reports = reports

    def people(self, request: PeopleRequest) -> PeopleReport:
        """See `Service.people`."""
        opened = self._node.require_open(request.volume)
        people = opened.membership.people
        devices = {bytes.fromhex(one.id): one for one in self._reports.members(opened)}
        return PeopleReport(
            opened.name,
            tuple(_user_status(opened, user, devices) for user in people.users()),
            tuple(_group_status(opened, group) for group in people.groups()),
            default=ROLE_NAMES[people.default],
            guest=ROLE_NAMES[people.of_user(GUEST).role],
        )

    async def grant(self, request: GrantRequest) -> GrantResult:
        """See `Service.grant`."""
        opened = self._node.require_open(request.volume)
        kind, name = subject_of(opened, request.name)
        role = None if request.role == "inherit" else Role[request.role.upper()]
        people, before = opened.membership.people, _roles(opened)
        verb = "revoke" if role is Role.NONE else "grant"
        command = f"{verb} {shlex.quote(request.name)}{'' if role is Role.NONE else ' ' + request.role}"
        kept: tuple[str, ...] = ()
        owners: tuple[str, ...] = ()
        is_forced = request.is_forced
        with refused(opened, command):
            match kind:
                case "device":
                    return await self._grant_device(opened, name, role, command, is_forced=is_forced)
                case "user":
                    was = people.given(user=name)
                    await decide(
                        opened, lambda draft: users.give_user(draft, name, role), is_forced=is_forced
                    )
                    kept, owners = _kept(opened, name), _owners(opened, name)
                case "group":
                    was = people.given(group=name)
                    await decide(
                        opened, lambda draft: users.give_group(draft, name, role), is_forced=is_forced
                    )
                case _:
                    was = people.given()
                    await decide(opened, lambda draft: users.give_default(draft, role), is_forced=is_forced)
        people = opened.membership.people
        may = people.of_user(name).role if kind == "user" else role or Role.NONE
        return GrantResult(
            opened.name,
            name,
            kind,
            request.role,
            _word(was),
            ROLE_NAMES[people.default if kind == "default" else may],
            changed=_changes(opened, before),
            kept=kept,
            owners=owners,
            by_group=people.of_user(name).group if kind == "user" else "",
        )

    async def _grant_device(
        self, opened: SharedVolume, name: str, role: Role | None, command: str, *, is_forced: bool
    ) -> GrantResult:
        mend = (
            f"dittofs leave {shlex.quote(opened.name)}"
            if role is Role.NONE
            else "Another owner can give it another role"
        )
        member = another(self._node, opened, name, mend)
        before, was = _roles(opened), own_role(opened.membership, member.device)
        invited: list[Member] = []
        with told_where(opened, command):
            if role is Role.NONE:
                invited = await take_out(opened, member, is_forced=is_forced)
            else:
                write = partial(users.give_device, device=member.device, role=role)
                await decide(opened, write, is_forced=is_forced)
        return GrantResult(
            opened.name,
            member.name,
            "device",
            _word(role),
            _word(was),
            ROLE_NAMES[opened.membership.role(member.device)],
            member.device.hex(),
            _changes(opened, before),
            invited=tuple(one.name for one in invited),
        )

    async def user(self, request: UserRequest) -> PeopleResult:
        """See `Service.user`."""
        opened = self._node.require_open(request.volume)
        if (request.action, request.name) == ("add", GUEST) and not (request.devices or request.role):
            name = shlex.quote(opened.name)
            raise Refusal("usage", f"guests need no adding; {UNCHANGED}", f"dittofs share --guest {name}")
        devices = [find(opened, text).device for text in request.devices]
        role = Role[request.role.upper()] if request.role else None

        def write(draft: Draft) -> None:
            match request.action:
                case "add":
                    users.add_user(draft, request.name, devices, role)
                case "leave":
                    users.take_from_user(draft, request.name, devices)
                case "remove":
                    users.remove_user(draft, request.name)

        words = [*(["--role", request.role] if request.role else []), request.name, *request.devices]
        return await self._decide(opened, "user", request, words, write)

    async def group(self, request: GroupRequest) -> PeopleResult:
        """See `Service.group`."""
        opened = self._node.require_open(request.volume)
        role = Role[request.role.upper()] if request.role else None

        def write(draft: Draft) -> None:
            match request.action:
                case "add":
                    users.add_group(draft, request.name, request.users, role)
                case "join":
                    users.join_group(draft, request.name, request.users)
                case "leave":
                    users.leave_group(draft, request.name, request.users)
                case "remove":
                    users.remove_group(draft, request.name)

        words = [*(["--role", request.role] if request.role else []), request.name, *request.users]
        return await self._decide(opened, "group", request, words, write)

    async def _decide(
        self,
        opened: SharedVolume,
        verb: str,
        request: UserRequest | GroupRequest,
        words: list[str],
        write: Callable[[Draft], None],
    ) -> PeopleResult:
        name, before, known = request.name, _roles(opened), _known(opened, verb)
        digest = opened.membership.digest()
        with refused(opened, shlex.join([verb, request.action, *words, "--volume"])):
            await decide(opened, write, is_forced=request.is_forced)
        is_there = name in _known(opened, verb)
        devices = {bytes.fromhex(one.id): one for one in self._reports.members(opened)}
        is_user = verb == "user"
        return PeopleResult(
            opened.name,
            name,
            is_new=is_there and name not in known and name != GUEST,
            is_changed=opened.membership.digest() != digest,
            user=_user_status(opened, name, devices) if is_there and is_user else None,
            group=_group_status(opened, name) if is_there and not is_user else None,
            changed=_changes(opened, before),
            kept=_kept(opened, name) if is_user else (),
            owners=_owners(opened, name) if is_user else (),
        )


def subject_of(opened: SharedVolume, text: str) -> tuple[Kind, str]:
    """What kind of thing `text` names, and its name. Refusal if nothing is called so, or several kinds."""
    people, found = opened.membership.people, _kinds(opened, text)
    match text.partition(":"):
        case (("device" | "user" | "group") as prefix, ":", rest):
            stands: tuple[Kind, str] | None = cast(Kind, prefix), rest
        case _:
            stands = ("default", "") if text == DEFAULT else None
    if stands is not None:
        if found:
            raise _two_meanings(opened, text, found)
        return stands
    if len(found) == 1:
        return found[0], text
    if found:
        which = "  or  ".join(shlex.quote(f"{kind}:{text}") for kind in found)
        what = " and ".join(f"a {kind}" for kind in found)
        raise Refusal("usage", f'"{text}" is {what}; {UNCHANGED}', f"Say which:  {which}")
    devices = opened.membership.all_admitted()
    names = [*(one.name for one in devices), *people.users(), *people.groups()]
    there = f"devices: {', '.join(one.name for one in devices)}"
    there += "".join(
        f"; {kind}: {', '.join(known)}"
        for kind, known in (("users", people.users()), ("groups", people.groups()))
        if known
    )
    raise Refusal(
        "not_found",
        f'no device, user or group of "{opened.name}" is called {text!r}; there are {there}'
        f"{did_you_mean(text, names)}; {UNCHANGED}",
        f"dittofs devices {shlex.quote(opened.name)}",
    )


def _kinds(opened: SharedVolume, text: str) -> list[Kind]:
    """What may be meant by `text`, where it stands for nothing else."""
    people, found = opened.membership.people, list[Kind]()
    if opened.membership.called(text):
        found.append("device")
        if is_id(text.lower()):
            return found
    if text in (*people.users(), GUEST):
        found.append("user")
    if text in people.groups():
        found.append("group")
    return found


def _two_meanings(opened: SharedVolume, text: str, found: list[Kind]) -> Refusal:
    """Of who is called what stands for something else: whoever that is gets another name first."""
    membership = opened.membership
    ids = [membership.names().digits(one.device.hex()) for one in membership.called(text)]
    what = " and ".join(f"a {kind}" for kind in found)
    who = f" ({', '.join(ids)})" if ids else ""
    mend = f"dittofs devices rename {ids[0]} NEW {shlex.quote(opened.name)}" if ids else "dittofs user --help"
    if text == DEFAULT:
        mend = f"Say which:  {shlex.quote(f'{found[0]}:{text}')}\nTo mean the other:  {mend}"
    else:
        mend = f"Call it otherwise:  {mend}"
    return Refusal("usage", f'"{text}" is what {what}{who} is called, too; {UNCHANGED}', mend)


@contextmanager
def refused(opened: SharedVolume, command: str) -> Iterator[None]:
    """Refuses what is not there, is no name, or is not this device's to say."""
    with told_where(opened, command):
        try:
            yield
        except ConfigError as error:
            mend = f"dittofs user list --volume {shlex.quote(opened.name)}"
            raise Refusal("not_found", f"{error}; {UNCHANGED}", mend) from error
        except FormatError as error:
            raise Refusal("usage", f"{error}; {UNCHANGED}", f"dittofs {command.split()[0]} --help") from error


def _word(role: Role | None) -> RoleWord:
    return "inherit" if role is None else ROLE_NAMES[role]


def _known(opened: SharedVolume, verb: str) -> list[str]:
    people = opened.membership.people
    return people.users() if verb == "user" else people.groups()


def _roles(opened: SharedVolume) -> dict[bytes, Member]:
    return {one.device: one for one in opened.membership.all_admitted()}


def _changes(opened: SharedVolume, before: dict[bytes, Member]) -> tuple[RoleChange, ...]:
    """The devices whose role is another one now, by name."""
    return tuple(
        RoleChange(was.name, device.hex(), ROLE_NAMES[role], ROLE_NAMES[was.role])
        for device, was in before.items()
        if (role := opened.membership.role(DeviceId(device))) != was.role
    )


def _kept(opened: SharedVolume, user: str) -> tuple[str, ...]:
    membership = opened.membership
    return tuple(
        one.name
        for one in membership.all_admitted()
        if membership.people.user_of(one.device) == user
        and own_role(membership, one.device) not in (None, Role.OWNER)
        and one.role != membership.people.of_user(user).role
    )


def _owners(opened: SharedVolume, user: str) -> tuple[str, ...]:
    owners = opened.membership.owners()
    return tuple(one.name for one in owners if opened.membership.people.user_of(one.device) == user)


def _user_status(opened: SharedVolume, user: str, devices: dict[bytes, MemberStatus]) -> UserStatus:
    people = opened.membership.people
    standing = people.of_user(user)
    mine = [devices[one] for one in people.devices_of(user) if one in devices]
    return UserStatus(
        user,
        _word(people.given(user=user)),
        ROLE_NAMES[standing.role],
        by=standing.by.name.lower(),
        by_group=standing.group,
        groups=tuple(people.groups_of(user)),
        devices=tuple(sorted(one.name for one in mine)),
        is_online=any(one.is_online for one in mine),
        last_seen_ns=max((one.last_seen_ns for one in mine), default=0),
    )


def _group_status(opened: SharedVolume, group: str) -> GroupStatus:
    people = opened.membership.people
    return GroupStatus(group, _word(people.given(group=group)), tuple(people.users_in(group)))
