"""Comparing directory trees byte for byte and attribute for attribute."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.node import Node

TAR = ("tar", "--format=posix", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")
# pax headers otherwise hold what differs between any two trees: a process id, access and change times.
PAX = "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/pax/%f"
PROGRAM_S = 300.0


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """What a program prints. Any exit status but 0 is a failure that shows what it said."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PROGRAM_S,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{said[-4000:]}"
    return done.stdout.decode(errors="surrogateescape")


def archive(tree: Path, leave_out: Sequence[str] = ()) -> bytes:
    """The digest of the tree's tar: names, types, contents, links, modes, owners, mtimes, xattrs, ACLs."""
    excluded = [f"--exclude={pattern}" for pattern in leave_out]
    tar = subprocess.Popen([*TAR, PAX, *excluded, "-C", tree, "-cf", "-", "."], stdout=subprocess.PIPE)
    assert tar.stdout is not None
    digest = subprocess.run(["sha256sum"], stdin=tar.stdout, capture_output=True, check=True).stdout
    tar.stdout.close()
    assert tar.wait(PROGRAM_S) == 0, f"tar of {tree} failed"
    return digest


def assert_same(tree: Path, other: Path, leave_out: Sequence[str] = ()) -> None:
    """Both trees hold the same in every respect that tar keeps."""
    excluded = [f"--exclude={pattern}" for pattern in leave_out]
    # diff calls any two named pipes different; tar compares them.
    diff = "diff -r --no-dereference \"$@\" | grep -v ' is a fifo while file .* is a fifo$' || true"
    differences = run("sh", "-c", diff, "sh", *excluded, other, tree)
    assert not differences, differences[:4000]
    if archive(tree, leave_out) != archive(other, leave_out):
        differing = [
            f"{mine}\n  {theirs}"
            for mine, theirs in zip(_lines(tree, leave_out), _lines(other, leave_out), strict=False)
            if mine != theirs
        ]
        raise AssertionError(
            f"{tree} and {other} differ:\n" + "\n".join(differing[:20] or ["in xattrs or ACLs"])
        )


def _lines(tree: Path, leave_out: Sequence[str]) -> list[str]:
    excluded = [f"--exclude={pattern}" for pattern in leave_out]
    command = [*TAR, PAX, *excluded, "--full-time", "-C", str(tree), "-cvvf", "/dev/null", "."]
    return run(*command).splitlines()


class Attributes(NamedTuple):
    """What must not change while nobody changes a file. (Access times may.)"""

    number: int
    mode: int
    links: int
    owner: int
    group: int
    size: int
    mtime_ns: int
    ctime_ns: int


def attributes(tree: Path) -> dict[bytes, Attributes]:
    """Attributes of everything in a tree, by path."""
    return dict(_attributes(os.fsencode(tree)))


def _attributes(path: bytes) -> Iterator[tuple[bytes, Attributes]]:
    with os.scandir(path) as entries:
        for entry in entries:
            status = os.lstat(entry.path)
            yield (
                entry.path,
                Attributes(
                    status.st_ino,
                    status.st_mode,
                    status.st_nlink,
                    status.st_uid,
                    status.st_gid,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                ),
            )
            assert entry.inode() == status.st_ino
            if entry.is_dir(follow_symlinks=False):
                yield from _attributes(entry.path)


class Kept:
    """A tree as it was: `assert_kept` after each kind of restart."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._attributes = attributes(tree)
        self._archive = archive(tree)

    def assert_kept(self) -> None:
        """Content, inode numbers and times are what they were."""
        now = attributes(self._tree)
        changed = {
            os.fsdecode(path): (self._attributes.get(path), now.get(path))
            for path in self._attributes.keys() | now.keys()
            if self._attributes.get(path) != now.get(path)
        }
        assert not changed, list(changed.items())[:10]
        assert archive(self._tree) == self._archive


def assert_survives_restarts(node: Node, tree: Path) -> None:
    """The tree is the same after unmounting and mounting, and after the daemon was killed."""
    kept = Kept(tree)
    node.restart()
    kept.assert_kept()
    node.crash()
    kept.assert_kept()
