"""A byte stream over the messages of a data channel: what may be sent, what has come, when it is over. Pure.

A data channel has no back-pressure of its own on the receiving side. So a sender has a window, and whoever
receives gives back what has been taken from it. What is given back is also what is known to have arrived.
"""

import struct
from collections import deque
from typing import Final

from dittofs.errors import FormatError

WINDOW_BYTES: Final = 4 << 20
PIECE_BYTES: Final = 32 << 10
"""In one message; peers take 64 KiB."""
CREDIT_BYTES: Final = 256 << 10
"""Taken before it is given back: seldom, and long before the window is empty."""
LABEL: Final = "dittofs/1"
"""Of the channel."""

_DATA, _CREDIT, _END, _PING = range(4)
_AMOUNT: Final = struct.Struct("!BI")

PING_MESSAGE: Final = bytes([_PING])


class Window:
    """Both directions of one stream. The end of a direction counts as one byte of it."""

    def __init__(self) -> None:
        self._unacknowledged = 0
        self._unpaid = 0
        self._taken = 0
        self._pieces: deque[bytes] = deque()
        self.has_sent_end = False
        self.has_got_end = False
        """The other side sends nothing after what `pieces` are left."""

    @property
    def room(self) -> int:
        """How much may be sent now, with the end not counted."""
        return 0 if self.has_sent_end else max(0, WINDOW_BYTES - 1 - self._unacknowledged)

    @property
    def is_delivered(self) -> bool:
        """Whether the other side has taken all that was sent, and the end."""
        return self.has_sent_end and self._unacknowledged == 0

    def data(self, piece: bytes) -> bytes:
        """The message that carries `piece`, for which there is room."""
        assert 0 < len(piece) <= min(self.room, PIECE_BYTES)
        self._unacknowledged += len(piece)
        return bytes([_DATA]) + piece

    def end(self) -> bytes:
        """The message that says that no more comes."""
        assert not self.has_sent_end
        self.has_sent_end = True
        self._unacknowledged += 1
        return bytes([_END])

    def receive(self, message: bytes) -> None:
        """Take a message of the other side. FormatError if it breaks the rules."""
        kind = message[0] if message else -1
        if kind == _DATA and len(message) > 1 and not self.has_got_end:
            self._owe(len(message) - 1)
            self._pieces.append(message[1:])
        elif kind == _END and len(message) == 1 and not self.has_got_end:
            self._owe(1)
            self.has_got_end = True
        elif kind == _CREDIT and len(message) == _AMOUNT.size:
            _, amount = _AMOUNT.unpack(message)
            if amount > self._unacknowledged:
                raise FormatError("more was given back than was sent")
            self._unacknowledged -= amount
        elif message != PING_MESSAGE:
            raise FormatError("a message that a stream has not")

    def next_piece(self) -> bytes | None:
        """What came next, to be taken; None: nothing is here."""
        return self._pieces.popleft() if self._pieces else None

    def take(self, count: int) -> bytes | None:
        """Note that `count` bytes were taken, the end as one; what gives them back, if it is time."""
        self._taken += count
        is_all = self.has_got_end and self._taken == self._unpaid
        if self._taken < CREDIT_BYTES and not is_all:
            return None
        message = _AMOUNT.pack(_CREDIT, self._taken)
        self._unpaid -= self._taken
        self._taken = 0
        return message

    def _owe(self, count: int) -> None:
        self._unpaid += count
        if self._unpaid > WINDOW_BYTES:
            raise FormatError("more was sent than the window holds")
