"""What the local API asks about using another device's invitation."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

import trio

from dittofs.address import Address
from dittofs.control.faults import Refusal, refusal_of
from dittofs.control.invitations import read_code, read_signal, read_ticket
from dittofs.control.mountpoint import for_join, inspect, require_fuse
from dittofs.control.options import parse_options
from dittofs.control.paths import path_bytes
from dittofs.control.sharing import (
    JoinItem,
    JoinProgress,
    JoinRequest,
    JoinResult,
    MeetRequest,
    MeetResult,
)
from dittofs.errors import ConfigError, DittoError, FormatError
from dittofs.identity.codes import Code, is_like_code
from dittofs.identity.invitations import PairingRefused, Reason
from dittofs.identity.keys import DeviceId
from dittofs.identity.pairing import Joined
from dittofs.identity.records import Role
from dittofs.identity.tickets import Ticket
from dittofs.links.link import HandshakeRefused, LinkBroken
from dittofs.node import Node
from dittofs.pairing_desk import MEETING_S
from dittofs.replication.finding import NobodyFound, SeveralFound
from dittofs.server_urls import SignalUrl
from dittofs.shared_volume import SharedVolume
from mountd.mounting import Mounting
from mountd.reports import ROLE_NAMES, Reports, names

STEP_S: Final = 0.5
CONNECT_S: Final = 20.0
NAMES_STALL_S: Final = 20.0
"""A join that has got nothing for so long mounts what it has."""
SPENT: Final = "this invitation was used, or its ten minutes are over"
INVITE_THERE: Final = "There:  dittofs share"
_MENDS: Final = {
    Reason.BUSY: "Run the same command again",
    Reason.MALFORMED: "On both:  dittofs version",
    Reason.OWN: "Run the command on the other device",
}
_NOT_REACHED: Final = """\
There:  dittofs share   says the address and the port to use, and waits for this device
Does a firewall there, or a router between, stop TCP port {port}?  There:  dittofs doctor"""
_NOT_HEARD: Final = """\
Is it on another network, or is the code older than ten minutes?  There:  dittofs share
Where devices do not hear each other:  dittofs join HOST:PORT   with the address that `share` shows"""


@dataclass(frozen=True, slots=True)
class _Key:
    """What the person who joins was given."""

    text: str
    code: Code | None = None
    ticket: Ticket | None = None
    address: Address | None = None
    inviter: DeviceId | None = None
    """Who made the invitation; None: whoever shows the code."""
    server: SignalUrl | None = None
    """By way of which signalling server it is to be found too."""


@dataclass(frozen=True, slots=True)
class _Paired:
    """The volume that this device is a member of now."""

    opened: SharedVolume
    inviter: DeviceId | None
    was_member: bool
    note: str = ""
    """Why the invitation was of no use, if it was not needed."""


class Joining:
    """Of one node."""

    def __init__(self, node: Node, mounting: Mounting, reports: Reports) -> None:
        self._node = node
        self._mounting = mounting
        self._reports = reports

    async def meet(self, request: MeetRequest) -> MeetResult:
        """See `Service.meet`."""
        address = _address(request.address)
        try:
            device = await self._node.require_desk().meet(address)
        except HandshakeRefused as error:
            text = f"{address} was reached, and no device with an open invitation is there ({error})"
            raise Refusal("refused", text, INVITE_THERE) from error
        except LinkBroken as error:
            text = f"nobody was reached at {address}: {error}; nothing was changed here"
            raise Refusal("failed", text, _NOT_REACHED.format(port=address.port)) from error
        return MeetResult(str(address), device.hex())

    async def join(self, request: JoinRequest) -> AsyncGenerator[JoinItem, None]:
        """See `Service.join`."""
        place = os.fsdecode(path_bytes(request))
        path = "" if request.is_parent else place
        key = _key(request)
        parse_options(request.options)
        await self._require_place(path, key)
        yield JoinProgress("pairing" if key.code is None or key.address else "looking")
        before = {one.id: one.role for name in self._node.names() if (one := self._node.opened(name))}
        paired = await self._pair(request, path, key)
        opened = paired.opened
        is_complete = False
        begun = trio.current_time()
        heard = (begun, -1)
        connecting_s = MEETING_S if paired.note else CONNECT_S
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
            yield JoinProgress("names" if sessions else "connecting", names(opened), received)
        yield JoinProgress("mounting", names(opened))
        chosen = path or self._place_of(opened, place)
        try:
            done = await self._mounting.mount(chosen, opened.name, request.options)
        except DittoError as error:
            refusal = refusal_of(error)
            text = f'this device is a member of "{opened.name}" now, and it is not mounted: {refusal.message}'
            mend = for_join(refusal, key.text).mend
            raise Refusal(refusal.code, text, mend) from error
        inviter = paired.inviter
        yield JoinResult(
            volume=self._reports.volume(opened.name),
            device=opened.membership.name(DeviceId(self._node.device_id)),
            inviter="" if inviter is None else opened.membership.name(inviter),
            role=ROLE_NAMES[opened.role],
            was_member=paired.was_member,
            was=ROLE_NAMES[before.get(opened.id, Role.NONE)],
            was_mounted=done.was_mounted,
            is_new_directory=done.is_new_directory,
            is_complete=is_complete,
            note=paired.note,
            warnings=done.warnings,
        )

    def _place_of(self, opened: SharedVolume, parent: str) -> str:
        """Where a volume is to be seen when nobody said so."""
        mount = self._mounting.of_volume(opened.name)
        return mount.path if mount is not None else f"{parent.rstrip('/')}/{opened.name}"

    async def _require_place(self, path: str, key: _Key) -> None:
        """Refuse what cannot be mounted on before the invitation is used."""
        mount = self._mounting.at(path)
        if mount is None:
            require_fuse()
            try:
                site = await trio.to_thread.run_sync(inspect, path) if path else None
            except Refusal as refusal:
                raise for_join(refusal, key.text) from refusal
            if site is not None and site.state == "live":
                text = f"{path} is mounted already, by another daemon; the invitation was not used"
                raise Refusal("refused", text, "Choose another directory")
            return
        opened = self._node.opened(mount.name)
        if opened is None or (key.inviter and opened.membership.deciding(key.inviter) is None):
            text = f'{path} shows "{mount.name}", which is not of the inviting device'
            raise Refusal("refused", f"{text}; the invitation was not used", "Choose another directory")

    async def _pair(self, request: JoinRequest, path: str, key: _Key) -> _Paired:
        try:
            joined = await self._joined(request, key)
        except (PairingRefused, LinkBroken, NobodyFound, SeveralFound, ConfigError) as error:
            present = self._present(request, path, key)
            if present is not None:
                note = SPENT if isinstance(error, HandshakeRefused) else str(error)
                return _Paired(present, key.inviter, True, note)
            raise _refusal(error) from error
        except FormatError as error:
            text = (
                f"the device that answered does not follow the protocol ({error}); nothing was changed here"
            )
            raise Refusal("failed", text, "Do both run the same version?  dittofs version") from error
        was_member = self._node.name_of(joined.secrets.volume_id) is not None
        try:
            opened = await self._node.join(
                joined, request.name or joined.name, is_ephemeral=request.is_ephemeral
            )
        except ConfigError as error:
            mend = "Run the same command again with --name NAME: the invitation still lets this device in"
            raise Refusal("refused", f"{error}; nothing was mounted", mend) from error
        if key.server is not None:
            await self._node.use_signal(opened, key.server)
        return _Paired(opened, joined.inviter, was_member)

    async def _joined(self, request: JoinRequest, key: _Key) -> Joined:
        if key.ticket is not None:
            return await self._node.require_desk().join(key.ticket)
        assert key.code is not None
        if key.address is not None:
            inviter = key.inviter or await self._node.require_desk().meet(key.address)
            return await self._node.require_desk().join_at(key.address, inviter, key.code)
        return await self._node.require_desk().join_by_code(key.code, request.timeout_s, key.server)

    def _present(self, request: JoinRequest, path: str, key: _Key) -> SharedVolume | None:
        """The volume that this device joined by way of that device before, if there is one.

        With a code alone nobody knows by way of whom: only what `path` shows, or showed, is meant.
        """
        mount = self._mounting.at(path)
        wanted = request.name or (mount.name if mount is not None else self._node.volume_at(path))
        inviter, own = key.inviter, self._node.device_id
        shared = [
            opened
            for name in self._node.names()
            if (opened := self._node.opened(name)) is not None
            and opened.role >= Role.READER
            and (inviter is None or (inviter != own and opened.membership.deciding(inviter) is not None))
        ]
        named = [opened for opened in shared if opened.name == wanted]
        is_only = len(shared) == 1 and not wanted and inviter is not None
        return named[0] if named else shared[0] if is_only else None


def _key(request: JoinRequest) -> _Key:
    """What the request means. Refuses ("usage") what means nothing."""
    text = request.invitation
    server = read_signal(request.signal) if request.signal else None
    if not is_like_code(text):
        ticket = read_ticket(text)
        return _Key(text, ticket=ticket, inviter=ticket.device, server=server)
    code = read_code(text)
    if not request.address:
        return _Key(text, code, server=server)
    try:
        inviter = DeviceId(bytes.fromhex(request.inviter)) if request.inviter else None
    except ValueError as error:
        raise Refusal("usage", "the inviting device's id is no hexadecimal number") from error
    return _Key(text, code, address=_address(request.address), inviter=inviter, server=server)


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except FormatError as error:
        raise Refusal("usage", str(error), "dittofs join HOST:PORT   or   dittofs join CODE") from error


def _refusal(error: DittoError) -> Refusal:
    """Why nobody was joined, and what to do."""
    unchanged = "; nothing was changed here"
    match error:
        case PairingRefused(reason=reason):
            return Refusal("refused", f"{error}{unchanged}", _MENDS.get(reason, INVITE_THERE))
        case HandshakeRefused():
            text = f"the other device was reached and has no open invitation: {SPENT}"
            return Refusal("refused", f"{text}{unchanged}", INVITE_THERE)
        case NobodyFound():
            return Refusal("not_found", f"{error}{unchanged}", _NOT_HEARD)
        case SeveralFound():
            mend = "Ask for a fresh code ( dittofs share ), and name the device:  dittofs join HOST:PORT"
            return Refusal("refused", f"{error}{unchanged}", mend)
        case ConfigError():
            return Refusal("refused", f"{error}{unchanged}", "By its address:  dittofs join HOST:PORT")
        case _:
            mend = "Are both on one network, and does the other one run?  There:  dittofs status"
            return Refusal("failed", f"{error}{unchanged}", mend)


def _has_all_names(opened: SharedVolume, since: float) -> bool:
    """Whether this device was found to have what a connected one that may write has, not before `since`."""
    return any(
        session.may_write and session.rounds.found_equal_at >= since for session in opened.peers.open_sessions
    )
