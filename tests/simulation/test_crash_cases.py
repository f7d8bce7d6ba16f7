"""Published cases of lost promises, on a disk that drops what was not synced, and short scripts like them."""

import os
import random
import stat

import pytest

from dittofs.tree.record import Kind
from tests.simulation.crash_cases import CASES, Found, Model, Step, bounded, explain, outcomes
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig

SEEDS = 6
SAMPLE = 25
_KINDS = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.SYMLINK: "symlink"}
_RECOVERED = " (recovered, "


class Program:
    """Makes the calls of a script on a volume."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self.rig = Rig(disk)
        self._contents = Model()

    async def do(self, step: Step) -> None:
        rig = self.rig
        match step:
            case Step("mkdir", (path,)):
                rig.mkdir(path)
            case Step("touch", (path,)):
                rig.close_file(rig.open_file(path, os.O_WRONLY | os.O_CREAT))
            case Step("write", (path, size)):
                await rig.write(path, self._contents.content(size))
            case Step("append", (path, size)):
                handle = rig.open_file(path, os.O_WRONLY)
                await rig.write_at(handle, rig.stat(path).size, self._contents.content(size))
                rig.close_file(handle)
            case Step("truncate", (path, size)):
                rig.truncate(path, int(size))
            case Step("symlink", (target, path)):
                rig.symlink(target, path)
            case Step("link", (old, new)):
                rig.link(old, new)
            case Step("unlink", (path,)):
                await rig.unlink(path)
            case Step("rmdir", (path,)):
                await rig.rmdir(path)
            case Step("rename", (old, new)):
                await rig.rename(old, new)
            case Step("chmod", (path, mode)):
                rig.chmod(path, int(mode, 8))
            case Step("fsync", (path,)):
                await rig.volume.files.fsync(rig.walk("" if path == "." else path))
            case Step("sync", ()):
                await rig.volume.files.sync()
            case _:
                raise AssertionError(step)


def seen(rig: Rig) -> Found:
    """Everything that is there, but for what a crash left beside."""
    out: Found = {}
    numbers: dict[int, int] = {}

    def walk(prefix: str) -> None:
        for name in rig.listing(prefix):
            path = f"{prefix}/{name}" if prefix else name
            if name in (".", "..") or _RECOVERED in name:
                continue
            found = rig.stat(path)
            kind = _KINDS[found.kind]
            number = numbers.setdefault(found.number, len(numbers))
            data = b""
            if kind == "file":
                data = rig.read(path)
            elif kind == "symlink":
                data = rig.volume.names.target(rig.walk(path))
            mode = stat.S_IMODE(found.mode) if kind == "file" else 0
            out[path] = (kind, frozenset({data}), mode, number)
            if kind == "directory":
                walk(path)

    walk("")
    return out


async def check(steps: tuple[Step, ...], *, publishes: bool) -> None:
    """The script, then power cuts and a kill: what comes back is an outcome that was promised."""
    disk = SimulatedDisk()
    program = Program(disk)
    for step in steps:
        await program.do(step)
        if publishes:
            await program.rig.publish()
    text = "; ".join(f"{step.call} {' '.join(step.args)}" for step in steps)
    allowed = outcomes(steps)
    for seed in range(SEEDS):
        after = disk.fork()
        after.crash(seed)
        back = Rig(after, seed=7, machine="machine/boot-2")
        problem = explain(seen(back), allowed)
        assert problem is None, f"{text}\nafter power cut {seed}: {problem}"
        await back.publish()
        problem = explain(seen(back), allowed)
        assert problem is None, f"{text}\nafter power cut {seed}, when all was published: {problem}"
        back.abandon()
    killed = disk.fork()
    killed.kill()
    problem = explain(seen(Rig(killed, seed=7)), allowed[-1:])
    assert problem is None, f"{text}\nafter a kill: {problem}"


@pytest.mark.parametrize("publishes", [False, True], ids=["at once", "published between"])
@pytest.mark.parametrize("name", CASES)
async def test_a_published_case_keeps_its_promise(name: str, publishes: bool) -> None:
    await check(CASES[name], publishes=publishes)


@pytest.mark.parametrize("publishes", [False, True], ids=["at once", "published between"])
async def test_every_script_of_one_call_keeps_its_promise(publishes: bool) -> None:
    for steps in bounded(1):
        await check(steps, publishes=publishes)


async def test_scripts_of_two_calls_keep_their_promise() -> None:
    for steps in random.Random(1).sample(list(bounded(2)), SAMPLE):
        await check(steps, publishes=False)


@pytest.mark.soak  # some minutes
@pytest.mark.parametrize("publishes", [False, True], ids=["at once", "published between"])
async def test_every_script_of_two_calls_keeps_its_promise(publishes: bool) -> None:
    for steps in bounded(2):
        await check(steps, publishes=publishes)
