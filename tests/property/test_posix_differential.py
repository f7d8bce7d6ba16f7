"""The volume and a real directory agree, operation by operation: result, errno, content, attributes.

Between operations the volume publishes, restarts, or dies and comes back: nothing of that may show.
"""

import ctypes
import errno
import os
import random
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dittofs.errors import FSError
from dittofs.local_disk import LocalDisk
from dittofs.tree.record import Kind
from tests.simulation.rig import Rig

NAMES = ["a", "b", "c", "d"]
STEPS = 120
SEEDS = range(24)
_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2


class Native:
    """The same calls on a real directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, path: str) -> str:
        return os.path.join(self.root, path)

    def is_through_link(self, path: str) -> bool:
        parts = path.split("/")
        return any(os.path.islink(self.path("/".join(parts[:end]))) for end in range(1, len(parts)))

    def rename(self, old: str, new: str, flags: int) -> None:
        done = _renameat2(-100, os.fsencode(self.path(old)), -100, os.fsencode(self.path(new)), flags)
        if done:
            raise OSError(ctypes.get_errno(), "renameat2")

    def write(self, path: str, offset: int, data: bytes, flags: int) -> None:
        fd = os.open(self.path(path), flags | os.O_NOFOLLOW, 0o644)
        try:
            os.pwrite(fd, data, offset)
        finally:
            os.close(fd)

    def tree(self) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for directory, names, files in os.walk(self.root):
            for name in names + files:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                shown = os.path.relpath(path, self.root)
                content: Any = None
                if stat.S_ISREG(status.st_mode):
                    content = Path(path).read_bytes()
                elif stat.S_ISLNK(status.st_mode):
                    content = os.readlink(path)
                nlink = status.st_nlink
                found[shown] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), nlink, content)
        return found


def rig_tree(rig: Rig, path: str = "") -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for name in rig.listing(path):
        shown = f"{path}/{name}" if path else name
        inode = rig.walk(shown)
        status = rig.volume.state.stat(inode)
        content: Any = None
        if inode.kind is Kind.FILE:
            content = rig.read(shown)
            assert len(content) == status.size
        elif inode.kind is Kind.SYMLINK:
            content = os.fsdecode(rig.volume.names.target(inode))
        found[shown] = (stat.S_IFMT(status.full_mode), status.mode, status.nlink, content)
        if inode.kind is Kind.DIRECTORY:
            found |= rig_tree(rig, shown)
    return found


async def outcome(act: Callable[[], Any]) -> int:
    try:
        answer = act()
        if isinstance(answer, Awaitable):
            await answer
    except (FSError, OSError) as error:
        return error.errno or 0
    return 0


async def rig_write(rig: Rig, path: str, offset: int, data: bytes, flags: int) -> None:
    if rig.exists(path) and rig.walk(path).kind is Kind.SYMLINK:
        raise FSError(errno.ELOOP)
    handle = rig.open_file(path, flags)
    try:
        await rig.write_at(handle, offset, data)
    finally:
        rig.close_file(handle)


def random_path(chance: random.Random) -> str:
    return "/".join(chance.choice(NAMES) for _ in range(chance.choice([1, 1, 2, 2, 3])))


@dataclass(frozen=True)
class Step:
    """One random operation."""

    kind: str
    one: str
    other: str
    data: bytes
    offset: int
    flags: int
    mode: int
    create: int

    def __str__(self) -> str:
        return f"{self.kind} {self.one} {self.other} {self.offset} {len(self.data)} {self.flags}"


KINDS = (
    "write write write append truncate mkdir mkdir symlink link unlink unlink rmdir rename rename rename "
    "chmod publish restart kill"
).split()


def random_step(chance: random.Random) -> Step:
    return Step(
        kind=chance.choice(KINDS),
        one=random_path(chance),
        other=random_path(chance),
        data=chance.randbytes(chance.choice([0, 1, 50, 3000, 90_000])),
        offset=chance.choice([0, 0, 10, 5000]),
        flags=chance.choice([0, 0, 0, 1, 2]),
        mode=chance.choice([0o600, 0o644, 0o700]),
        create=os.O_RDWR | os.O_CREAT | chance.choice([0, os.O_TRUNC]),
    )


async def both(rig: Rig, native: Native, step: Step) -> tuple[int, int]:
    """The errno on both sides; 0 where it succeeded."""
    one, other = step.one, step.other
    path, other_path = native.path(one), native.path(other)
    match step.kind:
        case "write":
            return (
                await outcome(lambda: rig_write(rig, one, step.offset, step.data, step.create)),
                await outcome(lambda: native.write(one, step.offset, step.data, step.create)),
            )
        case "append":
            size = len(native_read(native, one))
            return (
                await outcome(lambda: rig_write(rig, one, size, step.data, os.O_RDWR)),
                await outcome(lambda: native.write(one, size, step.data, os.O_RDWR)),
            )
        case "truncate":
            return (
                await outcome(lambda: rig.truncate(one, step.offset)),
                await outcome(lambda: os.truncate(path, step.offset)),
            )
        case "mkdir":
            return await outcome(lambda: rig.mkdir(one)), await outcome(lambda: os.mkdir(path, 0o755))
        case "symlink":
            return (
                await outcome(lambda: rig.symlink(other, one)),
                await outcome(lambda: os.symlink(other, path)),
            )
        case "link":
            return (
                await outcome(lambda: rig.link(one, other)),
                await outcome(lambda: os.link(path, other_path, follow_symlinks=False)),
            )
        case "unlink":
            return await outcome(lambda: rig.unlink(one)), await outcome(lambda: os.unlink(path))
        case "rmdir":
            return await outcome(lambda: rig.rmdir(one)), await outcome(lambda: os.rmdir(path))
        case "rename":
            return (
                await outcome(lambda: rig.rename(one, other, step.flags)),
                await outcome(lambda: native.rename(one, other, step.flags)),
            )
        case "chmod":
            return (
                await outcome(lambda: rig.chmod(one, step.mode)),
                await outcome(lambda: os.chmod(path, step.mode)),
            )
        case "publish":
            await rig.publish()
        case "restart":
            await rig.close()
            rig.open()
        case _:
            rig.abandon()
            rig.open()
    return 0, 0


async def run(rig: Rig, native: Native, chance: random.Random) -> None:
    trail: list[str] = []
    for number in range(STEPS):
        step = random_step(chance)
        if native.is_through_link(step.one) or native.is_through_link(step.other):
            continue  # following links on the way is the kernel's work
        if step.kind in ("truncate", "chmod") and os.path.islink(native.path(step.one)):
            continue
        trail.append(f"{number} {step}")
        got, want = await both(rig, native, step)
        assert errno.errorcode.get(got) == errno.errorcode.get(want), "\n".join(trail)
        assert rig_tree(rig) == native.tree(), "\n".join(trail)


def native_read(native: Native, path: str) -> bytes:
    try:
        return Path(native.path(path)).read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_volume_and_a_real_directory_agree(seed: int, tmp_path: Path) -> None:
    root = tmp_path / "native"
    root.mkdir()
    os.umask(0o022)
    rig = Rig(LocalDisk(str(tmp_path / "store")), seed=seed)
    try:
        await run(rig, Native(root), random.Random(seed))
    finally:
        rig.abandon()
