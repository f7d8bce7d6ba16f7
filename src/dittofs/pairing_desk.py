"""Where devices are invited and join: codes and tickets out, strangers in, one member more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
import trio

from dittofs.address import Address
from dittofs.clock import Entropy
from dittofs.discovery.beacon import State
from dittofs.errors import ConfigError, DittoError
from dittofs.identity.authoring import NotAllowed, require_owner
from dittofs.identity.codes import Code, slot_name
from dittofs.identity.invitations import PATIENCE_S, Invitation, Invitations, PairingRefused, Reason
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.membership import Membership
from dittofs.identity.pairing import Admission, Joined
from dittofs.identity.records import Role
from dittofs.identity.tickets import ADDRESSES_MAX, Ticket
from dittofs.identity.users import require_user
from dittofs.ids import VolumeId
from dittofs.links.link import Link
from dittofs.replication import pairing
from dittofs.replication.finding import Caller, LookFor, join_by_code
from dittofs.replication.meeting import Hear
from dittofs.replication.network import Network
from dittofs.server_urls import SignalUrl
from dittofs.shared_volume import SharedVolume

log = structlog.get_logger()

LISTENING_S: Final = 10.0
TAKEN_S: Final = 0.15
"""A device on this network that has given out the same number answers sooner."""
DRAWS_MAX: Final = 3
MEETING_S: Final = 5.0
"""So long who has paired waits for the session that follows."""


@dataclass(slots=True, eq=False)
class Share:
    """An open invitation, and what becomes of it."""

    code: Code
    ticket: Ticket
    role: Role
    """What who comes may do, as things are."""
    volume: str
    expires_in_s: float
    invitation: Invitation = field(repr=False)
    ended: trio.Event = field(default_factory=trio.Event)
    joined: Admission | None = None
    """Who came; None when it ended in another way."""
    is_burnt: bool = False
    refused: str = ""
    """Why who used it could not be let in."""
    server: SignalUrl | None = None
    """By way of which signalling server the code works too."""
    is_server_lost: bool = False
    """There is one, and it is not reached, or has no free number."""


class PairingDesk:
    """One per device."""

    def __init__(
        self,
        device: Device,
        network: Network,
        *,
        entropy: Entropy,
        label: str,
        find: Callable[[VolumeId], SharedVolume | None],
        nursery: trio.Nursery,
    ) -> None:
        self._device = device
        self._network = network
        self._entropy = entropy
        self._label = label
        self._find = find
        self._nursery = nursery
        self._invitations = Invitations()
        self._shares: list[Share] = []
        network.meeting.state = self._state
        network.meeting.slots = self._slots
        network.switchboard.slots = self._slots_at

    async def share(self, volume: SharedVolume, role: Role | None, user: str = "") -> Share:
        """Open an invitation. NotAllowed unless this device is an owner, ConfigError if nobody can come.

        `role` and `user` are as of an `Invitation`.
        """
        require_owner(volume.membership, self._device.id)
        if user:
            require_user(volume.membership, user)
        given = volume.membership.people.would(role, user).role
        if given < Role.READER:
            whose = f"a device of {user}" if user else "a device that is given no role"
            raise NotAllowed(f"{whose} may do nothing in this volume now, so nobody is invited as that")
        self._network.open_to_pairing(self._serve, self._is_open)
        with trio.move_on_after(LISTENING_S):
            await self._network.listening()
        addresses = self._network.addresses()
        if not addresses and not await self._is_nearby():
            why = self._network.problem or "this machine has no network address"
            raise ConfigError(f"no other device could reach this one: {why}")
        server = self._network.switchboard.of(volume.id)
        invitation, is_at_server = await self._open(volume, role, user, server)
        told = tuple(str(address) for address in addresses[:ADDRESSES_MAX])
        ticket = Ticket(self._device.id, told, invitation.token)
        share = Share(invitation.code, ticket, given, volume.name, PATIENCE_S, invitation)
        share.server = server if is_at_server else None
        share.is_server_lost = server is not None and not is_at_server
        self._shares.append(share)
        self._network.connector.look()
        return share

    async def _open(
        self, volume: SharedVolume, role: Role | None, user: str, server: SignalUrl | None
    ) -> tuple[Invitation, bool]:
        """An invitation whose number no other device here has given out, as far as can be heard.

        Nor any at the signalling server, if it is reached: whether it is.
        """
        avoided: set[int] = set()
        while True:
            now = trio.current_time()
            invitation = self._invitations.open(volume.id, role, self._entropy, now, avoided, user)
            slot = invitation.code.slot
            is_last = len(avoided) + 1 == DRAWS_MAX
            is_given_out = False
            try:
                is_hosting = await self._hosting(server, slot)
                is_taken = is_hosting is False or await self._is_taken_here(slot)
                if is_last or not is_taken:
                    is_given_out = True
                    return invitation, is_hosting is True
            finally:
                if not is_given_out:
                    self._invitations.withdraw(invitation)
            avoided.add(slot)

    async def _hosting(self, server: SignalUrl | None, slot: int) -> bool | None:
        if server is None:
            return None
        self._network.connector.look()
        return await self._network.switchboard.hosting(server, slot)

    async def _is_taken_here(self, slot: int) -> bool:
        return self._network.uses_mdns and await self._network.meeting.is_taken(slot, TAKEN_S)

    async def wait(self, share: Share) -> None:
        """Return when the invitation has ended: used, burnt, late. Cancelled, it goes on."""
        with trio.move_on_at(share.invitation.expires_at):
            await share.ended.wait()
        self._forget_late()

    async def join(self, ticket: Ticket) -> Joined:
        """Use a ticket. PairingRefused, LinkBroken: nothing has changed here."""
        return await pairing.join(self._device, ticket, self._label, self._entropy)

    async def join_by_code(self, code: Code, patience_s: float, server: SignalUrl | None = None) -> Joined:
        """Look for the device that shows `code` and use it. Errors as `finding.join_by_code`.

        It is looked for on this device's networks, and by way of `server`, or that of the settings.
        ConfigError if this device looks nowhere.
        """
        own = self._invitations.find(code.name)
        if own is not None and own.code == code:
            raise PairingRefused(Reason.OWN)
        server = server or self._network.switchboard.server
        nearby = self._network.nearby
        if not self._network.uses_mdns and server is None and nearby is None:
            raise ConfigError(
                "this device does not look around on its networks (mdns = false in config.toml)"
            )
        look_for: LookFor = _look_nowhere
        if self._network.uses_mdns or nearby is not None:
            self._network.look_around()
        if self._network.uses_mdns:
            look_for = self._network.meeting.look_for
        caller = None
        if server is not None:
            caller = Caller(
                str(server), partial(self._network.switchboard.dial_host, server, self._nursery, code.slot)
            )
        return await join_by_code(
            self._device,
            code,
            self._label,
            look_for=look_for,
            caller=caller,
            roam=None if nearby is None else nearby.roam,
            patience_s=patience_s,
            entropy=self._entropy,
        )

    async def join_at(self, address: Address, inviter: DeviceId, code: Code) -> Joined:
        """Use a code at an address, if `inviter` is there. PairingRefused, LinkBroken."""
        return await pairing.join_at(self._device, [address], inviter, code, self._label, self._entropy)

    async def meet(self, address: Address) -> DeviceId:
        """Who admits strangers to pairing at `address`. LinkBroken, HandshakeRefused."""
        return await pairing.meet(self._device, address)

    async def _serve(self, link: Link) -> None:
        """A stranger's link: it can do nothing but pair."""
        try:
            admission = await pairing.invite(
                link, self._invitations, self._device, self._admit, self._entropy
            )
        except pairing.Left as left:
            log.debug("a stranger left again", link=link.description, reason=str(left))
            return
        except DittoError as error:
            log.warning("a device could not pair", link=link.description, reason=str(error))
            if isinstance(error, NotAllowed):
                for share in [one for one in self._shares if one.invitation.used_by == link.peer]:
                    share.refused = str(error)
                    self._end(share)
            self._forget_late()
            return
        for share in list(self._shares):
            if share.invitation.used_by == admission.publics.device:
                share.joined = admission
                self._end(share)
        log.info("a device joined", name=admission.name, user=admission.user)

    async def _admit(self, admission: Admission) -> tuple[Membership, str, Sequence[str]]:
        volume = self._find(admission.volume)
        if volume is None:
            raise ConfigError("the volume of this invitation is not open any more")
        await volume.admit(admission)
        addresses = [str(address) for address in self._network.addresses()[:ADDRESSES_MAX]]
        return volume.membership, volume.name, addresses

    async def _is_nearby(self) -> bool:
        with trio.move_on_after(LISTENING_S):
            return await self._network.is_nearby()
        return False

    def _state(self, slot: int) -> State | None:
        """What those are told who have a code with that number."""
        invitation = self._invitations.find(slot_name(slot))
        if invitation is None:
            return None
        if invitation in self._invitations.good(trio.current_time()):
            return State.OPEN  # also for whom it let in, and whose answer was lost
        reason = invitation.outcome(trio.current_time())
        return None if reason is None else State(int(reason))

    def _slots(self) -> frozenset[int]:
        good = self._invitations.good(trio.current_time())
        return frozenset(invitation.code.slot for invitation in good)

    def _slots_at(self, server: SignalUrl) -> frozenset[int]:
        of = self._network.switchboard.of
        good = self._invitations.good(trio.current_time())
        return frozenset(one.code.slot for one in good if of(one.volume) == server)

    def _end(self, share: Share) -> None:
        if share in self._shares:
            self._shares.remove(share)
        share.ended.set()
        self._network.connector.look()

    def _forget_late(self) -> None:
        now = trio.current_time()
        for share in list(self._shares):
            share.is_burnt = share.invitation.state.name == "BURNT"
            if share.is_burnt or share.invitation.expires_at <= now:
                self._end(share)

    def _is_open(self) -> bool:
        """Strangers are admitted while an invitation is good: who was let in may have lost the answer."""
        return self._invitations.is_any_open(trio.current_time())


async def _look_nowhere(_slot: int, _hear: Hear) -> None:
    """This device hears nobody on its networks."""
