"""Invitations that are open on this device: each good once, for ten minutes, for one attempt at a time."""

import enum
from dataclasses import dataclass, field

from dittofs.clock import Entropy
from dittofs.errors import ConfigError, DittoError
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.identity.root import derive
from dittofs.identity.tickets import TOKEN_BYTES
from dittofs.ids import VolumeId

PATIENCE_S = 600.0
INVITATIONS_MAX = 64
SLOT_BYTES = 16


class Reason(enum.IntEnum):
    """Why an inviter lets nobody in."""

    UNKNOWN = 1
    USED = 2
    LATE = 3
    BURNT = 4
    BUSY = 5
    MALFORMED = 6
    OWN = 7


_SENTENCES = {
    Reason.UNKNOWN: "the other device does not know this ticket: it was changed, or the daemon restarted",
    Reason.USED: "this ticket was used by another device; each is good for one: run `dittofs share` again",
    Reason.LATE: "this ticket is older than ten minutes: run `dittofs share` again on the inviting device",
    Reason.BURNT: "somebody tried this ticket with a wrong token, so it is void: run `dittofs share` again",
    Reason.BUSY: "another device is using this ticket just now: if it was yours, try again",
    Reason.MALFORMED: "the inviting device did not understand this one: do both run the same version?",
    Reason.OWN: "this ticket was made on this very device: run the command on the other one",
}


class PairingRefused(DittoError):
    """No pairing takes place; the message says why and what to do. Nothing has changed on either side."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(_SENTENCES[reason])
        self.reason = reason


class State(enum.Enum):
    """What became of an invitation."""

    OPEN = enum.auto()
    USED = enum.auto()
    BURNT = enum.auto()


@dataclass(frozen=True, eq=False, slots=True)
class Attempt:
    """One try, over one link, to use an invitation."""

    device: DeviceId


@dataclass(eq=False, slots=True)
class Invitation:
    """One invitation to a volume."""

    volume: VolumeId
    role: Role
    expires_at: float
    """On the clock that `now` is of, in seconds."""
    token: bytes = field(repr=False)
    """S: what the ticket carries."""
    state: State = State.OPEN
    used_by: DeviceId | None = None
    attempt: Attempt | None = None
    """The one that is under way."""

    @property
    def slot(self) -> bytes:
        """What a joiner names the invitation by."""
        return slot_of(self.token)

    def begin(self, attempt: Attempt, now: float) -> None:
        """Let `attempt` be the one under way. `PairingRefused` if it cannot be.

        The same device may begin again: it may know before us that its link is lost. So may the device that
        was let in: its answer was lost.
        """
        self._require_good(attempt.device, now)
        if self.attempt is not None and self.attempt.device != attempt.device:
            raise PairingRefused(Reason.BUSY)
        self.attempt = attempt

    def require_attempt(self, attempt: Attempt, now: float) -> None:
        """Return if `attempt` is still the one under way, in time. Otherwise `PairingRefused`."""
        if self.attempt is not attempt:
            raise PairingRefused(Reason.BUSY)
        self._require_good(attempt.device, now)

    def end(self, attempt: Attempt) -> None:
        """Make room for another attempt, if `attempt` is the one under way."""
        if self.attempt is attempt:
            self.attempt = None

    def use(self, device: DeviceId) -> bool:
        """Let `device` in, and nobody else from now on; whether it was let in before."""
        is_again = self.state == State.USED
        self.state, self.used_by = State.USED, device
        return is_again

    def burn(self) -> None:
        """Let nobody in from now on."""
        self.state = State.BURNT

    def _require_good(self, device: DeviceId, now: float) -> None:
        if self.state == State.BURNT:
            raise PairingRefused(Reason.BURNT)
        if self.state == State.USED and self.used_by != device:
            raise PairingRefused(Reason.USED)
        if now >= self.expires_at:
            raise PairingRefused(Reason.LATE)


class Invitations:
    """All invitations of this device."""

    def __init__(self) -> None:
        self._by_slot: dict[bytes, Invitation] = {}

    def open(self, volume: VolumeId, role: Role, entropy: Entropy, now: float) -> Invitation:
        """Invite one device to `volume`, from reader up. `ConfigError` if too many invitations are open.

        Ask `require_owner` first.
        """
        assert role >= Role.READER, "whoever joins gets the volume's secrets"
        if len(self._by_slot) >= INVITATIONS_MAX:
            self._forget(now)
        invitation = Invitation(volume, role, now + PATIENCE_S, entropy(TOKEN_BYTES))
        self._by_slot[invitation.slot] = invitation
        return invitation

    def find(self, slot: bytes) -> Invitation | None:
        """The invitation that joiners name so."""
        return self._by_slot.get(slot)

    def withdraw(self, invitation: Invitation) -> None:
        """Let nobody in by `invitation` any more."""
        self._by_slot.pop(invitation.slot, None)

    def is_any_open(self, now: float) -> bool:
        """Whether a stranger may connect to pair: also whom an invitation let in, and who lost the answer."""
        return any(one.state != State.BURNT and now < one.expires_at for one in self._by_slot.values())

    def _forget(self, now: float) -> None:
        """Make room: those that are over are kept only so that a late joiner learns why."""
        over = [one for one in self._by_slot.values() if one.state != State.OPEN or now >= one.expires_at]
        if not over:
            raise ConfigError(f"{INVITATIONS_MAX} invitations are open: wait ten minutes for them to end")
        for one in over:
            self.withdraw(one)


def slot_of(token: bytes) -> bytes:
    """What names the invitation of `token` without giving it away."""
    return derive("pair slot", token)[:SLOT_BYTES]
