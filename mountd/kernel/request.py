"""One request of the kernel, as bytes that are not trusted."""

import errno
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from struct import Struct
from types import CoroutineType
from typing import Any

from dittofs.errors import DittoError
from dittofs.volume.state import Caller

Answer = bytes | Coroutine[Any, Any, bytes] | None
"""The body of a reply, a coroutine that returns it, or None: the kernel waits for none."""


class Malformed(DittoError):
    """A request whose bytes make no sense."""

    errno = errno.EIO


@dataclass(slots=True)
class Request:
    """Header and body. The body's memory is used again once the request is answered."""

    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    body: memoryview

    def unpack(self, layout: Struct) -> tuple[Any, ...]:
        """The structure the body begins with. Malformed if it is longer than the body."""
        if len(self.body) < layout.size:
            raise Malformed(f"request {self.opcode} has {len(self.body)} bytes, not {layout.size}")
        return layout.unpack_from(self.body)

    def name(self, offset: int = 0) -> bytes:
        """The one name after `offset` bytes."""
        return self.names(1, offset)[0]

    def names(self, count: int, offset: int = 0) -> list[bytes]:
        """Strings ended by NUL after `offset` bytes. Malformed if there are fewer than `count`."""
        parts = bytes(self.body[offset:]).split(b"\0", count)
        if len(parts) <= count:
            raise Malformed(f"request {self.opcode} has {len(parts) - 1} names, not {count}")
        return parts[:count]

    def caller(self, umask: int = 0) -> Caller:
        return Caller(self.uid, self.gid, self.pid, umask)


Handlers = Mapping[int, Callable[[Request], Answer]]
"""By opcode."""


def then(answer: Any, pack: Callable[[Any], bytes]) -> Answer:
    """What a volume method gave, packed now or when it has been waited for."""
    if isinstance(answer, CoroutineType):
        return _then(answer, pack)
    return pack(answer)


async def _then(answer: Coroutine[Any, Any, Any], pack: Callable[[Any], bytes]) -> bytes:
    return pack(await answer)


def done(_result: object = None) -> bytes:
    """The answer of what succeeds without a word."""
    return b""
