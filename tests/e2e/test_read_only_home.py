"""A home on a file system that is read-only: nothing is opened or changed, and it is said what helps."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.node import Node

DISK_BYTES = 64 << 20
FILES = 20

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a disk")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=30)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True, timeout=30)


@pytest.fixture
def node(disk: Path, tmp_path: Path) -> Iterator[Node]:
    """A node whose home is on the disk."""
    node = Node(tmp_path / "node")
    node.home = disk / "home"
    yield node
    node.close()


@pytest.fixture
def copied(node: Node, tmp_path: Path) -> Iterator[Node]:
    """A node that has what the other one has once its home is a copy."""
    copied = Node(tmp_path / "copied", node.front_end)
    yield copied
    copied.close()


def everything(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def refused(node: Node, *command: str | Path) -> str:
    """What a command says that is refused because of the file system."""
    done = node.run(*command, check=False)
    assert done.returncode == 5, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    told, mend = done.stderr.splitlines()
    assert told.startswith(f"dittofs: {node.home}/state is on a file system that is read-only")
    assert f"cp -a {node.home}/state COPY/state" in mend
    return done.stderr


def test_a_home_that_cannot_be_written_is_left_as_it_is_and_a_copy_of_it_serves(
    node: Node, copied: Node, disk: Path
) -> None:
    node.mount()
    for number in range(FILES):
        (node.root / f"f{number}").write_bytes(b"%d " % number * 1000)
    node.kill_daemon()  # so that there is a log to replay
    subprocess.run(["umount", "-l", str(node.root)], check=True, timeout=30)
    before = everything(node.home)
    mount("-o", "remount,ro", str(disk))
    assert refused(node, "mount", node.root) == refused(node, "daemon")
    found = node.run("doctor", check=False)
    assert found.returncode == 5
    assert "✗ disk" in found.stdout
    assert "read-only" in found.stdout
    done = node.run("status", check=False)
    assert (done.returncode, "no daemon is running" in done.stderr) == (1, True)
    assert everything(node.home) == before

    copied.home.mkdir(mode=0o700)
    subprocess.run(["cp", "-a", node.home / "state", copied.home / "state"], check=True, timeout=30)
    copied.mount(node.root)
    for number in range(FILES):
        assert (node.root / f"f{number}").read_bytes() == b"%d " % number * 1000
    copied.unmount(node.root)

    mount("-o", "remount,rw", str(disk))
    node.mount()
    for number in range(FILES):
        assert (node.root / f"f{number}").read_bytes() == b"%d " % number * 1000


def test_a_home_that_is_yet_to_be_made_on_a_read_only_file_system_is_refused_alike(
    node: Node, disk: Path
) -> None:
    mount("-o", "remount,ro", str(disk))
    refused(node, "mount", node.root)
    assert not node.home.exists()
