"""A volume through kills and power cuts at every instant: what was acknowledged is there, and nothing torn.

Every change of names and every close is one journal transaction, so what comes back is the state after
some operation: after a kill the last acknowledged one (or the one under way), after a power cut none
earlier than the last fsync.
"""

import contextlib
import random
from dataclasses import dataclass, field

import pytest
import trio

from dittofs.errors import DiskError, DittoError
from dittofs.tree.record import Kind
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig

NAMES = ["a", "b", "c", "d/e", "d/f"]
STEPS = 40
SIZES = [0, 10, 3_000, 70_000, 300_000]
Shown = dict[str, bytes]


@dataclass
class Instant:
    """A copy of the disk just before an event, and what had been promised by then."""

    event: str
    disk: SimulatedDisk
    acknowledged: int
    begun: int
    synced: int


@dataclass
class Told:
    """A history: the state after each operation, and every instant at which the disk changed."""

    states: list[Shown] = field(default_factory=lambda: [{}])
    instants: list[Instant] = field(default_factory=list)
    begun: int = 0
    synced: int = 0


async def tell(seed: int, told: Told, disk: SimulatedDisk) -> None:
    chance = random.Random(seed)
    rig = Rig(disk, seed=seed)
    rig.mkdir("d")
    await rig.volume.files.sync()

    def remember(event: str) -> None:
        acknowledged = len(told.states) - 1
        told.instants.append(Instant(event, disk.fork(), acknowledged, told.begun, told.synced))

    disk.hook = remember
    for step in range(STEPS):
        shown = dict(told.states[-1])
        told.begun = len(told.states)
        one, other = chance.choice(NAMES), chance.choice(NAMES)
        # Each version says which it is, in every block: a mixture of two cannot pass for either.
        data = (b"%08d" % step) * (chance.choice(SIZES) // 8)
        match chance.choice(
            ["write", "write", "write", "rename", "rename", "unlink", "publish", "fsync", "overwrite"]
        ):
            case "write":
                await rig.write(one, data)
                shown[one] = data
            case "overwrite" if shown.get(one):
                handle = rig.open_file(one, 2)
                at = chance.randrange(len(shown[one]))
                await rig.write_at(handle, at, b"#" * 5_000)
                rig.close_file(handle)
                old = shown[one]
                shown[one] = old[:at] + b"#" * 5_000 + old[at + 5_000 :]
            case "rename" if one in shown and one != other:
                await rig.rename(one, other)
                shown[other] = shown.pop(one)
            case "unlink" if one in shown:
                await rig.unlink(one)
                del shown[one]
            case "fsync" if one in shown:
                handle = rig.open_file(one, 2)
                await rig.volume.files.fsync(handle.inode)
                rig.close_file(handle)
                await rig.volume.files.sync()
                told.synced = len(told.states)
            case "publish":
                await rig.publish()
            case _:
                continue
        told.states.append(shown)
    await rig.volume.background_sync()
    await rig.close()
    told.synced = told.begun = len(told.states) - 1
    remember("end")
    disk.hook = None


pytestmark = pytest.mark.logs_warning("staged content cannot be read", "staged content was never durable")


@pytest.fixture(scope="module", params=[1, 2, 3])
def told(request: pytest.FixtureRequest) -> Told:
    told = Told()
    trio.run(tell, request.param, told, SimulatedDisk())
    return told


def come_back(disk: SimulatedDisk, machine: str) -> Rig:
    return Rig(disk, seed=99, machine=machine)


def show(rig: Rig) -> tuple[Shown, list[bytes]]:
    """What is at its name, and what recovery put beside."""
    shown: Shown = {}
    beside: list[bytes] = []
    for directory in ("", "d"):
        for name in rig.listing(directory):
            path = f"{directory}/{name}" if directory else name
            if rig.walk(path).kind is Kind.DIRECTORY:
                continue
            if "(recovered" in name:
                beside.append(rig.read(path))
            else:
                shown[path] = rig.read(path)
    return shown, beside


def end(rig: Rig) -> None:
    with contextlib.suppress(DittoError, DiskError):
        rig.abandon()


def test_after_a_kill_at_any_instant_everything_closed_is_there(told: Told) -> None:
    assert len(told.instants) > 200
    for instant in told.instants[::3]:
        disk = instant.disk.fork()
        disk.kill()
        rig = come_back(disk, "machine/boot-1")
        shown, _ = show(rig)
        allowed = told.states[instant.acknowledged : instant.begun + 1]
        assert shown in allowed, (instant.event, instant.acknowledged, _difference(shown, allowed[0]))
        trio.run(rig.publish)
        assert show(rig)[0] == shown, f"publication changed what is shown, after {instant.event}"
        end(rig)


def test_after_a_power_cut_at_any_instant_what_was_fsynced_is_there_and_nothing_is_torn(told: Told) -> None:
    for number, instant in enumerate(told.instants[::4]):
        disk = instant.disk.fork()
        disk.crash(number)
        rig = come_back(disk, "machine/boot-2")
        shown, _ = show(rig)
        # A file renamed after its last write, neither synced, may be an earlier version under the new name.
        known = {content for state in told.states for content in state.values()}
        for path, content in shown.items():
            assert content in known, f"{path} is torn, after {instant.event}"
        settled = told.states[instant.synced]
        later = told.states[instant.synced : instant.begun + 1]
        for path, content in settled.items():
            found, allowed = shown.get(path), {state.get(path) for state in later}
            if allowed == {content}:
                assert found == content, f"{path} was fsynced and is gone, after {instant.event}"
            outdated = {state.get(path) for state in told.states[: instant.synced]} - allowed
            assert found is None or found not in outdated, (
                f"{path} is older than its fsync, after {instant.event}"
            )
        trio.run(rig.publish)
        assert show(rig)[0] == shown, f"publication changed what is shown, after {instant.event}"
        end(rig)


@pytest.mark.parametrize("last", [b"", b"short"])
async def test_a_closed_file_does_not_fall_with_what_it_was_before_it_was_cut_to_nothing(last: bytes) -> None:
    for seed in range(12):
        disk = SimulatedDisk()
        rig = Rig(disk, seed=seed)
        rig.mkdir("d")
        await rig.write("a", b"long" * 30_000)  # in a staging file, which nobody syncs
        await rig.write("a", last)
        rig.volume.replica.journal.sync()
        disk.crash(seed)
        rig = come_back(disk, "machine/boot-2")
        assert show(rig) == ({"a": last}, [])
        await rig.publish()
        await rig.close()
        rig = come_back(disk, "machine/boot-2")
        assert show(rig) == ({"a": last}, [])
        assert not disk.listdir("staging")
        end(rig)


def test_the_same_seed_gives_the_same_trace() -> None:
    digests = set()
    for _ in range(2):
        disk = SimulatedDisk()
        trio.run(tell, 7, Told(), disk)
        digests.add(disk.digest())
    assert len(digests) == 1


def _difference(shown: Shown, wanted: Shown) -> dict[str, tuple[int | None, int | None]]:
    """Sizes where the two differ, for a readable failure."""
    return {
        path: (
            len(shown[path]) if path in shown else None,
            len(wanted[path]) if path in wanted else None,
        )
        for path in {*shown, *wanted}
        if shown.get(path) != wanted.get(path)
    }
