"""Asking a local network who has the invitation of a number: one broadcast datagram, one answer (wire.md).

It answers within a millisecond, and where multicast is filtered. What is heard is a hint from anybody on the
network. Nothing is sent but in answer to a question, and no answer is longer than its question, so nobody can
make this device flood another.
"""

import ipaddress
import math
import socket
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Final

import ifaddr
import structlog
import trio

from dittofs.address import Address
from dittofs.clock import Entropy

PORT: Final = 7347
ASK_INTERVAL_S: Final = 1.0
ANSWERS_PER_S_MAX: Final = 64
ANSWERS_PER_HOST_MAX: Final = 8
DATAGRAMS_PER_S_MAX: Final = 2000
"""More are left to the kernel, which drops them: whoever floods takes no more of this device than that."""
NEIGHBOURS_S: Final = 1.0
HEARD_MAX: Final = 64
"""Different answers that one question takes up."""
ECHO_BYTES: Final = 8

_QUESTION: Final = struct.Struct("!8s8sH14x")  # mark, echo, slot; as long as an answer at least
_ANSWER: Final = struct.Struct("!8s8sHBH")  # mark, echo, slot, state, port
_ASKS: Final = b"ditto?\x00\x01"
_SAYS: Final = b"ditto!\x00\x01"
_RECEIVE_BYTES: Final = 256
_BUFFER_BYTES: Final = 64 << 10
_BROADCASTING_PREFIX: Final = 31  # RFC 3021: longer ones have no broadcast address

log = structlog.get_logger(__name__)


class State(IntEnum):
    """What a device says has become of its invitation."""

    OPEN = 0
    USED = 2
    LATE = 3
    BURNT = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """Of this device: an invitation, and the port where links are accepted."""

    state: State
    port: int


@dataclass(frozen=True, slots=True)
class Heard:
    """Somebody says so of an invitation with the number that was asked for."""

    address: Address
    state: State


class Unasked(Exception):
    """The datagram is none that this module sends."""


def question(slot: int, echo: bytes) -> bytes:
    """Who has the invitation of that number? `echo` comes back in the answers."""
    return _QUESTION.pack(_ASKS, echo, slot)


def parse_question(data: bytes) -> tuple[int, bytes]:
    """Slot and echo. `Unasked` if it is no question."""
    if len(data) != _QUESTION.size:
        raise Unasked
    mark, echo, slot = _QUESTION.unpack(data)
    if mark != _ASKS:
        raise Unasked
    return slot, echo


def answer(slot: int, echo: bytes, offer: Offer) -> bytes:
    """This device has it."""
    return _ANSWER.pack(_SAYS, echo, slot, offer.state, offer.port)


def parse_answer(data: bytes, slot: int, echo: bytes) -> Offer:
    """What an answer to that very question offers. `Unasked` if it is none."""
    if len(data) != _ANSWER.size:
        raise Unasked
    mark, its_echo, its_slot, state, port = _ANSWER.unpack(data)
    if (mark, its_echo, its_slot) != (_SAYS, echo, slot) or state not in set(State) or not port:
        raise Unasked
    return Offer(State(state), port)


@dataclass(slots=True)
class Pace:
    """How much is read and answered within one second. Pure."""

    _second: int = -1
    _read: int = 0
    _answers: dict[str, int] = field(default_factory=dict)

    def pause_s(self, now: float) -> float:
        """Count one datagram; how long to read no more."""
        self._turn(now)
        self._read += 1
        return 0.0 if self._read <= DATAGRAMS_PER_S_MAX else math.floor(now) + 1 - now

    def may_answer(self, host: str, now: float) -> bool:
        """Whether `host` gets an answer; counts it if so."""
        self._turn(now)
        given = self._answers.get(host, 0)
        if given >= ANSWERS_PER_HOST_MAX or sum(self._answers.values()) >= ANSWERS_PER_S_MAX:
            return False
        self._answers[host] = given + 1
        return True

    def _turn(self, now: float) -> None:
        if (second := math.floor(now)) != self._second:
            self._second, self._read = second, 0
            self._answers.clear()


@dataclass(slots=True)
class Neighbours:
    """Who is in a subnet of this machine. All adapters are read once in NEIGHBOURS_S at most."""

    _look: Callable[[], Collection[ipaddress.IPv4Network]]
    _known: Collection[ipaddress.IPv4Network] = ()
    _until: float = -math.inf

    def has(self, host: str, now: float) -> bool:
        """Whether the address is in one of them, as they are now or were a moment ago."""
        if now >= self._until:
            self._known, self._until = self._look(), now + NEIGHBOURS_S
        return any(ipaddress.IPv4Address(host) in subnet for subnet in self._known)


async def answering(
    find: Callable[[int], Offer | None],
    *,
    bind: str | None = None,
    port: int = PORT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer who asks from a subnet of this machine, until cancelled. Returns if `port` cannot be had.

    `find` tells what there is of a number. With `bind`, answers come from that address, and go to its
    subnet alone.
    """
    try:
        listening, speaking = _bound("", port, is_shared=True), _bound(bind or "", 0)
    except OSError as error:
        log.info("this device is not asked for by number", reason=error.strerror)
        task_status.started()
        return
    pace, neighbours = Pace(), Neighbours(partial(subnets, bind))
    with listening, speaking:
        task_status.started()
        while True:
            data, host, its_port = await _received(listening, pace)
            try:
                slot, echo = parse_question(data)
            except Unasked:
                continue
            offer, now = find(slot), trio.current_time()
            # Outsiders' addresses are easily made up: they take nothing of what is answered in a second.
            if offer is not None and neighbours.has(host, now) and pace.may_answer(host, now):
                await _send(speaking, answer(slot, echo, offer), host, its_port)


async def ask(slot: int, heard: Callable[[Heard], None], entropy: Entropy, *, port: int = PORT) -> None:
    """Ask every ASK_INTERVAL_S in all subnets until cancelled. Each different answer is `heard` once."""
    echo = entropy(ECHO_BYTES)
    known: set[Heard] = set()

    async def listen(speaking: trio.socket.SocketType) -> None:
        pace = Pace()
        while True:
            data, host, _ = await _received(speaking, pace)
            try:
                offer = parse_answer(data, slot, echo)
            except Unasked:
                continue
            one = Heard(Address.of(host, offer.port), offer.state)
            if one not in known and len(known) < HEARD_MAX:
                known.add(one)
                heard(one)

    try:
        speaking = _bound("", 0)
    except OSError as error:
        log.info("nobody can be asked for by number", reason=error.strerror)
        await trio.sleep_forever()
    with speaking:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, speaking)
            while True:
                for subnet in subnets():
                    if subnet.prefixlen < _BROADCASTING_PREFIX:
                        await _send(speaking, question(slot, echo), str(subnet.broadcast_address), port)
                await trio.sleep(ASK_INTERVAL_S)


def subnets(bind: str | None = None) -> set[ipaddress.IPv4Network]:
    """The IPv4 subnets that this machine is in: by all its addresses, or by `bind` alone."""
    found = set()
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if isinstance(ip.ip, str) and bind in (None, ip.ip):
                found.add(ipaddress.IPv4Network((ip.ip, ip.network_prefix), strict=False))
    return found


async def _received(listening: trio.socket.SocketType, pace: Pace) -> tuple[bytes, str, int]:
    """The next datagram, and who sent it. One that came too fast is thrown away."""
    while True:
        try:
            data, (host, port) = await listening.recvfrom(_RECEIVE_BYTES)
        except OSError:  # of something sent earlier, or the network went
            await trio.sleep(ASK_INTERVAL_S)
            continue
        pause_s = pace.pause_s(trio.current_time())
        if not pause_s:
            return data, host, port
        log.debug("a flood of datagrams", host=host)
        await trio.sleep(pause_s)


async def _send(speaking: trio.socket.SocketType, data: bytes, host: str, port: int) -> None:
    with suppress(OSError):  # a network that has gone, or that takes no broadcast
        await speaking.sendto(data, (host, port))


def _bound(host: str, port: int, *, is_shared: bool = False) -> trio.socket.SocketType:
    """A socket that may broadcast. Shared: every device of this machine hears what is broadcast to `port`."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if is_shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        made.setblocking(False)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return trio.socket.from_stdlib_socket(made)
