"""How much somebody may do. Pure."""

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """So much a second, and so much at once."""

    rate: float
    burst: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        """Count one; whether it is allowed."""
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True

    def is_full(self, now: float) -> bool:
        """Whether nothing is remembered that matters."""
        return self.left + (now - self.at) * self.rate >= self.burst
