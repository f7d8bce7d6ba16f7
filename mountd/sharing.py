"""What the local API asks about the other devices of a volume: inviting, joining, removing, leaving."""

import os
import shlex
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import trio

from dittofs.clock import system_entropy
from dittofs.control.faults import Refusal, refusal_of
from dittofs.control.mountpoint import for_join, inspect, require_fuse
from dittofs.control.options import parse_options
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.protocol import Unmounted
from dittofs.control.sharing import (
    CopiesRequest,
    CopiesResult,
    Invitation,
    JoinItem,
    JoinProgress,
    JoinRequest,
    JoinResult,
    LeaveRequest,
    LeaveResult,
    RecoveryRequest,
    RecoveryResult,
    RemoveRequest,
    RemoveResult,
    ShareEnded,
    ShareItem,
    ShareRequest,
    ShareWaiting,
)
from dittofs.errors import ConfigError, DittoError, FormatError
from dittofs.identity.authoring import NotAllowed
from dittofs.identity.invitations import PairingRefused, Reason
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.identity.root import RootKey
from dittofs.identity.tickets import BadTicket, Ticket, parse_ticket
from dittofs.identity.words import WrongWords, check_typed_back, places_to_ask, root_of, words_of
from dittofs.links.link import HandshakeRefused, LinkBroken
from dittofs.node import Node
from dittofs.pairing_desk import PairingDesk
from dittofs.replication.policy import Policy
from dittofs.shared_volume import SharedVolume
from mountd.membership import outside
from mountd.mounting import Mounting
from mountd.reports import ROLE_NAMES, Reports
from mountd.syncing import only_here

STEP_S: Final = 0.5
WAITING_S: Final = 1.0
MEETING_S: Final = 5.0  # for the session that follows on pairing
CONNECT_S: Final = 20.0
NAMES_STALL_S: Final = 20.0
"""A join that has got nothing for so long mounts what it has."""
GOODBYE_S: Final = 10.0
TYPED_BACK: Final = 2
SPENT: Final = "this ticket was used, or its ten minutes are over"
INVITE_THERE: Final = "There:  dittofs share"
_MENDS: Final = {
    Reason.UNKNOWN: INVITE_THERE,
    Reason.USED: INVITE_THERE,
    Reason.LATE: INVITE_THERE,
    Reason.BURNT: INVITE_THERE,
    Reason.BUSY: "Run the same command again",
    Reason.MALFORMED: "On both:  dittofs version",
    Reason.OWN: "Run the command on the other device",
}


class Sharing:
    """Of one node."""

    def __init__(self, node: Node, mounting: Mounting, reports: Reports) -> None:
        self._node = node
        self._mounting = mounting
        self._reports = reports

    @property
    def _desk(self) -> PairingDesk:
        assert self._node.desk is not None
        return self._node.desk

    # -- inviting

    async def share(self, request: ShareRequest) -> AsyncGenerator[ShareItem, None]:
        """See `Service.share`."""
        opened = self._node.require_open(request.volume)
        if request.bind or request.port >= 0:
            assert self._node.network is not None
            try:
                self._node.network.choose(request.bind or None, request.port if request.port >= 0 else None)
            except ConfigError as error:
                mend = "dittofs daemon --stop, then run this again; for always: [network] in config.toml"
                raise Refusal("refused", str(error), mend) from error
        before = {member.device: member.role for member in opened.membership.members()}
        try:
            share = await self._desk.share(opened, Role[request.role.upper()])
        except NotAllowed as error:
            mend = f"Run it on an owner's device:  dittofs share {shlex.quote(opened.name)}"
            raise outside(opened, "forbidden") or Refusal("forbidden", str(error), mend) from error
        yield Invitation(
            volume=opened.name,
            role=request.role,
            ticket=share.ticket,
            command=f"dittofs join {shlex.quote(share.ticket)} ~/{shlex.quote(opened.name)}",
            addresses=parse_ticket(share.ticket).addresses,
            expires_in_s=share.expires_in_s,
        )
        while True:
            with trio.move_on_after(WAITING_S) as scope:
                await self._desk.wait(share)
            if not scope.cancelled_caught:
                break
            yield ShareWaiting(max(0.0, share.invitation.expires_at - trio.current_time()))
        if share.joined is None:
            yield ShareEnded("burnt" if share.is_burnt else "late")
            return
        device = share.joined.publics.device
        with trio.move_on_after(MEETING_S):
            while opened.peers.session(device) is None:
                await opened.peers.changed.wait()
        session = opened.peers.session(device)
        yield ShareEnded(
            "joined",
            name=opened.membership.name(device),
            id=device.hex(),
            role=ROLE_NAMES[opened.membership.role(device)],
            was=ROLE_NAMES[before.get(device, Role.NONE)],
            path="" if session is None else session.link.description,
            names=_names(opened),
        )

    # -- joining

    async def join(self, request: JoinRequest) -> AsyncGenerator[JoinItem, None]:
        """See `Service.join`."""
        path = os.fsdecode(path_bytes(request))
        try:
            ticket = parse_ticket(request.ticket)
        except BadTicket as error:
            mend = "Copy the whole command that `dittofs share` printed, quotes too"
            raise Refusal("usage", f"{error}; nothing was done", mend) from error
        parse_options(request.options)
        await self._require_place(request, path, ticket)
        yield JoinProgress("pairing")
        before = {one.id: one.role for name in self._node.names() if (one := self._node.opened(name))}
        opened, was_member, note = await self._pair(request, path, ticket)
        is_complete = False
        begun = trio.current_time()
        heard = (begun, -1)
        connecting_s = MEETING_S if note else CONNECT_S
        while trio.current_time() - heard[0] < (NAMES_STALL_S if heard[1] > 0 else connecting_s):
            sessions = opened.peers.open_sessions
            with trio.move_on_after(STEP_S):
                changed = opened.peers.changed
                await opened.peers.in_step(begun)
                if not (is_complete := _has_all_names(opened, begun)):
                    await changed.wait()
            if is_complete:
                break
            received = sum(session.bytes_received for session in opened.peers.open_sessions)
            if received > heard[1]:
                heard = trio.current_time(), received
            yield JoinProgress("names" if sessions else "connecting", _names(opened), received)
        yield JoinProgress("mounting", _names(opened))
        try:
            done = await self._mounting.mount(path, opened.name, request.options)
        except DittoError as error:
            refusal = refusal_of(error)
            text = f'this device is a member of "{opened.name}" now, and it is not mounted: {refusal.message}'
            mend = for_join(refusal, request.ticket).mend
            raise Refusal(refusal.code, text, mend) from error
        yield JoinResult(
            volume=self._reports.volume(opened.name),
            device=opened.membership.name(DeviceId(self._node.device_id)),
            inviter=opened.membership.name(ticket.device),
            role=ROLE_NAMES[opened.role],
            was_member=was_member,
            was=ROLE_NAMES[before.get(opened.id, Role.NONE)],
            was_mounted=done.was_mounted,
            is_new_directory=done.is_new_directory,
            is_complete=is_complete,
            note=note,
            warnings=done.warnings,
        )

    async def _require_place(self, request: JoinRequest, path: str, ticket: Ticket) -> None:
        """Refuse what cannot be mounted on before the ticket is used."""
        mount = self._mounting.at(path)
        if mount is None:
            require_fuse()
            try:
                site = await trio.to_thread.run_sync(inspect, path)
            except Refusal as refusal:
                raise for_join(refusal, request.ticket) from refusal
            if site.state == "live":
                text = f"{path} is mounted already, by another daemon; the ticket was not used"
                raise Refusal("refused", text, "Choose another directory")
            return
        opened = self._node.opened(mount.name)
        if opened is None or opened.membership.deciding(ticket.device) is None:
            raise Refusal(
                "refused",
                f'{path} shows "{mount.name}", which is not of the inviting device; the ticket was not used',
                "Choose another directory",
            )

    async def _pair(self, request: JoinRequest, path: str, ticket: Ticket) -> tuple[SharedVolume, bool, str]:
        """The volume, whether it was here before, and why the ticket was of no use if it was not needed."""
        try:
            joined = await self._desk.join(request.ticket)
        except (PairingRefused, LinkBroken) as error:
            is_closed = isinstance(error, HandshakeRefused)
            present = self._present(request, path, ticket)
            if present is not None:
                return present, True, SPENT if is_closed else str(error)
            if isinstance(error, PairingRefused):
                mend = _MENDS.get(error.reason, "")
                raise Refusal("refused", f"{error}; nothing was changed here", mend) from error
            if is_closed:
                text = f"the other device was reached and has no open invitation: {SPENT}"
                raise Refusal("refused", f"{text}; nothing was changed here", INVITE_THERE) from error
            mend = "Are both on one network, and does the other one run?  There:  dittofs status"
            raise Refusal("failed", f"{error}; nothing was changed here", mend) from error
        except FormatError as error:
            text = (
                f"the device that answered does not follow the protocol ({error}); nothing was changed here"
            )
            raise Refusal("failed", text, "Do both run the same version?  dittofs version") from error
        was_member = self._node.name_of(joined.secrets.volume_id) is not None
        try:
            opened = await self._node.join(joined, request.name or joined.name)
        except ConfigError as error:
            mend = "Run the same command again with --name NAME: the ticket still lets this device in"
            raise Refusal("refused", f"{error}; nothing was mounted", mend) from error
        return opened, was_member, ""

    def _present(self, request: JoinRequest, path: str, ticket: Ticket) -> SharedVolume | None:
        """The volume that this device joined by way of that device before, if there is one."""
        mount = self._mounting.at(path)
        wanted = request.name or (mount.name if mount is not None else self._node.volume_at(path))
        shared = [
            opened
            for name in self._node.names()
            if (opened := self._node.opened(name)) is not None
            and opened.role >= Role.READER
            and opened.membership.deciding(ticket.device) is not None
            and ticket.device != self._node.device_id
        ]
        named = [opened for opened in shared if opened.name == wanted]
        return named[0] if named else shared[0] if len(shared) == 1 and not wanted else None

    # -- members

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


def _has_all_names(opened: SharedVolume, since: float) -> bool:
    """Whether this device was found to have what a connected one that may write has, not before `since`."""
    return any(
        session.may_write and session.rounds.found_equal_at >= since for session in opened.peers.open_sessions
    )


def _names(opened: SharedVolume) -> int:
    counts = opened.volume.replica.tree.counts()
    return counts.files + counts.directories
