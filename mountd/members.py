"""What the local API asks about the members of a volume: removing, naming, leaving, its root key."""

import os
import shlex
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio
from msgspec.structs import replace

from dittofs.cli.output import counted
from dittofs.clock import system_entropy
from dittofs.control.faults import Refusal
from dittofs.control.paths import path_fields
from dittofs.control.protocol import Unmounted
from dittofs.control.sharing import (
    LeaveRequest,
    LeaveResult,
    RecoveryRequest,
    RecoveryResult,
    RemoveRequest,
    RemoveResult,
    RenameRequest,
    RenameResult,
)
from dittofs.errors import ConfigError, DiskError, FormatError
from dittofs.identity.authoring import NotAllowed
from dittofs.identity.membership import Member
from dittofs.identity.records import Role
from dittofs.identity.root import RootKey
from dittofs.identity.words import WrongWords, check_typed_back, places_to_ask, root_of, words_of
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from mountd.mounting import Mounting
from mountd.outsider import outside
from mountd.parting import take_out
from mountd.past_here import past_only_here
from mountd.syncing import nowhere_else, nowhere_else_now

GOODBYE_S: Final = 10.0
TYPED_BACK: Final = 2
UNCHANGED: Final = "nothing was changed"


class MemberDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node, mounting: Mounting) -> None:
        self._node = node
        self._mounting = mounting

    async def remove(self, request: RemoveRequest) -> RemoveResult:
        """See `Service.remove`."""
        opened = self._node.require_open(request.volume)
        member = another(self._node, opened, request.device, f"dittofs leave {shlex.quote(opened.name)}")
        with told_where(opened, f"devices remove {shlex.quote(member.name)}"):
            invited = await take_out(opened, member, is_forced=request.is_forced)
        return RemoveResult(
            volume=opened.name,
            device=member.name,
            id=member.device.hex(),
            invited=tuple(one.name for one in invited),
        )

    async def rename(self, request: RenameRequest) -> RenameResult:
        """See `Service.rename`."""
        opened = self._node.require_open(request.volume)
        member = find(opened, request.device)
        command = f"devices rename {shlex.quote(member.name)} {shlex.quote(request.name)}"
        with told_where(opened, command):
            try:
                await opened.rename_member(member, request.name)
            except FormatError as error:
                text = f'{error}; "{member.name}" is called that as before'
                raise Refusal("usage", text, "dittofs devices rename --help") from error
        return RenameResult(opened.name, request.name, member.device.hex(), member.name)

    async def leave(self, request: LeaveRequest) -> LeaveResult:
        """See `Service.leave`."""
        place = str(self._node.place(self._node.require_open(request.volume).name))
        return await self._leave(request, place, self._node.forget)

    async def end(self, volume: str) -> tuple[Unmounted, ...]:
        """Leave, and keep nothing: of a volume that was joined for as long as it is mounted.

        Refuses as `leave` does while anything of it may be on this device alone, ignored files too.
        """
        left = await self._leave(LeaveRequest(volume), "", self._erase)
        return tuple(replace(one, has_left=True) for one in left.unmounted)

    async def _erase(self, volume: str) -> None:
        try:
            await self._node.erase(volume)
        except DiskError as error:
            text = f'"{volume}" was left, and some of it stays until the daemon starts again: {error}'
            raise Refusal("failed", text) from error

    async def _leave(
        self, request: LeaveRequest, place: str, give_up: Callable[[str], Awaitable[None]]
    ) -> LeaveResult:
        """Look, unmount, and look again: until it is unmounted, programs add to what is here.

        From then on nothing is added, and from resigning on it runs to its end.
        """
        opened = self._node.require_open(request.volume)
        name, was_member = opened.name, opened.role > Role.NONE
        if request.force:
            unmounted = await self._unmount_all(name, force=True)
            is_resigned = await self._resign_and(give_up, opened)
            return LeaveResult(name, place, is_resigned, unmounted, was_member)
        await self._require_may_leave(opened, UNCHANGED, keeps_all=bool(place))
        unmounted = await self._unmount_all(name, force=False)
        await opened.volume.publisher.drain_all()
        with opened.leaving():
            unchanged = "it was unmounted, and this device is a member as before" if unmounted else UNCHANGED
            await self._require_may_leave(opened, unchanged, keeps_all=bool(place))
            if self._mounting.all_of_volume(name):
                raise Refusal("refused", f'"{name}" was mounted meanwhile; this device is a member as before')
            is_resigned = await self._resign_and(give_up, opened)
        return LeaveResult(name, place, is_resigned, unmounted, was_member)

    async def _unmount_all(self, volume: str, *, force: bool) -> tuple[Unmounted, ...]:
        unmounted = []
        for mount in self._mounting.all_of_volume(volume):
            is_lazy = await self._mounting.unmount(mount, force=force)
            where = path_fields(os.fsencode(mount.path))
            unmounted.append(Unmounted(volume=mount.name, is_lazy=is_lazy, **where))
        return tuple(unmounted)

    async def _resign_and(self, give_up: Callable[[str], Awaitable[None]], opened: SharedVolume) -> bool:
        """Returns whether it resigned: the last owner leaves without."""
        is_resigned = False
        with trio.CancelScope(shield=True):  # who has resigned and keeps the volume has one of no use
            if opened.role > Role.NONE:
                with suppress(NotAllowed):  # it was asked before, or is forced
                    await opened.resign()
                    is_resigned = True
            await give_up(opened.name)
        return is_resigned

    async def _require_may_leave(self, opened: SharedVolume, unchanged: str, *, keeps_all: bool) -> None:
        """Refuse while anything may be on this device alone, or nobody could invite any more.

        With `keeps_all` nothing is removed, so what is ignored stands against nothing.
        """
        if gone := outside(opened):
            raise gone
        await self._require_elsewhere(opened, unchanged)
        try:
            opened.require_another_owner()
        except NotAllowed as error:
            name = shlex.quote(opened.name)
            another = f"dittofs share {name} --role owner   and join with that"
            others = [one for one in opened.membership.members() if one.device != self._node.device_id]
            if who := max(others, key=lambda one: one.role, default=None):
                another = f"dittofs grant {shlex.quote(who.name)} owner {name}"
            mend = (
                f"Make another one an owner:  {another}\nLeave it without one:  dittofs leave --force {name}"
            )
            raise Refusal("refused", f"{error}; {unchanged}", mend) from error
        if not keeps_all and (past := await past_only_here(opened)) is not None:
            text = f"not yet: {past} on this device; {unchanged}"
            name = shlex.quote(opened.name)
            mend = (
                f"Have back what others are to have:  dittofs trash {name}\n"
                f"Keep all of it here, and leave:  dittofs leave {name}"
            )
            raise Refusal("unsent", text, mend)
        self._require_nothing_here(opened, unchanged, keeps_all=keeps_all)

    async def _require_elsewhere(self, opened: SharedVolume, unchanged: str) -> None:
        """Refuse with "unsent" while anything of the volume may be on this device alone."""
        name, peers = shlex.quote(opened.name), opened.peers
        if not peers.others:
            summary = opened.volume.summary()
            files = summary.files + summary.pending_files
            if files:
                text = f'"{opened.name}" is on no other device: with it its {files:,} files would be given up'
                raise Refusal("unsent", text, f"Give them up:  dittofs leave --force {name}")
            return
        _require_none(opened, await nowhere_else(opened), unchanged)
        with trio.move_on_after(GOODBYE_S) as scope:
            await peers.in_step()
        if scope.cancelled_caught or not peers.open_sessions:
            what = "is connected" if not peers.open_sessions else "has confirmed every change"
            text = f"no other device {what}: names changed here might be nowhere else; {unchanged}"
            raise Refusal("unsent", text, _mend(opened))

    def _require_nothing_here(self, opened: SharedVolume, unchanged: str, *, keeps_all: bool) -> None:
        """The same of this very instant. What cannot be published counts, for its bytes are here alone."""
        if opened.peers.others:
            _require_none(opened, nowhere_else_now(opened), unchanged)
        if stuck := len(opened.volume.publisher.stuck):
            _require_none(opened, f"{counted(stuck, 'file')} that cannot be published exist only", unchanged)
        ignored = 0 if keeps_all else opened.volume.ignored_files()
        if ignored:
            are = "is ignored exists" if ignored == 1 else "are ignored exist"
            text = f"not yet: {counted(ignored, 'file')} that {are} only on this device; {unchanged}"
            name = shlex.quote(opened.name)
            mend = f"Remove or copy what is to be kept, or keep all of it:  dittofs leave {name}"
            raise Refusal("unsent", text, mend)

    # -- the volume's own

    async def recovery(self, request: RecoveryRequest) -> RecoveryResult:
        """See `Service.recovery`."""
        opened = self._node.require_open(request.volume)
        if request.words:
            try:
                await opened.take_root(RootKey(root_of(request.words)))
            except (WrongWords, FormatError) as error:
                text = f'{error}; nothing was changed in "{opened.name}"'
                raise Refusal("usage", text, "dittofs recovery --enter") from error
            return RecoveryResult(opened.name, "taken")
        root = opened.secrets.root
        if root is None:
            return RecoveryResult(opened.name, "absent")
        if not request.typed:
            places = places_to_ask(system_entropy)
            return RecoveryResult(opened.name, "here", tuple(words_of(root.secret)), places)
        if len(request.typed) != TYPED_BACK or len(set(request.places)) != TYPED_BACK:
            raise Refusal("usage", "two different words are to be typed back; nothing was erased")
        try:
            check_typed_back(
                root.secret, (request.places[0], request.places[1]), (request.typed[0], request.typed[1])
            )
        except (WrongWords, IndexError) as error:
            raise Refusal("usage", f"{error}; nothing was erased", "dittofs recovery") from error
        await opened.erase_root()
        return RecoveryResult(opened.name, "erased")


def another(node: Node, opened: SharedVolume, text: str, if_this: str) -> Member:
    """The member that is meant. Refusal if there is none, several, or it is this device."""
    member = find(opened, text)
    if member.device == node.device_id:
        raise Refusal("usage", f'"{member.name}" is this very device; {UNCHANGED}', if_this)
    return member


def find(opened: SharedVolume, text: str) -> Member:
    """The member that is meant. Refusal if there is none, or several."""
    try:
        return opened.find_member(text)
    except ConfigError as error:
        mend = f"dittofs devices {shlex.quote(opened.name)} -v"
        raise Refusal("refused", f"{error}; {UNCHANGED}", mend) from error


@contextmanager
def told_where(opened: SharedVolume, command: str) -> Iterator[None]:
    """Refuses ("forbidden") what is not this device's to do, with where `command` can be run."""
    try:
        yield
    except NotAllowed as error:
        name = shlex.quote(opened.name)
        mend = f"Run it on an owner's device:  dittofs {command} {name}"
        if opened.role is Role.OWNER:
            mend = f"Who that is:  dittofs devices {name}"
        raise outside(opened, "forbidden") or Refusal("forbidden", f"{error}; {UNCHANGED}", mend) from error


def _require_none(opened: SharedVolume, alone: str | None, unchanged: str) -> None:
    if alone is not None:
        raise Refusal("unsent", f"not yet: {alone} on this device; {unchanged}", _mend(opened))


def _mend(opened: SharedVolume) -> str:
    name = shlex.quote(opened.name)
    return f"Wait for it:  dittofs sync {name}      Leave all the same:  dittofs leave --force {name}"
