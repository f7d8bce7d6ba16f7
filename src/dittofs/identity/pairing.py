"""Pairing: how a device that holds a ticket becomes a member. Both sides, without any I/O (wire.md).

The link is TLS between the two devices. The messages, in order:

1. joiner: which invitation, A.      2. inviter: B.
3. joiner: its confirmation, its keys, its name. A wrong one burns the invitation.
4. inviter, once the member is durable there: its confirmation.      5. inviter: the volume.

With a ticket A and B are empty, and the secret S of both is its token. With a code A and B are the two halves
of a key exchange about its words, and S is what comes of it. The inviter may refuse in place of a message.
Whatever a peer sends that breaks the rules is a `FormatError`: the link is to be closed, no more.

If the answer is lost the joiner pairs again with the same ticket or code: the device that was let in, and no
other, is answered again for as long as the invitation is good.
"""

import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.identity.authoring import Author
from dittofs.identity.codes import Code
from dittofs.identity.exchange import Exchange, inviter_exchange, joiner_exchange
from dittofs.identity.generations import unwrap
from dittofs.identity.genesis import parse_genesis
from dittofs.identity.granting import let_in
from dittofs.identity.invitations import Attempt, Invitation, Invitations, PairingRefused, Reason, slot_of
from dittofs.identity.keys import Device, DeviceId, VolumeSecrets, device_id
from dittofs.identity.membership import NAMES_MAX, RECORDS_MAX, Membership
from dittofs.identity.pairing_messages import (
    EXPORTED_BYTES,
    MESSAGE_BYTES_MAX,
    VERSION,
    VOLUME_BYTES_MAX,
    Answer,
    Confirmation,
    Greeting,
    Hello,
    Volume,
    decode,
    encode,
    inviter_mac,
    is_equal,
    joiner_mac,
    transcript,
)
from dittofs.identity.publics import Publics, make_publics, parse_publics
from dittofs.identity.records import NAME_BYTES_MAX, Role, require_name
from dittofs.identity.tickets import ADDRESSES_MAX, require_address
from dittofs.ids import VolumeId


@dataclass(frozen=True, slots=True)
class Admission:
    """A device that has shown an invitation's secret: to be made a member, durably, before the answer."""

    volume: VolumeId
    role: Role | None
    """None: what the user, its groups or the default say."""
    publics: Publics
    name: str
    is_again: bool
    """It was let in before, and its answer was lost."""
    user: str = ""
    """Whose it will be; empty: nobody's."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What a joiner has when pairing is done: a volume it can open, with every record checked."""

    secrets: VolumeSecrets
    """Without a root key."""
    records: tuple[bytes, ...]
    """Member records, as they are kept in the journal."""
    name: str
    """What the inviting device calls the volume."""
    role: Role
    inviter: DeviceId
    addresses: tuple[str, ...]
    """Where the inviter listens."""


class _Step(enum.Enum):
    HELLO = enum.auto()
    CONFIRMATION = enum.auto()
    ANSWER = enum.auto()
    VOLUME = enum.auto()
    DONE = enum.auto()


class Inviter:
    """One joiner's attempt, seen by the inviting device. Close it when the link ends.

    `PairingRefused`: send `refusal(error.reason)`, then close the link.
    """

    def __init__(
        self,
        invitations: Invitations,
        device: DeviceId,
        joiner_certificate: bytes,
        exported: bytes,
        entropy: Entropy,
    ) -> None:
        assert len(exported) == EXPORTED_BYTES
        self._invitations = invitations
        self._device = device
        self._certificate = joiner_certificate
        self._exported = exported
        self._entropy = entropy
        self._secret = b""
        self._attempt = Attempt(device_id(joiner_certificate))
        self._step = _Step.HELLO
        self._invitation: Invitation | None = None
        self._said = b""

    def receive_hello(self, message: bytes, now: float) -> bytes:
        """Take message 1, return message 2. `PairingRefused`, `FormatError`.

        An attempt by code that the invitation takes up is counted, and one too many burns it.
        """
        self._advance(_Step.HELLO, _Step.CONFIRMATION)
        hello = decode(message, Hello)
        if hello.v != VERSION:
            raise PairingRefused(Reason.MALFORMED)
        invitation = self._invitations.find(hello.slot)
        if invitation is None:
            raise PairingRefused(Reason.UNKNOWN)
        is_by_code = hello.slot == invitation.code.name
        if is_by_code != bool(hello.a):
            raise PairingRefused(Reason.MALFORMED)
        invitation.begin(self._attempt, now)
        self._invitation = invitation
        if is_by_code:
            self._invitations.begin_by_code(invitation, now)
            words = invitation.code.secret
            exchange = inviter_exchange(words, self._attempt.device, self._device, self._entropy)
            self._secret, greeting = exchange.secret(hello.a), Greeting(exchange.said)
        else:
            self._secret, greeting = invitation.token, Greeting(b"")
        self._said = transcript(self._attempt.device, self._device, self._exported, hello, greeting)
        return encode(greeting)

    def receive_confirmation(self, message: bytes, now: float) -> Admission:
        """Take message 3. The invitation is used by this joiner when this returns.

        Anything but a right confirmation burns it: `PairingRefused` or `FormatError`.
        """
        self._advance(_Step.CONFIRMATION, _Step.ANSWER)
        invitation = self._invitation
        assert invitation is not None
        invitation.require_attempt(self._attempt, now)
        try:
            confirmation = decode(message, Confirmation)
            if not is_equal(confirmation.mac, joiner_mac(self._secret, self._said)):
                raise PairingRefused(Reason.WRONG)
            publics = parse_publics(self._certificate, confirmation.wrapping, confirmation.proof)
            require_name(confirmation.name)
        except (FormatError, PairingRefused):
            self._invitations.burn(invitation, now)
            raise
        is_again = invitation.use(self._attempt.device)
        role, user = invitation.role, invitation.user
        return Admission(invitation.volume, role, publics, confirmation.name, is_again, user)

    def answer(self, membership: Membership, name: str, addresses: Sequence[str]) -> list[bytes]:
        """Messages 4 and 5, once the joiner is a member in `membership` and durably so.

        `name` is the volume's; `addresses` are where this device listens (`tickets.require_address`).
        """
        self._advance(_Step.ANSWER, _Step.DONE)
        assert self._invitation is not None
        genesis = membership.genesis
        volume = encode(
            Volume(
                genesis.record,
                genesis.signature,
                list(membership.records.values()),
                list(addresses[:ADDRESSES_MAX]),
                name,
            )
        )
        if len(volume) > VOLUME_BYTES_MAX:
            raise FormatError("the member records of this volume are too large to hand over")
        return [encode(Answer(inviter_mac(self._secret, self._said))), volume]

    def close(self) -> None:
        """Let others try the invitation, if it is still good. May be called at any time."""
        if self._invitation is not None:
            self._invitation.end(self._attempt)

    def _advance(self, expected: _Step, following: _Step) -> None:
        assert self._step == expected, f"{expected} after {self._step}"
        self._step = following


def admit(
    membership: Membership, secrets: VolumeSecrets, author: Author, admission: Admission
) -> list[bytes]:
    """The records that make the admitted device a member, to be kept before the answer: none if it is one.

    With `user` it does what that user may from then on, an owner excepted; without, a role it has is not
    lessened. `PairingRefused` for one that was removed since it was let in; `NotAllowed` if `author` is no
    owner any more, or whom it lets in may do nothing.
    """
    name, user = _free_name(membership, admission), admission.user
    records = let_in(membership, secrets, author, admission.publics, admission.role, name, user)
    if records and admission.is_again:
        raise PairingRefused(Reason.USED)
    return records


def _free_name(membership: Membership, admission: Admission) -> str:
    """What the device is to be called: its own word for itself, numbered if another member is called so."""
    device = admission.publics.device
    taken = {member.name for member in membership.all_admitted() if member.device != device}
    for number in itertools.count(2):
        if admission.name not in taken:
            return admission.name
        suffix = f"-{number}"
        start = admission.name.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore")
        if start + suffix not in taken:
            return start + suffix
    raise AssertionError("numbers do not end")


class Joiner:
    """The joining device's side, over a link to `inviter`."""

    def __init__(
        self,
        device: Device,
        inviter: DeviceId,
        key: bytes | Code,
        name: str,
        *,
        exported: bytes,
        entropy: Entropy,
    ) -> None:
        """`key` is a ticket's token, or a code; `name` is what this device is to be called.

        `PairingRefused` if this device made the invitation itself.
        """
        assert len(exported) == EXPORTED_BYTES
        if inviter == device.id:
            raise PairingRefused(Reason.OWN)
        require_name(name)
        self._device = device
        self._inviter = inviter
        self._name = name
        self._exported = exported
        self._step = _Step.HELLO
        self._exchange: Exchange | None = None
        self._secret = b""
        self._said = b""
        if isinstance(key, Code):
            self._exchange = joiner_exchange(key.secret, device.id, inviter, entropy)
            self._hello = Hello(VERSION, key.name, self._exchange.said)
        else:
            self._secret = key
            self._hello = Hello(VERSION, slot_of(key), b"")

    @property
    def bytes_max(self) -> int:
        """The most that the next message from the inviter may have: more only once it has proven itself."""
        return VOLUME_BYTES_MAX if self._step == _Step.VOLUME else MESSAGE_BYTES_MAX

    def hello(self) -> bytes:
        """Message 1."""
        return encode(self._hello)

    def receive_greeting(self, message: bytes) -> bytes:
        """Take message 2, return message 3. `PairingRefused`, `FormatError`."""
        self._advance(_Step.HELLO, _Step.ANSWER)
        greeting = decode(message, Greeting)
        if self._exchange is not None:
            self._secret = self._exchange.secret(greeting.b)
        elif greeting.b:
            raise FormatError("a key exchange where a ticket needs none")
        self._said = transcript(self._device.id, self._inviter, self._exported, self._hello, greeting)
        publics = make_publics(self._device)
        mac = joiner_mac(self._secret, self._said)
        return encode(Confirmation(mac, publics.wrapping, publics.proof, self._name))

    def receive_answer(self, message: bytes) -> None:
        """Take message 4: when this returns the inviter has proven itself, and this device is a member."""
        self._advance(_Step.ANSWER, _Step.VOLUME)
        answer = decode(message, Answer)
        if not is_equal(answer.mac, inviter_mac(self._secret, self._said)):
            raise FormatError("the device that answered does not know the ticket or code")

    def receive_volume(self, message: bytes) -> Joined:
        """Take message 5: the volume, every byte of it checked. `FormatError` if they do not agree."""
        self._advance(_Step.VOLUME, _Step.DONE)
        volume = decode(message, Volume, VOLUME_BYTES_MAX)
        if len(volume.records) > RECORDS_MAX + NAMES_MAX or len(volume.addresses) > ADDRESSES_MAX:
            raise FormatError("a volume with too many records or addresses")
        for address in volume.addresses:
            require_address(address)
        require_name(volume.name)
        membership = Membership(parse_genesis(volume.genesis, volume.signature))
        membership.add(volume.records)
        if membership.role(self._inviter) != Role.OWNER:
            raise FormatError("the inviting device is no owner of the volume it gives")
        role = membership.role(self._device.id)
        if role < Role.READER:
            raise FormatError("the volume does not count this device as a member")
        return Joined(
            unwrap(membership, self._device),
            tuple(membership.records.values()),
            volume.name,
            role,
            self._inviter,
            tuple(volume.addresses),
        )

    def _advance(self, expected: _Step, following: _Step) -> None:
        assert self._step == expected, f"{expected} after {self._step}"
        self._step = following
