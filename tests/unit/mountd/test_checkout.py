"""A checkout writes what was into one directory, and nowhere else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dittofs.control.faults import Refusal
from dittofs.control.history import CheckoutDone
from dittofs.history.snapshots import SnapshotView, create_snapshot, find_snapshot
from dittofs.local_disk import LocalDisk
from mountd.checkout import Checkout
from tests.simulation.rig import Rig

OUTSIDE = "precious, not in the volume"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(LocalDisk(str(tmp_path / "store")))
    yield rig
    rig.abandon()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that a link may lead to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text(OUTSIDE)
    return tmp_path / "outside"


def names_in(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


async def keep(rig: Rig, name: str) -> None:
    await rig.publish()
    await create_snapshot(rig.volume.replica, rig.volume.publisher, name)


async def check_out(rig: Rig, name: str, where: Path, *, force: bool = True) -> CheckoutDone:
    snapshot = find_snapshot(rig.volume.replica, name)
    assert snapshot is not None
    view = SnapshotView(rig.volume.state, snapshot)
    items = [item async for item in Checkout(rig.volume, view, str(where), force=force).run(())]
    assert isinstance(items[-1], CheckoutDone)
    return items[-1]


async def test_what_was_is_written_with_modes_and_times_and_nothing_else_is_left(
    rig: Rig, tmp_path: Path
) -> None:
    rig.mkdir("d")
    await rig.write("d/f", b"1" * 3_000_000)
    rig.symlink("nowhere", "d/link")
    await rig.publish()
    rig.chmod("d/f", 0o600)
    rig.chmod("d", 0o555)
    await keep(rig, "one")
    out = tmp_path / "out"
    done = await check_out(rig, "one", out, force=False)
    assert (done.files, done.bytes, done.directories, done.left_out) == (2, 3_000_000, 2, ())
    assert names_in(out / "d") == ["f", "link"]
    assert (out / "d/f").read_bytes() == b"1" * 3_000_000
    assert (out / "d/link").readlink() == Path("nowhere")
    assert [(out / path).stat().st_mode & 0o777 for path in ("d", "d/f")] == [0o555, 0o600]
    assert (out / "d/f").stat().st_mtime_ns == rig.stat("d/f").mtime
    with pytest.raises(Refusal):
        await check_out(rig, "one", out, force=False)


async def test_a_link_in_the_way_is_replaced_and_never_followed(
    rig: Rig, tmp_path: Path, outside: Path
) -> None:
    rig.symlink(str(outside), "d")
    rig.symlink(str(outside / "file"), "f")
    await keep(rig, "links")
    for name in ("d", "f"):
        await rig.unlink(name)
    rig.mkdir("d")
    for name in ("d/file", "d/new", "f"):
        await rig.write(name, b"of the volume")
    await keep(rig, "files")
    out = tmp_path / "out"
    await check_out(rig, "links", out)
    done = await check_out(rig, "files", out)
    assert not done.left_out
    assert names_in(outside) == ["file"]
    assert (outside / "file").read_text() == OUTSIDE
    assert not (out / "d").is_symlink()
    assert (out / "d/file").read_bytes() == (out / "f").read_bytes() == b"of the volume"


async def test_with_force_names_go_on_to_what_was_and_a_directory_in_the_way_stays(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.write("f", b"of the volume")
    await rig.write("g", b"of the volume")
    rig.symlink("target", "link")
    await keep(rig, "one")
    out = tmp_path / "out"
    (out / "f").mkdir(parents=True)
    (out / "f/mine").write_text("mine")
    for name in ("g", "link", ".g.part"):
        (out / name).write_text("mine")
    os.link(out / "g", out / "other name")
    done = await check_out(rig, "one", out)
    assert len(done.left_out) == 1
    assert (out / "f/mine").read_text() == (out / ".g.part").read_text() == "mine"
    assert (out / "other name").read_text() == "mine"
    assert (out / "g").read_bytes() == b"of the volume"
    assert (out / "link").readlink() == Path("target")
    assert names_in(out) == [".g.part", "f", "g", "link", "other name"]
