"""A user without rights mounts: the descriptor comes from fusermount3."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dittofs.control.options import FRONT_ENDS
from tests.e2e.node import Node, await_end, dittofs_command

NOBODY = 65534
ALL_S = 900.0
DEVICE_OF_FUSE = os.makedev(10, 229)


@pytest.fixture
def as_nobody(tmp_path: Path) -> list[str]:
    """What stands before a command to run it as nobody, where everybody may open /dev/fuse."""
    if os.geteuid():
        return []
    device = tmp_path / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, DEVICE_OF_FUSE)
    device.chmod(0o666)
    become = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups"
    script = f'mount --bind {device} /dev/fuse && exec {become} "$@"'
    return ["unshare", "-m", "sh", "-ec", script, "sh"]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_user_without_rights_mounts_works_and_unmounts(
    ground: Path, as_nobody: list[str], front_end: str
) -> None:
    directory = ground / f"user-{front_end}"
    node = Node(directory)
    if as_nobody:
        shutil.chown(directory, NOBODY, NOBODY)
    (command,) = dittofs_command()
    script = f"""
        set -e
        "$D" mount "$M" --frontend {front_end} -o noatime
        trap '"$D" unmount "$M"; kill "$pid"' EXIT
        pid=$("$D" status --json | tr , '\\n' | sed -n 's/.*"pid":\\([0-9]*\\).*/\\1/p')
        echo "daemon $pid"
        grep " $M " /proc/self/mounts
        cd "$M"
        echo one > file && ln file second && mkdir below && mv second below/third
        cmp file below/third && test "$(stat -c %h:%u file)" = "2:$(id -u)"
        cd /
    """
    environment = {**node.environment, "D": command, "M": str(node.root), "HOME": str(directory)}
    done = subprocess.run(
        [*as_nobody, "sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    await_end(int(done.stdout.split("daemon ")[1].split()[0]))
    options = next(line.split()[3] for line in done.stdout.splitlines() if str(node.root) in line.split())
    assert {"nosuid", "nodev", "noatime"} <= set(options.split(","))
    assert node.logged_errors() == []


@pytest.mark.soak
def test_the_conformance_suite_holds_for_a_user_too(ground: Path, as_nobody: list[str]) -> None:
    directory = ground / "conformance"
    directory.mkdir()
    if as_nobody:
        shutil.chown(directory, NOBODY, NOBODY)
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [
            *as_nobody,
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not soak",
            *here.glob("test_posix_*.py"),
        ],
        cwd=here.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=ALL_S,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-1000:]
