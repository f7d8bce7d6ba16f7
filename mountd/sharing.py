"""What the local API asks about inviting another device to a volume."""

import shlex
from collections.abc import AsyncGenerator
from typing import Final

import trio

from dittofs.control.faults import Refusal
from dittofs.control.invitations import read_signal
from dittofs.control.sharing import Invitation, ShareEnded, ShareItem, ShareRequest, ShareWaiting
from dittofs.errors import ConfigError
from dittofs.identity.authoring import NotAllowed
from dittofs.identity.people import GUEST
from dittofs.identity.records import Role
from dittofs.identity.tickets import format_ticket
from dittofs.identity.users import DEFAULT, require_user
from dittofs.node import Node
from dittofs.pairing_desk import MEETING_S
from mountd.members import UNCHANGED
from mountd.outsider import outside
from mountd.reports import ROLE_NAMES, names

WAITING_S: Final = 1.0
SERVER_LOST: Final = "the signalling server is not reached: the code works on this network alone"


class Sharing:
    """Of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def share(self, request: ShareRequest) -> AsyncGenerator[ShareItem, None]:
        """See `Service.share`."""
        opened = self._node.require_open(request.volume)
        if (request.role, request.user) == ("owner", GUEST):
            text = f"a guest is no owner: who is one can take others out; {UNCHANGED}"
            raise Refusal("usage", text, "dittofs share --guest   or   dittofs share --role owner")
        if request.bind or request.port >= 0:
            assert self._node.network is not None
            try:
                self._node.network.choose(request.bind or None, request.port if request.port >= 0 else None)
            except ConfigError as error:
                mend = "dittofs daemon --stop, then run this again; for always: [network] in config.toml"
                raise Refusal("refused", str(error), mend) from error
        if request.signal:
            await self._node.use_signal(opened, read_signal(request.signal))
        if request.user:
            try:
                require_user(opened.membership, request.user)
            except ConfigError as error:
                mend = f"dittofs user add {shlex.quote(request.user)} --volume {shlex.quote(opened.name)}"
                raise Refusal("not_found", f"{error}; {UNCHANGED}", mend) from error
        before = {member.device: member.role for member in opened.membership.members()}
        try:
            share = await self._node.require_desk().share(
                opened, Role[request.role.upper()] if request.role else None, request.user
            )
        except NotAllowed as error:
            name, whom = shlex.quote(opened.name), shlex.quote(request.user or DEFAULT)
            mend = f"Run it on an owner's device:  dittofs share {name}"
            if opened.role is Role.OWNER:  # whom it would let in may do nothing
                mend = f"dittofs grant {whom} reader {name}"
            raise outside(opened, "forbidden") or Refusal("forbidden", str(error), mend) from error
        ticket = format_ticket(share.ticket) if share.ticket.addresses else ""
        by_ticket = f"dittofs join {shlex.quote(ticket)}" if ticket else ""
        by_code = f"dittofs join {share.code}"
        if share.server is not None:
            by_code += f" --signal {share.server}"
        assert self._node.network is not None
        is_heard = self._node.network.uses_mdns or share.server is not None or not ticket
        yield Invitation(
            volume=opened.name,
            role=ROLE_NAMES[share.role],
            code=str(share.code),
            command=by_code if is_heard else by_ticket,
            ticket=ticket,
            ticket_command=by_ticket,
            addresses=share.ticket.addresses,
            id=share.ticket.device.hex(),
            expires_in_s=share.expires_in_s,
            signal="" if share.server is None else str(share.server),
            warning=SERVER_LOST if share.is_server_lost else "",
            user=request.user,
        )
        while True:
            with trio.move_on_after(WAITING_S) as scope:
                await self._node.require_desk().wait(share)
            if not scope.cancelled_caught:
                break
            yield ShareWaiting(max(0.0, share.invitation.expires_at - trio.current_time()))
        if share.refused:
            yield ShareEnded("refused", reason=share.refused)
            return
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
            names=names(opened),
            user=opened.membership.people.user_of(device),
        )
