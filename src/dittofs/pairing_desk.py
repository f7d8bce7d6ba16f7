"""Where devices are invited and join: tickets out, strangers in, one member more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio

from dittofs.clock import Entropy
from dittofs.errors import ConfigError, DittoError
from dittofs.identity.authoring import require_owner
from dittofs.identity.invitations import PATIENCE_S, Invitation, Invitations
from dittofs.identity.keys import Device
from dittofs.identity.membership import Membership
from dittofs.identity.pairing import Admission, Joined
from dittofs.identity.records import Role
from dittofs.identity.tickets import ADDRESSES_MAX, Ticket, format_ticket, parse_ticket
from dittofs.ids import VolumeId
from dittofs.links.link import Link
from dittofs.replication import pairing
from dittofs.replication.network import Network
from dittofs.shared_volume import SharedVolume

log = structlog.get_logger()

LISTENING_S: Final = 10.0


@dataclass(slots=True, eq=False)
class Share:
    """An open invitation, and what becomes of it."""

    ticket: str
    role: Role
    volume: str
    expires_in_s: float
    invitation: Invitation = field(repr=False)
    ended: trio.Event = field(default_factory=trio.Event)
    joined: Admission | None = None
    """Who came; None when it ended in another way."""
    is_burnt: bool = False


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
    ) -> None:
        self._device = device
        self._network = network
        self._entropy = entropy
        self._label = label
        self._find = find
        self._invitations = Invitations()
        self._shares: list[Share] = []

    async def share(self, volume: SharedVolume, role: Role) -> Share:
        """Open an invitation. NotAllowed unless this device is an owner, ConfigError if nobody can come."""
        require_owner(volume.membership, self._device.id)
        self._network.open_to_pairing(self._serve)
        with trio.move_on_after(LISTENING_S):
            await self._network.listening()
        addresses = self._network.addresses()
        if not addresses:
            self._close_if_idle()
            why = self._network.problem or "this machine has no network address"
            raise ConfigError(f"no other device could reach this one: {why}")
        invitation = self._invitations.open(volume.id, role, self._entropy, trio.current_time())
        told = tuple(str(address) for address in addresses[:ADDRESSES_MAX])
        ticket = format_ticket(Ticket(self._device.id, told, invitation.token))
        share = Share(ticket, role, volume.name, PATIENCE_S, invitation)
        self._shares.append(share)
        return share

    async def wait(self, share: Share) -> None:
        """Return when the invitation has ended: used, burnt, late. Cancelled, it goes on."""
        with trio.move_on_at(share.invitation.expires_at):
            await share.ended.wait()
        self._forget_late()

    async def join(self, text: str) -> Joined:
        """Use a ticket. BadTicket, PairingRefused, LinkBroken: nothing has changed here."""
        ticket = parse_ticket(text)
        return await pairing.join(self._device, ticket, self._label)

    async def _serve(self, link: Link) -> None:
        """A stranger's link: it can do nothing but pair."""
        try:
            admission = await pairing.invite(link, self._invitations, self._device, self._admit)
        except DittoError as error:
            log.warning("a device could not pair", link=link.description, reason=str(error))
            self._forget_late()
            return
        for share in list(self._shares):
            if share.invitation.used_by == admission.publics.device:
                share.joined = admission
                self._end(share)
        log.info("a device joined", name=admission.name, role=admission.role.name.lower())

    async def _admit(self, admission: Admission) -> tuple[Membership, str, Sequence[str]]:
        volume = self._find(admission.volume)
        if volume is None:
            raise ConfigError("the volume of this invitation is not open any more")
        await volume.admit(admission)
        addresses = [str(address) for address in self._network.addresses()[:ADDRESSES_MAX]]
        return volume.membership, volume.name, addresses

    def _end(self, share: Share) -> None:
        if share in self._shares:
            self._shares.remove(share)
        share.ended.set()
        self._close_if_idle()

    def _forget_late(self) -> None:
        now = trio.current_time()
        for share in list(self._shares):
            share.is_burnt = share.invitation.state.name == "BURNT"
            if share.is_burnt or share.invitation.expires_at <= now:
                self._end(share)

    def _close_if_idle(self) -> None:
        """Strangers are admitted while an invitation is good: who was let in may have lost the answer."""
        if not self._invitations.is_any_open(trio.current_time()):
            self._network.open_to_pairing(None)
