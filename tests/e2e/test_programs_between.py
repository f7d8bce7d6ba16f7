"""Programs write on one device; what another shows at any instant is what a power cut would leave."""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.git_history import FILES, make_repository
from tests.e2e.network import Device, Network, eventually
from tests.e2e.processes import Child
from tests.e2e.trees import assert_same, run

DOCUMENTS = Path("/usr/share/doc")
INSTANTS = 50
FEW = 6  # what an open file holds is published every two seconds
CHECKS = 6
ARRIVES_S = 20.0  # on a busy machine; what it took is printed


def until_told(stop: Path, step: Callable[[int], object]) -> int:
    """Do one step after the other until a file outside the mount is there; how many were done."""
    number = 0
    while not stop.exists():
        step(number)
        number += 1
    return number


# -- sqlite


def commit_rows(path: Path, stop: Path) -> int:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("PRAGMA synchronous=full")
    connection.execute("PRAGMA wal_autocheckpoint=15")
    connection.execute("CREATE TABLE made (number INTEGER PRIMARY KEY, filler BLOB)")
    connection.execute("CREATE INDEX fillers ON made (filler)")

    def commit(number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO made VALUES (?, randomblob(800))", (number,))
        connection.execute("DELETE FROM made WHERE number = ?", (number - 60,))
        connection.execute("COMMIT")
        time.sleep(0.1)  # so that an instant is long enough for a copy

    try:
        return until_told(stop, commit)
    finally:
        connection.close()


def stamps(files: list[Path]) -> list[tuple[int, int, int]]:
    """What tells versions of files apart; files that are not there are left out."""
    found = [os.stat(path) for path in files if path.exists()]
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]


def copy_at_an_instant(files: list[Path], directory: Path) -> list[tuple[int, int, int]]:
    """Copy files as they are together at one instant."""
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        before = stamps(files)
        for path in files:
            if path.exists():
                shutil.copyfile(path, directory / path.name)
        if stamps(files) == before:
            return before


@pytest.mark.parametrize("instants", [FEW, pytest.param(INSTANTS, marks=pytest.mark.soak)])
def test_a_database_that_is_written_elsewhere_is_sound_here_at_every_instant(
    pair: tuple[Network, Device, Device], tmp_path: Path, instants: int
) -> None:
    _, a, b = pair
    stop = tmp_path / "stop"
    writer = Child(partial(commit_rows, a.root / "database", stop))
    files = [b.root / "database", b.root / "database-wal"]
    newest, seen = -1, [(0, 0, 0)]
    try:
        eventually(files[1].exists, 20)
        for _ in range(instants):
            eventually(lambda seen=seen: stamps(files) != seen, 20, "something else is here")  # type: ignore[misc]
            seen = copy_at_an_instant(files, tmp_path / "copy")
            copied = sqlite3.connect(tmp_path / "copy/database")
            assert copied.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = copied.execute("SELECT count(*) FROM sqlite_master WHERE name = 'made'").fetchone()[0]
            last = copied.execute("SELECT max(number) FROM made").fetchone()[0] if tables else None
            copied.close()
            assert (last or -1) >= newest, "a commit that was here is gone"
            newest = last or newest
        stop.touch()
        written = writer.result()
    finally:
        stop.touch()
        writer.end()
    assert newest > 0
    print(f"{instants} copies sound, {newest} of {written} commits seen by then")
    a.await_in_step()
    final = sqlite3.connect(b.root / "database")
    assert final.execute("SELECT max(number) FROM made").fetchone()[0] == written - 1
    final.close()


# -- git


def sizes(tree: Path) -> dict[str, int]:
    """Every name, and the size of every file. What goes while one looks is left out."""
    found = {}
    for directory, _, names in os.walk(tree):
        found[directory.removeprefix(str(tree))] = 0
        for name in names:
            path = f"{directory}/{name}"
            with suppress(FileNotFoundError):
                found[path.removeprefix(str(tree))] = os.lstat(path).st_size
    return found


def commit_files(repository: Path, stop: Path) -> int:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.example", "-c", "gc.auto=0")
    run("git", "init", "-q", "-b", "main", repository)

    def commit(number: int) -> None:
        (repository / f"file{number % 7}").write_text(f"{number}\n" * (number + 1))
        run("git", "add", ".", cwd=repository)
        run("git", *identity, "commit", "-q", "-m", f"commit {number}", cwd=repository)
        if number % 10 == 9:
            run("git", *identity, "repack", "-q", "-d", cwd=repository)
        time.sleep(0.3)  # so that an instant is long enough for a check

    return until_told(stop, commit)


def check_at_an_instant(repository: Path) -> int:
    """`git fsck` of a repository as it is at one instant; how many commits it has then.

    (Git calls missing what was made after it had looked: also where there is one device only.)
    """
    while True:
        before = sizes(repository / ".git")
        done = subprocess.run(["git", "fsck", "--strict"], cwd=repository, capture_output=True, text=True)
        counted = subprocess.run(
            ["git", "rev-list", "--count", "main"], cwd=repository, capture_output=True, text=True
        )
        if sizes(repository / ".git") == before:
            assert (done.returncode, counted.returncode) == (0, 0), done.stderr + counted.stderr
            return int(counted.stdout)


def test_a_repository_that_is_committed_to_elsewhere_is_sound_here_at_every_instant(
    pair: tuple[Network, Device, Device], tmp_path: Path
) -> None:
    _, a, b = pair
    stop = tmp_path / "stop"
    writer = Child(partial(commit_files, a.root / "repository", stop))
    here = b.root / "repository"
    counts = [0]
    try:
        eventually((here / ".git/refs/heads/main").exists, 20)
        ref = here / ".git/refs/heads/main"
        for _ in range(CHECKS):
            last = ref.read_text()
            eventually(lambda last=last: ref.read_text() != last, 20, "another commit")  # type: ignore[misc]
            counts.append(check_at_an_instant(here))
        stop.touch()
        written = writer.result()
    finally:
        stop.touch()
        writer.end()
    assert counts == sorted(counts)
    a.await_in_step()
    assert int(run("git", "rev-list", "--count", "main", cwd=here)) == written
    run("git", "fsck", "--strict", cwd=here)
    assert run("git", "status", "--porcelain", cwd=here) == ""
    print(f"{CHECKS} checks sound, over commits {counts[1:]} of {written}")


# -- trees


@pytest.mark.soak  # half a minute each on a machine at rest
@pytest.mark.parametrize("what", ["documents", "clone"])
def test_names_and_sizes_of_a_tree_follow_at_once_and_all_bytes_when_all_copies_are_asked_for(
    pair: tuple[Network, Device, Device], tmp_path: Path, what: str
) -> None:
    _, a, b = pair
    if what == "documents":
        run("cp", "-a", DOCUMENTS, a.root / what)
    else:
        run("git", "clone", "-q", "--no-local", make_repository(tmp_path), a.root / what)
    closed = time.monotonic()
    (a.root / "the last").write_text("closed")
    eventually(lambda: (b.root / "the last").stat().st_size == 6, ARRIVES_S)
    took_s = time.monotonic() - closed
    names = sizes(a.root / what)
    assert sizes(b.root / what) == names, "what was closed earlier was shown earlier"
    print(f"{len(names)} names and sizes on the other device {took_s:.2f} s after the last close")

    a.run("copies", "all")
    a.await_in_step(60)
    b.await_in_step(60)
    if what == "documents":
        assert_same(a.root / what, b.root / what)
    else:  # the times of its directories were never set: they are when each device saw them change
        run("diff", "-r", "--no-dereference", a.root / what, b.root / what)
        run("git", "fsck", "--strict", cwd=b.root / what)
        assert len(run("git", "ls-files", cwd=b.root / what).splitlines()) >= FILES
        assert run("git", "status", "--porcelain", cwd=b.root / what) == ""
