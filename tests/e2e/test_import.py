"""A filled directory joins a filled volume, on real daemons."""

import json
import os
import shutil
from pathlib import Path

from tests.e2e.alike import are_alike, assert_alike
from tests.e2e.network import Device, Network, eventually
from tests.e2e.node import Node


def fill(top: Path) -> None:
    """A tree with a bit of everything, the same each time."""
    (top / "d/empty").mkdir(parents=True)
    for number in range(150):
        (top / f"d/file{number:03}").write_text(f"file {number}\n" * number)
    (top / "large").write_bytes(bytes(range(256)) * 4_000)
    os.link(top / "large", top / "linked")
    (top / "link").symlink_to("large")
    (top / "script").write_text("#!/bin/sh\n")
    (top / "script").chmod(0o755)
    os.setxattr(top / "script", "user.colour", b"blue")


def done_of(node: Node, *words: str | Path, status: int = 0) -> dict[str, object]:
    """The last line of an import."""
    done = node.run("import", *words, "--json", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    last: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return last


def test_two_filled_trees_become_one_and_only_what_differs_is_a_conflict(
    net: Network, tmp_path: Path
) -> None:
    a, b = net.device("alder"), net.device("birch")
    net.cable(a, b)
    old = tmp_path / "old"
    fill(old)
    a.found()
    shutil.copytree(
        old, a.root, symlinks=True, dirs_exist_ok=True
    )  # other times, other inode numbers, the same content
    (a.root / "d/file007").write_text("alder's own")
    (a.root / "only alder's").write_text("alder")
    a.share_with(b)
    (old / "only the stick's").write_text("stick")
    said = done_of(b, old, "--dry-run", status=4)
    assert not (b.root / "only the stick's").exists()
    done = done_of(b, old, status=4)
    assert {key: value for key, value in said.items() if key != "dry_run"} == {
        key: value for key, value in done.items() if key != "dry_run"
    }
    assert (done["added"], done["conflicts"], done["same"], done["failed"]) == (1, 1, 153, 0)
    eventually(lambda: are_alike(a, b), 20)
    for device in (a, b):
        assert (device.root / "d/file007").read_text() == "alder's own"
        (beside,) = [path for path in (device.root / "d").iterdir() if "(conflict, birch" in path.name]
        assert beside.read_text() == (old / "d/file007").read_text()
        assert (device.root / "only the stick's").read_text() == "stick"
    again = done_of(b, old)
    assert (again["added"], again["conflicts"], again["same"]) == (0, 0, 155)
    a.run("conflicts", "resolve", "Shared:d/file007", "--keep", "birch")
    eventually(lambda: are_alike(a, b), 20)
    assert (b.root / "d/file007").read_text() == (old / "d/file007").read_text()
    assert_alike(a, b)


def test_everything_about_a_file_comes_along_and_is_seen_in_the_mount_at_once(
    mounted: Node, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    fill(old)
    root = mounted.root
    assert list(root.iterdir()) == []
    (root / "place").mkdir()
    assert not (root / "place/script").exists()  # which the kernel now believes
    mounted.run("import", old, root / "place")
    place = root / "place"
    for path in sorted(old.rglob("*")):
        twin = place / path.relative_to(old)
        one, other = path.lstat(), twin.lstat()
        assert (one.st_mode, one.st_mtime_ns) == (other.st_mode, other.st_mtime_ns), path
        if path.is_file():
            assert (one.st_size, one.st_nlink) == (other.st_size, other.st_nlink), path
            assert path.read_bytes() == twin.read_bytes()
    assert (place / "large").stat().st_ino == (place / "linked").stat().st_ino
    assert os.getxattr(place / "script", "user.colour") == b"blue"
    assert os.readlink(place / "link") == "large"
    mounted.crash()
    assert len(list((place / "d").iterdir())) == 151


def test_what_must_not_be_imported_is_refused_and_the_daemon_goes_on(mounted: Node, tmp_path: Path) -> None:
    (mounted.root / "d").mkdir()
    link = tmp_path / "link"
    link.symlink_to(mounted.root / "d")
    for source, why in (
        (mounted.root, "is in a volume already"),
        (mounted.root / "d", "is in a volume already"),
        (link, "is in a volume already"),
        (mounted.home, "holds what this device stores"),
        (tmp_path / "nothing", "No such file or directory"),
    ):
        done = mounted.run("import", source, check=False)
        assert done.returncode == 1
        assert why in done.stderr
        assert "nothing was done" in done.stderr
    assert [path.name for path in mounted.root.iterdir()] == ["d"]


def test_a_volume_that_is_mounted_in_the_directory_is_left_out(mounted: Node, tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "other").mkdir(parents=True)
    (old / "file").write_text("file")
    mounted.run("mount", old / "other")
    (old / "other/inside").write_text("inside")
    try:
        done = mounted.run("import", old, "mount:")
        assert "left out    other: a volume is mounted there" in done.stdout
        assert [path.name for path in mounted.root.iterdir()] == ["file"]
    finally:
        mounted.unmount(old / "other")


def test_devices_hear_of_an_import_like_of_any_change(
    pair: tuple[Network, Device, Device], tmp_path: Path
) -> None:
    _, a, b = pair
    old = tmp_path / "old"
    fill(old)
    a.run("import", old, "Shared:photos/2019")
    a.await_in_step()
    eventually(lambda: are_alike(a, b), 20)
    assert (b.root / "photos/2019/large").read_bytes() == (old / "large").read_bytes()
