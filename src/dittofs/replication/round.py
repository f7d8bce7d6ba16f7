"""Rounds: how a replica that is behind takes what it lacks, as one step (tree.md, "Exchange").

The puller sends its digests, is told the states of the documents that differ, sends its own states of those
of which the other may know more, and gets the differences, all taken before `RoundEnd`. Together they are
what the other had at one instant, and are shown as that (decision 0021).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from dittofs.errors import FormatError
from dittofs.replication.errors import ProtocolError
from dittofs.sync.messages import DIGEST_BYTES, DOCUMENTS
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Difference, DocumentState
from dittofs.tree.tree import Tree
from dittofs.tree.update import decode_state_vector

ROUND_BYTES_MAX: Final = 1 << 30
"""What a round may hold in memory until its end."""
PART_BYTES: Final = 256
"""What a part counts for beside its update."""
States = Sequence[tuple[int, int, bytes, bytes]]
"""(document, epoch number, epoch digest, vector) as it is sent."""


def pack_digests(digests: Sequence[bytes]) -> bytes:
    """The body of `Pull`."""
    return b"".join(digests)


def differing(ours: Sequence[bytes], body: bytes) -> list[int]:
    """The documents whose digest in the body of a `Pull` is not ours."""
    if len(body) != DOCUMENTS * DIGEST_BYTES:
        raise ProtocolError(f"{len(body)} bytes of digests where {DOCUMENTS * DIGEST_BYTES} belong")
    theirs = [body[at : at + DIGEST_BYTES] for at in range(0, len(body), DIGEST_BYTES)]
    return [number for number, (our, their) in enumerate(zip(ours, theirs, strict=True)) if our != their]


def pack_states(numbers: Sequence[int], states: Sequence[DocumentState]) -> States:
    """States of some documents, as they are sent."""
    return [(number, *states[number].epoch, states[number].vector) for number in numbers]


def parse_states(packed: States) -> list[tuple[int, DocumentState]]:
    """States as they were sent. FormatError if a vector is none."""
    parsed = []
    for number, epoch, digest, vector in packed:
        decode_state_vector(vector)
        parsed.append((number, DocumentState(Epoch(epoch, digest), vector)))
    return parsed


def wanted(tree: Tree, theirs: Sequence[tuple[int, DocumentState]]) -> list[int]:
    """The documents of which the other side may know something that `tree` does not."""
    return [number for number, state in theirs if tree.exchange.lacks(number, state)]


class Collector:
    """The parts of one round until its end, in the order they came. Bounded."""

    def __init__(self) -> None:
        self._size = 0
        self.parts: list[Difference] = []

    def add(self, part: Difference) -> None:
        """FormatError when all is too much."""
        self._size += len(part.update) + PART_BYTES
        if self._size > ROUND_BYTES_MAX:
            raise FormatError(f"a round of more than {ROUND_BYTES_MAX >> 20} MiB")
        self.parts.append(part)


class Filling:
    """Of one replica: whether a first round is being taken piece by piece, so that it holds a part of one."""

    def __init__(self) -> None:
        self._count = 0
        self._ended = trio.Event()
        self._ended.set()

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Until the block ends nobody is given what is here."""
        if not self._count:
            self._ended = trio.Event()
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._ended.set()

    async def ended(self) -> None:
        """Return when none is, at once if none was; and let others run in any case."""
        await self._ended.wait()
