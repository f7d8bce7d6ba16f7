"""Invitations that are open on this device: each good once, for ten minutes, for one attempt at a time.

An invitation has two doors: a ticket, whose token nobody can guess, and a code, of which one wrong guess ends
the invitation. Three that ended so within an hour make the next codes longer.
"""

import enum
from collections.abc import Collection
from dataclasses import dataclass, field

from dittofs.clock import Entropy
from dittofs.errors import ConfigError, DittoError
from dittofs.identity.codes import SLOTS, WORDS_COUNT, WORDS_COUNT_MAX, Code, draw_code
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.identity.root import derive
from dittofs.identity.tickets import TOKEN_BYTES
from dittofs.ids import VolumeId

PATIENCE_S = 600.0
INVITATIONS_MAX = 64
SLOT_BYTES = 16
ATTEMPTS_MAX = 32
"""By code. An attempt that is broken off guesses nothing, and costs a key exchange."""
BURNT_S = 3600.0
BURNT_MAX = 3
"""So many within BURNT_S make the next codes longer."""


class Reason(enum.IntEnum):
    """Why an inviter lets nobody in."""

    UNKNOWN = 1
    USED = 2
    LATE = 3
    BURNT = 4
    BUSY = 5
    MALFORMED = 6
    OWN = 7
    WRONG = 8
    """What this very attempt showed is wrong."""
    BARRED = 9


_SENTENCES = {
    Reason.UNKNOWN: "the other device does not know this invitation: it was changed, or the daemon restarted",
    Reason.USED: "this invitation was used by another device; each is good for one",
    Reason.LATE: "this invitation is older than ten minutes",
    Reason.BURNT: "somebody tried this invitation with wrong words or a wrong token, so it is void",
    Reason.BUSY: "another device is using this invitation just now: if it was yours, try again",
    Reason.MALFORMED: "the inviting device did not understand this one: do both run the same version?",
    Reason.OWN: "this invitation was made on this very device: run the command on the other one",
    Reason.WRONG: "those are not the words that the inviting device shows; the invitation is void now",
    Reason.BARRED: "the inviting device may let nobody in any more, or whom it lets in may do nothing there",
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
    role: Role | None
    """None: what the user, its groups or the default say."""
    expires_at: float
    """On the clock that `now` is of, in seconds."""
    token: bytes = field(repr=False)
    """S: what the ticket carries."""
    code: Code
    """What the key exchange is about."""
    state: State = State.OPEN
    used_by: DeviceId | None = None
    attempt: Attempt | None = None
    """The one that is under way."""
    attempts_by_code: int = 0
    user: str = ""
    """Whose the device will be; empty: nobody's."""

    @property
    def slot(self) -> bytes:
        """What a joiner with the ticket names the invitation by."""
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

    def outcome(self, now: float) -> Reason | None:
        """What has become of it, for any joiner; None: it is open."""
        match self.state:
            case State.BURNT:
                return Reason.BURNT
            case State.USED:
                return Reason.USED
            case State.OPEN:
                return Reason.LATE if now >= self.expires_at else None

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
        """Each under two names."""
        self._all: list[Invitation] = []
        self._burnt_at: list[float] = []

    def open(
        self,
        volume: VolumeId,
        role: Role | None,
        entropy: Entropy,
        now: float,
        avoided: Collection[int] = (),
        user: str = "",
    ) -> Invitation:
        """Invite one device to `volume`, from reader up. `ConfigError` if too many invitations are open.

        Ask `require_owner` first. `avoided` are slots that other devices have given out just now.
        """
        assert role is None or role >= Role.READER, "whoever joins gets the volume's secrets"
        if len(self._all) >= INVITATIONS_MAX:
            self._forget(now)
        code = draw_code(entropy, self._taken(avoided), self._words_count(now))
        invitation = Invitation(volume, role, now + PATIENCE_S, entropy(TOKEN_BYTES), code, user=user)
        self._by_slot[invitation.slot] = self._by_slot[code.name] = invitation
        self._all.append(invitation)
        return invitation

    def find(self, slot: bytes) -> Invitation | None:
        """The invitation that joiners name so."""
        return self._by_slot.get(slot)

    def burn(self, invitation: Invitation, now: float) -> None:
        """Let nobody in by `invitation` from now on: somebody was wrong about its secret."""
        invitation.state = State.BURNT
        self._burnt_at = [*self._burnt_at, now][-BURNT_MAX:]

    def begin_by_code(self, invitation: Invitation, now: float) -> None:
        """Count an attempt. `PairingRefused` if that was one too many: the invitation is burnt."""
        invitation.attempts_by_code += 1
        if invitation.attempts_by_code > ATTEMPTS_MAX:
            self.burn(invitation, now)
            raise PairingRefused(Reason.BURNT)

    def withdraw(self, invitation: Invitation) -> None:
        """Let nobody in by `invitation` any more."""
        if invitation in self._all:
            self._all.remove(invitation)
            for slot in (invitation.slot, invitation.code.name):
                if self._by_slot.get(slot) is invitation:
                    del self._by_slot[slot]

    def is_any_open(self, now: float) -> bool:
        """Whether a stranger may connect to pair: also whom an invitation let in, and who lost the answer."""
        return bool(self.good(now))

    def good(self, now: float) -> list[Invitation]:
        """Those that somebody may still be let in by, or answered again."""
        return [one for one in self._all if one.state != State.BURNT and now < one.expires_at]

    def _taken(self, avoided: Collection[int]) -> set[int]:
        """Slots that are not to be given out. An invitation that is over still tells a late joiner why."""
        own = {one.code.slot for one in self._all}
        every = own | set(avoided)
        return every if len(every) < len(SLOTS) else own

    def _words_count(self, now: float) -> int:
        burnt = sum(now - at < BURNT_S for at in self._burnt_at)
        return WORDS_COUNT if burnt < BURNT_MAX else WORDS_COUNT_MAX

    def _forget(self, now: float) -> None:
        """Make room: those that are over are kept only so that a late joiner learns why."""
        over = [one for one in self._all if one.outcome(now) is not None]
        if not over:
            raise ConfigError(f"{INVITATIONS_MAX} invitations are open: wait ten minutes for them to end")
        for one in over:
            self.withdraw(one)


def slot_of(token: bytes) -> bytes:
    """What names the invitation of `token` without giving it away."""
    return derive("pair slot", token)[:SLOT_BYTES]
