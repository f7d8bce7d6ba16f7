"""A volume whose owner has invited somebody: both sides of a pairing, their bytes carried by hand."""

import contextlib

import pytest

from dittofs.identity.codes import Code
from dittofs.identity.invitations import Invitation, Invitations, PairingRefused, Reason
from dittofs.identity.keys import Device
from dittofs.identity.pairing import Inviter, Joined, Joiner, admit
from dittofs.identity.records import Role
from dittofs.identity.tickets import Ticket
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, PHONE, Share

X = b"x" * 32
OTHER_X = b"y" * 32
ADDRESSES = ("192.168.1.7:4001", "[fe80::1%eth0]:4001")
NOW = 1000.0


class Estate:
    """A volume whose owner has invited somebody."""

    def __init__(self, role: Role = Role.WRITER) -> None:
        self.share = Share()
        self.invitations = Invitations()
        self.invitation: Invitation = self.invitations.open(self.share.secrets.volume_id, role, ENTROPY, NOW)
        self.ticket = Ticket(LAPTOP.id, ADDRESSES, self.invitation.token)
        self.code: Code | None = None
        """What joiners type; None: they have the ticket."""

    def inviter(self, joiner: Device = DESKTOP, exported: bytes = X) -> Inviter:
        return Inviter(self.invitations, LAPTOP.id, joiner.certificate, exported, ENTROPY)

    def joiner(self, device: Device = DESKTOP, exported: bytes = X) -> Joiner:
        key = self.code or self.ticket.token
        return Joiner(device, self.ticket.device, key, "desktop", exported=exported, entropy=ENTROPY)

    def answer(self, inviter: Inviter, confirmation: bytes, now: float = NOW) -> list[bytes]:
        admission = inviter.receive_confirmation(confirmation, now)
        assert admission.volume == self.share.secrets.volume_id
        self.share.membership.add(admit(self.share.membership, self.share.secrets, LAPTOP, admission))
        return inviter.answer(self.share.membership, "Shared", ADDRESSES)

    def pair(self, device: Device = DESKTOP, now: float = NOW) -> Joined:
        inviter, joiner = self.inviter(device), self.joiner(device)
        with contextlib.closing(inviter):
            confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), now))
            answer, volume = self.answer(inviter, confirmation, now)
            joiner.receive_answer(answer)
            return joiner.receive_volume(volume)

    def refuses(self, reason: Reason, device: Device = PHONE, now: float = NOW) -> None:
        digest = self.share.membership.digest()
        with pytest.raises(PairingRefused) as refused:
            self.pair(device, now)
        assert refused.value.reason == reason
        assert self.share.membership.digest() == digest
