"""What a device made while it might write, and nobody takes now that it may only read."""

from collections.abc import Callable, Sequence

from dittofs.identity.records import Role
from dittofs.replication.session import Session


class Untaken:
    """Of one volume, as far as connected devices have shown it."""

    def __init__(self, role: Callable[[], Role], sessions: Callable[[], Sequence[Session]]) -> None:
        """`role` of this device; the open `sessions`."""
        self._role = role
        self._sessions = sessions

    @property
    def is_some(self) -> bool:
        """Whether a connected device lacks such changes."""
        is_refused = self._role() < Role.WRITER
        return is_refused and any(session.rounds.is_ahead for session in self._sessions())

    @property
    def may_push(self) -> bool:
        """Whether others may be asked to keep what is here: not bytes whose names they do not take."""
        if self._role() >= Role.WRITER:
            return True
        compared = [session.rounds for session in self._sessions() if session.may_write]
        return all(rounds.found_equal_at > rounds.found_ahead_at for rounds in compared)
