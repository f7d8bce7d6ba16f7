"""What the kernel knows of a TCP connection: whether the machine at the other end still answers.

It is that machine's kernel that answers, so one that is merely slow, or whose program hangs, is not taken
for one that is gone (docs/decisions/0096).
"""

import contextlib
import socket
import struct
from typing import Final

import trio

# Nothing is on its way: a probe after 2 s, three of them a second apart, then the kernel gives up.
KEEPALIVE_IDLE_S: Final = 2
KEEPALIVE_INTERVAL_S: Final = 1
KEEPALIVE_PROBES: Final = 3
TRIES: Final = 2
"""What was sent so often again, or asked so often, for nothing, has waited; once may be chance."""

_INFO: Final = struct.Struct("=BBBBBBBB13I")  # struct tcp_info, as far as tcpi_last_ack_recv (tcp(7))
_RETRANSMITS, _PROBES, _RTO, _UNACKED, _LAST_DATA, _LAST_ACK = 2, 3, 8, 12, 19, 20
_SOONEST_S: Final = 0.001


class TcpPulse:
    """A `Pulse` of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket
        try:
            self.local_host = str(self._socket.getsockname()[0])
        except OSError:  # it is gone already, as its first use will tell
            self.local_host = ""

    def unanswered_s(self) -> float:
        """Of what is on its way the kernel itself would tell after minutes; so it is looked at here.

        A full window is no silence: the other kernel answers the probes of it.
        """
        try:
            raw = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
            info = _INFO.unpack(raw)
        except (OSError, struct.error):  # closed, as its next use tells
            return 0.0
        if not (info[_UNACKED] or info[_PROBES]):
            return 0.0
        heard_s: float = min(info[_LAST_DATA], info[_LAST_ACK]) / 1e3
        if max(info[_RETRANSMITS], info[_PROBES]) < TRIES:
            heard_s = min(heard_s, info[_RTO] / 1e6)
        return max(_SOONEST_S, heard_s)


def watch_idle(stream: trio.SocketStream) -> None:
    """Have the kernel end the connection when the other machine is gone while nothing is on its way."""
    with contextlib.suppress(OSError):  # the connection is gone already, as its first use will tell
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
