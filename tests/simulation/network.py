"""A network in memory: links as slow, late and short-lived as a seed says, and no less reliable than TCP.

What a stream that is reliable can do to a session is to be late, to stop, to end at any byte, to end for one
side only, or to be there twice. Loss and disorder of packets show as nothing else.
"""

import random
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import trio

from dittofs.identity.keys import Device, DeviceId
from dittofs.links.link import Alpn, LinkBroken

WINDOW_BYTES: Final = 256 << 10
"""On their way in one direction before a sender waits, as in socket buffers."""
GOODBYE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Weather:
    """How the links of one network behave."""

    delay_s: float = 0.02
    """Of most links; some are 20 times as slow."""
    bytes_per_s: float = 4e6
    slow: float = 0.1
    cut: float = 0.3
    """How many links end at some byte of the first megabyte, whoever sends it."""
    half_open: float = 0.3
    """How often only one side learns that a link has ended."""


CLEAR: Final = Weather(slow=0.0, cut=0.0, half_open=0.0)


class _Direction:
    """Bytes on their way from one end to the other."""

    def __init__(self, delay_s: float, bytes_per_s: float, cut_at: int | None) -> None:
        self.queue: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.sent = 0
        self.cut_at = cut_at
        self.is_ended = False
        """The sender has said goodbye; what is queued still comes."""
        self.is_deaf = False
        """The receiver learns of a broken link once it has what is queued."""
        self.is_void = False
        """What is sent goes nowhere."""
        self.moved = trio.Event()
        self._delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self._last = 0.0

    def put(self, data: bytes, chance: random.Random) -> None:
        delay = self._delay_s * (0.5 + chance.random())
        self._last = max(self._last, trio.current_time() + delay) + len(data) / self._bytes_per_s
        self.queue.append((self._last, data))
        self.size += len(data)
        self.signal()

    def signal(self) -> None:
        self.moved.set()
        self.moved = trio.Event()

    def truncate(self, chance: random.Random) -> None:
        """Of what is on its way any first part arrives."""
        left = chance.randint(0, self.size)
        kept: deque[tuple[float, bytes]] = deque()
        for when, data in self.queue:
            if left > 0:
                kept.append((when, data[:left]))
            left -= len(data)
        self.queue = kept
        self.size = sum(len(data) for _, data in kept)


class _Pulse:
    """A machine that always answers: what is cut or stopped here, its program has to notice."""

    local_host = ""

    def unanswered_s(self) -> float | None:
        return 0.0


class SimulatedLink:
    """One end of a link between two devices. A `Link`."""

    alpn = Alpn.SESSION

    def __init__(
        self,
        network: "Network",
        pair: tuple[Device, Device],
        out: _Direction,
        into: _Direction,
        *,
        is_dialer: bool,
        description: str,
    ) -> None:
        self.owner, peer = pair
        self.peer: DeviceId = peer.id
        self.certificate = peer.certificate
        self.is_dialer = is_dialer
        self.description = description
        self.pulse = _Pulse()
        self._network = network
        self._out = out
        self._into = into
        self._is_broken = False
        self._is_closed = False
        self.other: SimulatedLink

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As a socket: what does not fit waits."""
        await trio.lowlevel.checkpoint()
        view, out = memoryview(data), self._out
        while len(view):
            self._expect_usable()
            while out.size >= WINDOW_BYTES:
                await out.moved.wait()
                self._expect_usable()
            piece = bytes(view[: WINDOW_BYTES - out.size])
            view = view[len(piece) :]
            if out.is_void:
                out.size += len(piece)  # nobody takes it: in the end the sender waits
                continue
            end = out.sent + len(piece)
            if out.cut_at is not None and end >= out.cut_at:
                out.put(piece[: out.cut_at - out.sent], self._network.chance)
                self._network.cut(self)
                raise LinkBroken("the link was cut")
            out.sent = end
            out.put(piece, self._network.chance)

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        """Pieces as the network delivers them: rarely what was sent at once."""
        await trio.lowlevel.checkpoint()
        into = self._into
        while True:
            if self._is_closed or self._is_broken:
                raise LinkBroken("the link is closed")
            now = trio.current_time()
            is_stopped = self._network.is_stopped(self)
            if into.queue and not is_stopped and into.queue[0][0] <= now:
                return self._take(max_bytes)
            if not into.queue and into.is_deaf:
                raise LinkBroken("the link was cut")
            if not into.queue and into.is_ended and not is_stopped:
                return b""
            moved = into.moved
            due = into.queue[0][0] if into.queue and not is_stopped else float("inf")
            with trio.move_on_at(due):
                await moved.wait()

    def _take(self, max_bytes: int) -> bytes:
        into, chance = self._into, self._network.chance
        when, data = into.queue.popleft()
        count = min(len(data), max_bytes)
        if chance.random() < 0.2:
            count = chance.randint(1, count)
        if count < len(data):
            into.queue.appendleft((when, data[count:]))
        into.size -= count
        into.signal()
        return data[:count]

    def exporter(self, label: str, length: int) -> bytes:
        """Nothing of a session uses it."""
        raise NotImplementedError(f"{label}: {length} bytes")

    async def aclose(self) -> None:
        """Say goodbye, unless the link is broken."""
        if not self._is_closed:
            self._is_closed = True
            self._out.is_ended = True
            self._out.signal()
            self._into.is_void = True
            self._into.size = 0
            self._into.queue.clear()
            self._into.signal()
            if not self._is_broken and not self._out.is_void:
                # A receiver that is gone breaks the other's sending, as a reset does.
                self.other._is_reset = True
        await trio.lowlevel.checkpoint()

    _is_reset = False

    def fail(self) -> None:
        """This end works no more."""
        self._is_broken = True
        self._out.signal()
        self._into.signal()

    def hear(self) -> None:
        """This end learns that the link has broken, after what has come."""
        self._into.is_deaf = True
        self._is_reset = True
        self._into.signal()
        self._out.signal()

    def lose(self, chance: random.Random) -> None:
        """What this end sends arrives in part, and nothing after that."""
        self._out.truncate(chance)
        self._out.is_void = True

    def _expect_usable(self) -> None:
        if self._is_closed or self._is_broken or self._is_reset:
            raise LinkBroken("the link is broken")


class Network:
    """All links, and who cannot reach whom."""

    def __init__(self, chance: random.Random, weather: Weather) -> None:
        self.chance = chance
        self.weather = weather
        self.links: list[SimulatedLink] = []
        """Both ends of each that may still be in use."""
        self._apart: dict[frozenset[DeviceId], int] = {}
        self._number = 0

    def link(self, dialler: Device, answerer: Device) -> tuple[SimulatedLink, SimulatedLink]:
        """Both ends of a link, the dialler's first. LinkBroken if there is no way."""
        if self._is_apart(dialler.id, answerer.id):
            raise LinkBroken("no way there")
        weather, chance = self.weather, self.chance
        factor = 20.0 if chance.random() < weather.slow else 1.0
        cuts: list[int | None] = [None, None]
        if chance.random() < weather.cut:
            cuts[chance.randrange(2)] = int(1 << chance.randint(0, 20)) + chance.randrange(64)
        there, back = (
            _Direction(weather.delay_s * factor, weather.bytes_per_s / factor, cut) for cut in cuts
        )
        self._number += 1
        what = f"simulated {self._number}"
        near = SimulatedLink(self, (dialler, answerer), there, back, is_dialer=True, description=what)
        far = SimulatedLink(self, (answerer, dialler), back, there, is_dialer=False, description=what)
        near.other, far.other = far, near
        self.links = [one for one in self.links if not (one._is_closed and one.other._is_closed)]
        self.links += [near, far]
        return near, far

    def is_stopped(self, link: SimulatedLink) -> bool:
        """Whether nothing gets through at present; it will later, as TCP has it."""
        return self._is_apart(link.owner.id, link.peer)

    def cut(self, link: SimulatedLink) -> None:
        """End a link at any byte; one side may not hear of it."""
        chance = self.chance
        ends = [link, link.other]
        for one in ends:
            one.lose(chance)
        if chance.random() < self.weather.half_open:
            ends.pop(chance.randrange(2))
        for one in ends:
            one.hear()

    def cut_some(self) -> None:
        """End one of the links in use."""
        open_links = [one for one in self.links if not one._is_closed]
        if open_links:
            self.cut(self.chance.choice(open_links))

    def die(self, device: DeviceId) -> None:
        """A device's process is gone: its ends work no more, and the others may hear of it or not."""
        for one in self.links:
            if one.owner.id == device and not one._is_closed:
                one.lose(self.chance)
                one.other._out.is_void = True
                one.fail()
                if self.chance.random() >= self.weather.half_open:
                    one.other.hear()

    def part(self, one: DeviceId, other: DeviceId) -> Callable[[], None]:
        """Nothing gets through between two devices until the function returned is called."""
        key = frozenset((one, other))
        self._apart[key] = self._apart.get(key, 0) + 1

        def heal() -> None:
            self._apart[key] -= 1
            for link in self.links:
                link._into.signal()

        return heal

    def heal_all(self, but: Collection[DeviceId] = ()) -> None:
        """From now on everything gets through, and quickly; but to and from some devices nothing does."""
        self._apart = {pair: count for pair, count in self._apart.items() if not pair.isdisjoint(but)}
        self.weather = CLEAR
        for link in self.links:
            link._into.signal()

    def _is_apart(self, one: DeviceId, other: DeviceId) -> bool:
        return self._apart.get(frozenset((one, other)), 0) > 0
