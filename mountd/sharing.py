"""What the local API asks about devices that become members of a volume: inviting, joining."""

import os
import shlex
from collections.abc import AsyncGenerator
from typing import Final

import trio

from dittofs.control.faults import Refusal, refusal_of
from dittofs.control.mountpoint import for_join, inspect, require_fuse
from dittofs.control.options import parse_options
from dittofs.control.paths import path_bytes
from dittofs.control.sharing import (
    Invitation,
    JoinItem,
    JoinProgress,
    JoinRequest,
    JoinResult,
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
from dittofs.identity.tickets import BadTicket, Ticket, parse_ticket
from dittofs.links.link import HandshakeRefused, LinkBroken
from dittofs.node import Node
from dittofs.pairing_desk import PairingDesk
from dittofs.shared_volume import SharedVolume
from mountd.mounting import Mounting
from mountd.outsider import outside
from mountd.reports import ROLE_NAMES, Reports

STEP_S: Final = 0.5
WAITING_S: Final = 1.0
MEETING_S: Final = 5.0  # for the session that follows on pairing
CONNECT_S: Final = 20.0
NAMES_STALL_S: Final = 20.0
"""A join that has got nothing for so long mounts what it has."""
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


def _has_all_names(opened: SharedVolume, since: float) -> bool:
    """Whether this device was found to have what a connected one that may write has, not before `since`."""
    return any(
        session.may_write and session.rounds.found_equal_at >= since for session in opened.peers.open_sessions
    )


def _names(opened: SharedVolume) -> int:
    counts = opened.volume.replica.tree.counts()
    return counts.files + counts.directories
