"""Further links to a device that much is fetched from, over its other addresses, for chunks alone.

Which link brings the next chunk is the scheduler's choice, by what each was measured to carry: so a device
that was found at a slow address first is soon read over a faster one, and two networks carry what both can
(docs/decisions/0109).
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import structlog
import trio

from dittofs.address import Address
from dittofs.errors import DittoError
from dittofs.identity.keys import Device, DeviceId
from dittofs.links.link import Alpn
from dittofs.links.tcp import TRANSPORT, Dial
from dittofs.links.ways import way_to
from dittofs.replication import greeting
from dittofs.replication.calls import tcp_address, transport_of
from dittofs.replication.peers import Peers
from dittofs.replication.session import Session
from dittofs.replication.upkeep import contained

log = structlog.get_logger()

BEGUN_MAX: Final = 2
"""That this side begins, beside the link in use."""
LOOK_S: Final = 1.0
BUSY_BYTES: Final = 64 << 10
"""So much came from a device between two looks, and more is awaited: another link may help."""
CONNECT_PATIENCE_S: Final = 3.5
REST_S: Final = 60.0
"""So long an address is left alone that brought no link, or whose link ended."""
IDLE_S: Final = 10.0
IDLE_BYTES: Final = 4 << 10
"""A link that carried less in that time carries pings."""

Addresses = Callable[[Peers, DeviceId], list[Address]]


class Lanes:
    """Of one device. `run` must be running; it does nothing before `look`."""

    def __init__(
        self, device: Device, volumes: Callable[[], Iterable[Peers]], addresses: Addresses, dial: Dial
    ) -> None:
        self._device = device
        self._dial = dial
        self._volumes = volumes
        self._addresses = addresses
        self._wake = trio.Event()
        self._rests: dict[tuple[Peers, Address], float] = {}
        self._dialling: set[tuple[Peers, Address]] = set()
        self._came: dict[Session, int] = {}
        self._quiet: dict[Session, tuple[float, int]] = {}

    def look(self) -> None:
        """Much is about to be fetched."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while any(peers.fetcher.is_busy for peers in self._volumes()) or self._own():
                    for peers in self._volumes():
                        self._begin_due(peers, nursery)
                    self._end_idle()
                    await trio.sleep(LOOK_S)
                now = trio.current_time()
                self._rests = {key: until for key, until in self._rests.items() if until > now}
                self._came.clear()
                self._quiet.clear()

    def _own(self) -> list[Session]:
        """Those that this side began."""
        return [one for peers in self._volumes() for one in peers.beside() if one.link.is_dialer]

    def _begin_due(self, peers: Peers, nursery: trio.Nursery) -> None:
        for session in peers.open_sessions:
            total = session.bytes_received
            came = total - self._came.get(session, total)
            self._came[session] = total
            if (
                came < BUSY_BYTES
                or not peers.fetcher.awaits(session)
                or transport_of(session.link) != TRANSPORT
            ):
                continue
            address = self._next(peers, session)
            if address is not None:
                self._dialling.add((peers, address))
                nursery.start_soon(contained, partial(self._hold, peers, session.device, address))

    def _next(self, peers: Peers, session: Session) -> Address | None:
        """The likeliest address of a device at which another link may be another path."""
        beside = peers.beside(session.device)
        if sum(one.link.is_dialer for one in beside) >= BEGUN_MAX:
            return None
        links = [one.link for one in (session, *beside)]
        used = {address.host if address else "" for address in map(tcp_address, links)}
        now = trio.current_time()
        for address in self._addresses(peers, session.device):
            key = peers, address
            if key in self._dialling or self._rests.get(key, now) > now:
                continue
            if all(_is_elsewhere(address.host, host) for host in used):
                return address
        return None

    async def _hold(self, peers: Peers, device: DeviceId, address: Address) -> None:
        key = peers, address
        try:
            link = await self._dial(
                address.host,
                address.port,
                self._device,
                alpn=Alpn.SESSION,
                admits=lambda who, _alpn: who == device,
                patience_s=CONNECT_PATIENCE_S,
            )
            try:
                await greeting.dialled(link, peers, is_beside=True)
            finally:
                await link.aclose()
        except DittoError as error:
            log.debug("no further link", address=str(address), reason=str(error))
        finally:
            self._dialling.discard(key)
            self._rests[key] = trio.current_time() + REST_S

    def _end_idle(self) -> None:
        now = trio.current_time()
        for session in self._own():
            total = session.bytes_received + session.outbox.total_bytes
            since, then = self._quiet.get(session, (now, total))
            if total - then > IDLE_BYTES:
                since, then = now, total
            self._quiet[session] = since, then
            if now - since >= IDLE_S:
                session.end("nothing is asked for over it any more")


def _is_elsewhere(host: str, used: str) -> bool:
    """Whether a link there takes another way: by another network of this machine, or of the other one.

    Of that one only IPv4 tells: a network gives a machine several IPv6 addresses.
    """
    way = way_to(host)
    is_other_host = ":" not in host + used and host != used
    return bool(way) and (way != way_to(used) or is_other_host)
