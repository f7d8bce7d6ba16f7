"""What a transport delivers: an encrypted, ordered stream of bytes to one device that has proven its key."""

import errno as _errno
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from dittofs.errors import DittoError
from dittofs.identity.keys import DeviceId


class Alpn(StrEnum):
    """What a link is for; agreed in the handshake, so that strangers are admitted to pairing alone."""

    SESSION = "dittofs/1"
    PAIRING = "dittofs-pair/1"


Admits = Callable[[DeviceId, Alpn], bool]
"""Whether a device may have a link for that purpose, now. Asked during the handshake and after it."""


class LinkBroken(DittoError):
    """The link, or the attempt to make one, ended before its time. Another attempt may succeed."""

    errno = _errno.ECONNRESET


class HandshakeRefused(LinkBroken):
    """One side does not admit the other, or does not speak the protocol. Trying again soon will not help."""

    errno = _errno.EACCES


class Pulse(Protocol):
    """What a transport knows of the path beneath a link."""

    @property
    def local_host(self) -> str:
        """This machine's address at its end; empty: the transport does not say."""

    def unanswered_s(self) -> float | None:
        """How long the other machine has answered nothing of what it was sent, to its transport's knowledge.

        0.0: nothing is unanswered. None: the transport does not know. A machine that is slow, or whose
        program stands still, answers all the same.
        """


class NoPulse:
    """A `Pulse` of a transport that knows nothing."""

    local_host = ""

    def unanswered_s(self) -> float | None:
        return None


class Link(Protocol):
    """An encrypted, ordered stream of bytes to one device. Whoever holds it closes it."""

    @property
    def peer(self) -> DeviceId:
        """SHA-256 of `certificate`, whose key the other side has proven to hold."""

    @property
    def certificate(self) -> bytes:
        """The other side's certificate, DER."""

    @property
    def alpn(self) -> Alpn:
        """What the link is for."""

    @property
    def is_dialer(self) -> bool:
        """Whether this side began it."""

    @property
    def description(self) -> str:
        """For logs and status: `tcp 192.168.1.7:4001`."""

    @property
    def pulse(self) -> Pulse:
        """What is known of the path."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; return when the transport has taken it. LinkBroken.

        One task at a time. Waits while the other side does not receive. After a cancelled call
        nothing can be sent any more.
        """

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        """Between 1 and `max_bytes` bytes, or b"" once the other side has closed. LinkBroken.

        LinkBroken also when the stream ends without the other side's goodbye: what was received
        before is genuine, but something may be missing. One task at a time, beside one that
        sends. A cancelled call loses nothing. Returns at once, without a checkpoint, while
        bytes that have arrived are left, which are less than 256 KiB.
        """

    def exporter(self, label: str, length: int) -> bytes:
        """`length` bytes that only the two ends of this very link know (RFC 8446, 7.5; empty context)."""

    async def aclose(self) -> None:
        """Say goodbye and close: the other side receives all that was sent, then b"".

        Takes a second at most. Closing twice is not an error. When cancelled, or while another
        task sends, it closes without the goodbye.
        """
