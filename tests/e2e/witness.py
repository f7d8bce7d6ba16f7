"""Processes that change a mount and testify to it: what was begun, and what was acknowledged.

Each worker owns the names that start with its own name. It writes one line to its log, a file outside
the mount, before it begins a change of a name and another after the change was acknowledged, so that
after a crash every name has a known set of states it may be in.
"""

import contextlib
import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SIZES: Final = (0, 1, 300, 4096, 20_000, 66_000, 300_000, 1_200_000)
NAMES_EACH: Final = 6
RECORD_BYTES: Final = 64
ABSENT: Final = 0  # the version of a file that is not there


def content(name: str, version: int) -> bytes:
    """The one content of a version: it says whose it is, and is the same every time."""
    seed = hashlib.blake2b(f"{name} {version}".encode(), digest_size=8).digest()
    chance = random.Random(seed)
    body = chance.randbytes(chance.choice(SIZES))
    return f"{name} {version} {len(body)}\n".encode() + body


def version_of(data: bytes) -> tuple[str, int]:
    """Name and version of a content. AssertionError unless it is that version whole."""
    name, version, _ = data[:200].split(b"\n", 1)[0].decode(errors="replace").split(" ")
    expected = content(name, int(version))
    assert data == expected, f"{name} {version}: {len(data)} bytes, not the {len(expected)} that were written"
    return name, int(version)


@dataclass(slots=True)
class Testimony:
    """What may be true of one name: the acknowledged version, or one begun after it."""

    __test__ = False  # pytest would collect it for its name

    acknowledged: int = ABSENT
    begun: list[int] = field(default_factory=list)

    def allowed(self) -> set[int]:
        return {self.acknowledged, *self.begun}


class Witness:
    """One worker's view: where it works, and its log."""

    def __init__(self, directory: Path, log: Path, beat: int, name: str, seed: int) -> None:
        self.directory = directory
        self.name = name
        self.chance = random.Random(seed)
        self._log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._beat = beat

    def close(self) -> None:
        """The worker has its own copy of the log."""
        os.close(self._log)

    def begin(self, name: str, version: int) -> None:
        os.write(self._log, f"begin {name} {version}\n".encode())

    def done(self, name: str, version: int) -> None:
        """The change was acknowledged. Also tells the test that time has passed."""
        os.write(self._log, f"done {name} {version}\n".encode())
        os.write(self._beat, b".")

    def names(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(NAMES_EACH)]

    def write(self, path: Path, data: bytes, flags: int, *, sync: bool = False) -> None:
        """Write in pieces, and close."""
        descriptor = os.open(path, flags, 0o644)
        try:
            position = 0
            while position < len(data):
                position += os.write(
                    descriptor, data[position : position + self.chance.randrange(1, 200_000)]
                )
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rewrite(witness: Witness) -> None:
    """Truncate and write in place: the commonest way to lose a file."""
    version = 0
    while True:
        name = witness.chance.choice(witness.names())
        version += 1
        witness.begin(name, version)
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        witness.write(witness.directory / name, content(name, version), flags)
        witness.done(name, version)


def save(witness: Witness) -> None:
    """Write a temporary file, fsync it sometimes, rename it over: what careful programs do."""
    version = 0
    while True:
        name = witness.chance.choice(witness.names())
        version += 1
        temporary = witness.directory / f".{name}.{version}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        sync = witness.chance.random() < 0.5
        witness.write(temporary, content(name, version), flags, sync=sync)
        witness.begin(name, version)
        os.rename(temporary, witness.directory / name)
        witness.done(name, version)


def come_and_go(witness: Witness) -> None:
    """Make, move between directories and remove: what is gone stays gone, nothing is there twice."""
    version = 0
    for side in ("left", "right"):
        (witness.directory / f"{witness.name}-{side}").mkdir()
    while True:
        name = witness.chance.choice(witness.names())
        left, right = (witness.directory / f"{witness.name}-{side}" / name for side in ("left", "right"))
        version += 1
        witness.begin(name, version)
        witness.write(left, content(name, version), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        witness.done(name, version)
        for _ in range(witness.chance.randrange(3)):
            os.rename(left, right)
            left, right = right, left
        witness.begin(name, ABSENT)
        os.unlink(left)
        witness.done(name, ABSENT)


def append(witness: Witness) -> None:
    """A log that is fsynced and never closed; version n is the file's first n records."""
    name = f"{witness.name}-log"
    descriptor = os.open(witness.directory / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    version = 0
    while True:
        version += 1
        witness.begin(name, version)
        os.write(descriptor, record(version))
        if witness.chance.random() < 0.3:
            os.fsync(descriptor)
            witness.done(name, version)


def record(number: int) -> bytes:
    return f"record {number} ".encode().ljust(RECORD_BYTES - 1, b"=") + b"\n"


WORK: Final[dict[str, Callable[[Witness], None]]] = {
    "rewriter": rewrite,
    "saver": save,
    "mover": come_and_go,
    "appender": append,
}


def work_until_the_daemon_dies(witness: Witness) -> None:
    """Work; the first error of a mount whose daemon is gone ends it."""
    with contextlib.suppress(ConnectionError, OSError):
        WORK[witness.name.partition("-")[0]](witness)


def read_log(log: Path) -> dict[str, Testimony]:
    """What a worker's log says, by name."""
    found: dict[str, Testimony] = {}
    for line in log.read_text().splitlines():
        word, name, version = line.split(" ")
        testimony = found.setdefault(name, Testimony())
        if word == "begin":
            testimony.begun.append(int(version))
        else:
            testimony.acknowledged = int(version)
            testimony.begun.clear()
    return found
