"""How much may be sent to other devices, and asked of them, now: token buckets of the limits that hold.

Only chunks that nobody waits for are held back. All else goes at once and counts, so that they wait longer.
"""

from collections.abc import Iterable
from typing import Final, Protocol

import trio

from dittofs.clock import Clock
from dittofs.identity.keys import DeviceId
from dittofs.rate_limits import About, Direction, RateLimit, in_force
from dittofs.timetable import local_minute

BURST_S: Final = 1.0
"""What may go at once after a pause, as time at the limit."""
DEBT_S: Final = 60.0
"""What others than bulk used above the limit holds bulk back for so long at most."""
LOOK_S: Final = 1.0
"""How often the timetables are looked at, while bytes go."""
NEVER: Final = float("inf")


class Bucket:
    """Of one direction, of one device or all together. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.rate: int | None = None
        self.reserved = 0
        """Asked for and not yet come."""
        self._level = 0.0
        self._at = 0.0
        self.turn = trio.Lock()
        """Whoever is first in asking is first in sending."""

    def limit(self, rate: int | None, now: float) -> None:
        """From now on so many bytes a second; None: any number."""
        if rate != self.rate:
            self._level = min(self._now(now), rate * BURST_S) if self.rate and rate else 0.0
            self.rate, self._at = rate, now

    def spend(self, count: int, now: float) -> None:
        """So many bytes go, whether there was room or not."""
        if self.rate is not None:
            self._level = max(self._now(now) - count, -self.rate * DEBT_S)
            self._at = now

    def wait_s(self, now: float) -> float:
        """Until the next bytes may go."""
        if self.rate is None:
            return 0.0
        level = self._now(now) - self.reserved
        return 0.0 if level > 0 else (1 - level) / self.rate

    def _now(self, now: float) -> float:
        if self.rate is None:
            return 0.0
        return min(self._level + (now - self._at) * self.rate, self.rate * BURST_S)


class Allowance(Protocol):
    """What a session may do, with one device."""

    def sent(self, count: int) -> None:
        """So many bytes were queued for sending."""

    def received(self, count: int) -> None:
        """So many bytes came."""

    async def turn(self) -> None:
        """Return when the next chunk may be sent that nobody waits for."""

    @property
    def is_bounded(self) -> bool:
        """Whether sending is limited now."""

    def may_send(self) -> bool:
        """Whether that is now."""

    def may_ask(self) -> bool:
        """Whether one may be asked for."""

    def asked(self, count: int) -> None:
        """About so many bytes were asked for; fewer than 0: they have come, or will not."""


class Unlimited:
    """An `Allowance` of no limit."""

    is_bounded = False

    def sent(self, count: int) -> None:
        pass

    def received(self, count: int) -> None:
        pass

    async def turn(self) -> None:
        pass

    def may_send(self) -> bool:
        return True

    def may_ask(self) -> bool:
        return True

    def asked(self, count: int) -> None:
        pass


class Allowances:
    """Of this device, with all others, whatever volume and link."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rules: tuple[RateLimit, ...] = ()
        self._buckets: dict[About, Bucket] = {}
        self._changed = trio.Event()
        self._look_at = NEVER
        for direction in Direction:
            self._buckets[direction, None] = Bucket()

    def choose(self, rules: Iterable[RateLimit]) -> None:
        """These hold from now on."""
        self._rules = tuple(rules)
        self._look_at = 0.0
        self._changed.set()
        self._changed = trio.Event()

    def of(self, device: DeviceId) -> "DeviceAllowance":
        """What sessions with a device share."""
        for direction in Direction:
            self._buckets.setdefault((direction, device.hex()), Bucket())
        self._look_at = 0.0
        return DeviceAllowance(self, device.hex())

    def rate(self, direction: Direction, device: str | None = None) -> int:
        """The limit that holds now, of a device or of all together; 0: none."""
        rule = in_force(self._rules, *local_minute(self._clock.now_ns())).get((direction, device))
        return 0 if rule is None or rule.rate is None else rule.rate

    def look(self) -> None:
        """See which limits hold, if it is time to."""
        if self._look_at is NEVER:
            return
        now = trio.current_time()
        if now >= self._look_at:
            self._look_at = now + LOOK_S if self._rules else NEVER
            rules = in_force(self._rules, *local_minute(self._clock.now_ns()))
            for about, bucket in self._buckets.items():
                rule = rules.get(about)
                bucket.limit(None if rule is None else rule.rate, now)

    def buckets(self, direction: Direction, device: str) -> tuple[Bucket, Bucket]:
        """A device's own, and that of all together, with the limits that hold now."""
        self.look()
        return self._buckets[direction, device], self._buckets[direction, None]

    async def room(self, bucket: Bucket) -> None:
        """Return when something may go."""
        while wait_s := bucket.wait_s(trio.current_time()):
            with trio.move_on_after(min(wait_s, LOOK_S)):
                await self._changed.wait()
            self.look()


class DeviceAllowance:
    """An `Allowance` within the limits of one device and of all together."""

    def __init__(self, all_together: Allowances, device: str) -> None:
        self._all = all_together
        self._device = device

    def sent(self, count: int) -> None:
        self._spend(Direction.UP, count)

    def received(self, count: int) -> None:
        self._spend(Direction.DOWN, count)

    def _spend(self, direction: Direction, count: int) -> None:
        own, common = self._all.buckets(direction, self._device)
        if own.rate is None and common.rate is None:
            return  # as mostly: messages are many
        now = trio.current_time()
        own.spend(count, now)
        common.spend(count, now)

    async def turn(self) -> None:
        own, common = self._all.buckets(Direction.UP, self._device)
        if own.rate is None and common.rate is None:
            return
        async with own.turn:
            await self._all.room(own)
            async with common.turn:  # not sooner: a device with a small limit would hold up the others
                await self._all.room(common)

    @property
    def is_bounded(self) -> bool:
        return any(one.rate is not None for one in self._all.buckets(Direction.UP, self._device))

    def may_send(self) -> bool:
        return not self._wait_s(Direction.UP)

    def may_ask(self) -> bool:
        return not self._wait_s(Direction.DOWN)

    def asked(self, count: int) -> None:
        for bucket in self._all.buckets(Direction.DOWN, self._device):
            bucket.reserved += count

    def _wait_s(self, direction: Direction) -> float:
        now = trio.current_time()
        return max(one.wait_s(now) for one in self._all.buckets(direction, self._device))


UNLIMITED: Final = Unlimited()
