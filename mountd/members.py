"""What the local API asks about the members of a volume: removing, leaving, its root key, how many copies."""

import os
import shlex
import shutil
from functools import partial
from typing import Final

import trio
from msgspec.structs import replace

from dittofs.clock import system_entropy
from dittofs.control.faults import Refusal
from dittofs.control.paths import path_fields
from dittofs.control.protocol import Unmounted
from dittofs.control.sharing import (
    CopiesRequest,
    CopiesResult,
    LeaveRequest,
    LeaveResult,
    RecoveryRequest,
    RecoveryResult,
    RemoveRequest,
    RemoveResult,
)
from dittofs.errors import ConfigError, FormatError
from dittofs.identity.authoring import NotAllowed
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.identity.root import RootKey
from dittofs.identity.words import WrongWords, check_typed_back, places_to_ask, root_of, words_of
from dittofs.node import Node
from dittofs.replication.policy import Policy
from dittofs.shared_volume import SharedVolume
from mountd.mounting import Mounting
from mountd.outsider import outside
from mountd.reports import ROLE_NAMES
from mountd.syncing import only_here

GOODBYE_S: Final = 10.0
TYPED_BACK: Final = 2


class MemberDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node, mounting: Mounting) -> None:
        self._node = node
        self._mounting = mounting

    async def remove(self, request: RemoveRequest) -> RemoveResult:
        """See `Service.remove`."""
        opened = self._node.require_open(request.volume)
        try:
            member = opened.find_member(request.device)
        except ConfigError as error:
            mend = f"dittofs devices {shlex.quote(opened.name)} -v"
            raise Refusal("refused", f"{error}; nothing was changed", mend) from error
        if member.device == self._node.device_id:
            text = f'"{member.name}" is this very device; nothing was changed'
            raise Refusal("usage", text, f"dittofs leave {shlex.quote(opened.name)}")
        invited = await opened.remove_member(DeviceId(member.device))
        return RemoveResult(
            volume=opened.name,
            device=member.name,
            id=member.device.hex(),
            invited=tuple(one.name for one in invited),
        )

    async def leave(self, request: LeaveRequest) -> LeaveResult:
        """See `Service.leave`. Runs to its end."""
        with trio.CancelScope(shield=True):
            return await self._leave(request)
        raise AssertionError("a shielded scope is not left early")

    async def _leave(self, request: LeaveRequest) -> LeaveResult:
        opened = self._node.require_open(request.volume)
        name = shlex.quote(opened.name)
        was_member = opened.role > Role.NONE
        if not request.force:
            if gone := outside(opened):
                raise gone
            await self._require_elsewhere(opened)
            try:
                opened.require_another_owner()
            except NotAllowed as error:
                mend = (
                    f"Make another one an owner:  dittofs share {name} --role owner   and join with that\n"
                    f"Leave it without one:  dittofs leave --force {name}"
                )
                raise Refusal("refused", f"{error}; nothing was changed", mend) from error
        unmounted = []
        for mount in self._mounting.all_of_volume(opened.name):
            is_lazy = await self._mounting.unmount(mount, force=request.force)
            where = path_fields(os.fsencode(mount.path))
            unmounted.append(Unmounted(volume=mount.name, is_lazy=is_lazy, **where))
        is_resigned = False
        if opened.role > Role.NONE:
            try:
                await opened.resign()
                is_resigned = True
            except NotAllowed:
                assert request.force, "it was asked before"
        place = str(self._node.place(opened.name))
        await self._node.forget(opened.name)
        return LeaveResult(opened.name, place, is_resigned, tuple(unmounted), was_member)

    async def end(self, volume: str) -> tuple[Unmounted, ...]:
        """Leave, and keep nothing: of a volume that was joined for as long as it is mounted.

        Refuses as `leave` does while anything of it may be on this device alone.
        """
        with trio.CancelScope(shield=True):
            left = await self._leave(LeaveRequest(volume))
            try:
                await trio.to_thread.run_sync(shutil.rmtree, left.place)
            except OSError as error:
                text = f'"{volume}" was left, and some of it stays in {left.place}: {error.strerror}'
                raise Refusal("failed", text) from error
        return tuple(replace(one, has_left=True) for one in left.unmounted)

    async def _require_elsewhere(self, opened: SharedVolume) -> None:
        """Refuse with "unsent" while anything of the volume may be on this device alone."""
        name, peers = shlex.quote(opened.name), opened.peers
        mend = f"Wait for it:  dittofs sync {name}      Leave all the same:  dittofs leave --force {name}"
        if not peers.others:
            summary = opened.volume.summary()
            files = summary.files + summary.pending_files
            if files:
                text = f'"{opened.name}" is on no other device: with it its {files:,} files would be given up'
                raise Refusal("unsent", text, f"Give them up:  dittofs leave --force {name}")
            return
        alone = await only_here(opened)
        tally = peers.custody.tally()
        if alone is None and tally.only_here:
            alone = f"{tally.only_here:,} files exist only"
        if alone is not None:
            raise Refusal("unsent", f"not yet: {alone} on this device; nothing was changed", mend)
        with trio.move_on_after(GOODBYE_S) as scope:
            await peers.in_step()
        if scope.cancelled_caught or not peers.open_sessions:
            what = "is connected" if not peers.open_sessions else "has confirmed every change"
            text = f"no other device {what}: names changed here might be nowhere else; nothing was changed"
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

    async def copies(self, request: CopiesRequest) -> CopiesResult:
        """See `Service.copies`."""
        opened = self._node.require_open(request.volume)
        show = partial(CopiesResult, opened.name, devices=1 + len(opened.peers.others))
        was = str(opened.copies)
        if not request.copies:
            return show(was)
        try:
            policy = Policy.parse(request.copies)
        except FormatError as error:
            raise Refusal("usage", f"{error}; it is {was} as before") from error
        if gone := outside(opened, "forbidden"):
            raise gone
        if opened.role < Role.WRITER:
            who = f"this device is a {ROLE_NAMES[opened.role]}; it is {was} as before"
            text = f"only writers and owners change how many copies there are, and {who}"
            raise Refusal("forbidden", text, "Run it on one of them:  dittofs devices")
        opened.set_copies(policy)
        await trio.lowlevel.checkpoint()
        return show(str(policy), was=was)
