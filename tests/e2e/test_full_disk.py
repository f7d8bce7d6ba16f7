"""A real disk filled to its last block under a daemon that was killed: what is there is read all the same."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.node import Node

DISK_BYTES = 96 << 20
FILES = 300
PATIENCE_S = 60.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = f"size={DISK_BYTES},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True, timeout=30)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True, timeout=30)


@pytest.fixture
def small(small_disk: Path, tmp_path: Path, front_end: str) -> Iterator[Node]:
    """A node whose home is on the small disk."""
    node = Node(tmp_path / "node", front_end)
    node.home = small_disk / "home"
    node.expects_errors = True
    yield node
    node.close()


def fill(path: Path) -> None:
    """Take every block there is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    os.write(descriptor, bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    finally:
        os.close(descriptor)


def until_writable(path: Path) -> None:
    """Write what is refused as long as there is no room."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            path.write_bytes(b"after")
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert time.monotonic() < deadline, "still refused although there is room"
            time.sleep(0.1)
        else:
            return


def test_a_volume_is_read_on_a_full_disk_and_written_again_when_there_is_room(
    small: Node, small_disk: Path
) -> None:
    small.mount()
    for number in range(FILES):  # the journal's log is longer than its database has room for
        (small.root / f"f{number}").write_bytes(b"%d " % number * 100)
    small.kill_daemon()
    fill(small_disk / "fill")
    small.mount()
    for number in range(FILES):
        assert (small.root / f"f{number}").read_bytes() == b"%d " % number * 100
    with pytest.raises(OSError, match="No space left") as refusal:
        (small.root / "fresh").write_bytes(b"x" * 100_000)
    assert refusal.value.errno == errno.ENOSPC
    (volume,) = small.status()["volumes"]
    assert volume["state"] == "mounted"
    told = [volume["read_only"], *(one["detail"] for one in volume["damage"])]
    assert any("disk is full" in one or "refused until there is more" in one for one in told), told
    (small_disk / "fill").unlink()
    until_writable(small.root / "fresh")
    (volume,) = small.status()["volumes"]
    assert not volume["read_only"]
    small.crash()
    assert (small.root / "fresh").read_bytes() == b"after"
    assert (small.root / "f7").read_bytes() == b"7 " * 100
