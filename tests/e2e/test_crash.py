"""The daemon is killed at any instant: whatever was closed is there, and every file is one whole version."""

import os
import random
import sqlite3
import time
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.node import Node
from tests.e2e.processes import Child, outcome
from tests.e2e.trees import attributes
from tests.e2e.witness import (
    ABSENT,
    RECORD_BYTES,
    WORK,
    Testimony,
    Witness,
    content,
    read_log,
    record,
    version_of,
    work_until_the_daemon_dies,
)

BEATS_MAX = 250  # acknowledged changes before the kill
SPREAD_S = 0.004  # the kill falls anywhere within an operation
MOUNT_S_MAX = 60.0  # how long it takes is for the benches (memory, large_trees)
RECOVERED = " (recovered, "
LARGE = 20 << 20


def is_recovered(path: Path) -> bool:
    return RECOVERED in path.name


def kill_within_an_operation(node: Node, beats: int, count: int, chance: random.Random) -> None:
    """SIGKILL once `count` changes were acknowledged, and a moment more."""
    pid = node.daemon_pid()
    while count > 0:
        heard = len(os.read(beats, count))
        assert heard, "all workers ended before the daemon was killed"
        count -= heard
    moment = time.monotonic() + chance.random() * SPREAD_S
    while time.monotonic() < moment:
        pass
    node.kill_daemon(pid)


def find(directory: Path, name: str) -> list[Path]:
    """Every place where a worker's file is."""
    return [path for path in directory.rglob(name) if not path.is_dir()]


def assert_as_testified(directory: Path, name: str, testimony: Testimony) -> None:
    """The name shows the acknowledged version whole, or one that was begun after it."""
    allowed = testimony.allowed()
    places = find(directory, name)
    assert len(places) <= 1, f"{name} is in several places: {places}"
    if not places:
        assert ABSENT in allowed, f"{name} is gone; it must be version {allowed}"
        return
    data = places[0].read_bytes()
    if name.endswith("-log"):
        count, rest = divmod(len(data), RECORD_BYTES)
        assert not rest or count + 1 in allowed, f"{name} ends within a record"
        assert count >= testimony.acknowledged, (
            f"{name} has {count} records of {testimony.acknowledged} fsynced"
        )
        expected = b"".join(record(number) for number in range(1, count + 2))
        assert data == expected[: len(data)]
        return
    if not data and ABSENT in allowed:
        return  # made, and not closed yet: it has no version
    found, version = version_of(data)
    assert found == name
    assert version in allowed, f"{name} is version {version}; it must be one of {allowed}"


def round_of_work(node: Node, number: int, logs: Path) -> dict[str, Testimony]:
    """Work, kill, mount again; returns what the workers testify."""
    chance = random.Random(number)
    directory = node.root / f"round-{number}"
    directory.mkdir()
    beats, beat = os.pipe()
    workers = []
    for kind in WORK:
        name = f"{kind}-{number}"
        witness = Witness(directory, logs / name, beat, name, chance.randrange(1 << 30))
        workers.append(Child(partial(work_until_the_daemon_dies, witness)))
        witness.close()
    os.close(beat)
    try:
        kill_within_an_operation(node, beats, chance.randrange(1, BEATS_MAX), chance)
        for worker in workers:
            worker.result()
    finally:
        os.close(beats)
        for worker in workers:
            worker.end()
    took_s = node.mount()
    assert took_s < MOUNT_S_MAX
    found: dict[str, Testimony] = {}
    for kind in WORK:
        found.update(read_log(logs / f"{kind}-{number}"))
    return found


@pytest.mark.parametrize(
    "rounds", [range(4), pytest.param(range(4, 34), marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_everything_closed_survives_a_kill_and_every_file_is_whole(
    mounted: Node, tmp_path: Path, rounds: range
) -> None:
    settled: dict[int, dict[Path, bytes]] = {}
    for number in rounds:
        testified = round_of_work(mounted, number, tmp_path)
        directory = mounted.root / f"round-{number}"
        for name, testimony in testified.items():
            assert_as_testified(directory, name, testimony)
        files = [path for path in directory.rglob("*") if path.is_file()]
        expected = {*testified}
        strangers = [
            p for p in files if p.name not in expected and not is_recovered(p) and p.suffix != ".tmp"
        ]
        assert not strangers
        settled[number] = {path: path.read_bytes() for path in files}
    for number, left in settled.items():
        directory = mounted.root / f"round-{number}"
        found = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        assert found == left, f"what round {number} left has changed since"
    assert mounted.run("check", "--json").returncode == 0


def test_a_file_that_was_being_written_is_set_beside_its_last_version(mounted: Node) -> None:
    path = mounted.root / "report.txt"
    path.write_bytes(b"the last whole version")
    pid = mounted.daemon_pid()
    # From here to the kill nothing may be started: a process that is forked and closes what it
    # inherited has closed the file, as far as anybody can tell through FUSE.
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, os.urandom(1000))
    piece = b"half a new version " * 4096
    # More than a volume may hold unsaved, so that some of it is with the operating system.
    for _ in range(LARGE // len(piece)):
        os.write(descriptor, piece)
    mounted.kill_daemon(pid)
    with pytest.raises(OSError):
        os.close(descriptor)
    mounted.mount()
    assert path.read_bytes() == b"the last whole version"
    others = [other for other in mounted.root.iterdir() if other != path]
    assert [is_recovered(other) for other in others] == [True]
    assert others[0].suffix == ".txt"
    assert piece * 50 in others[0].read_bytes()


def test_a_large_file_that_was_just_closed_is_whole(mounted: Node) -> None:
    data = random.Random(7).randbytes(LARGE)
    path = mounted.root / "large"
    path.write_bytes(data)
    mounted.crash()
    assert path.read_bytes() == data
    mounted.crash()
    assert path.read_bytes() == data


def test_what_was_removed_stays_removed(mounted: Node) -> None:
    for number in range(50):
        (mounted.root / f"file-{number}").write_bytes(content("x", number))
    os.mkdir(mounted.root / "directory")
    held = os.open(mounted.root / "held", os.O_CREAT | os.O_RDWR)
    os.write(held, b"without a name")
    os.unlink(mounted.root / "held")
    os.rmdir(mounted.root / "directory")
    for number in range(25):
        (mounted.root / f"file-{number}").unlink()
    mounted.crash()
    assert sorted(os.listdir(mounted.root)) == sorted(f"file-{number}" for number in range(25, 50))
    assert outcome(lambda: os.close(held)) == "ENOTCONN"


def test_modes_times_and_attributes_that_were_set_survive(mounted: Node) -> None:
    path = mounted.root / "file"
    path.write_bytes(b"x")
    path.chmod(0o751)
    os.setxattr(path, "user.x", b"value")
    os.link(path, mounted.root / "second")
    os.symlink("file", mounted.root / "link")
    os.utime(path, ns=(10**18, 10**18 + 1))
    before = attributes(mounted.root)
    mounted.crash()
    assert attributes(mounted.root) == before
    assert os.getxattr(path, "user.x") == b"value"
    assert os.readlink(mounted.root / "link") == "file"
    assert (mounted.root / "second").stat().st_ino == path.stat().st_ino


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_keeps_every_commit_that_was_acknowledged(
    mounted: Node, tmp_path: Path, journal: str
) -> None:
    path = mounted.root / "database"
    log = tmp_path / "commits"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    connection = connect()
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("CREATE TABLE made (number INTEGER PRIMARY KEY, filler BLOB)")
    connection.close()

    def commit(beat: int, start: int) -> None:
        commits = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            own = connect()
            for number in range(start, start + 5_000):
                own.execute("BEGIN IMMEDIATE")
                own.execute("INSERT INTO made VALUES (?, randomblob(5000))", (number,))
                own.execute("COMMIT")
                os.write(commits, f"{number}\n".encode())
                os.write(beat, b".")
        except sqlite3.Error:
            if outcome(partial(os.statvfs, path)) != "ENOTCONN":  # the daemon is there
                raise

    chance = random.Random(journal)
    for start in (0, 20_000):
        beats, beat = os.pipe()
        writers = [Child(partial(commit, beat, start + who * 5_000)) for who in range(4)]
        os.close(beat)
        kill_within_an_operation(mounted, beats, chance.randrange(5, 60), chance)
        for writer in writers:
            writer.result()
        os.close(beats)
        mounted.mount()
        connection = connect()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        there = {number for (number,) in connection.execute("SELECT number FROM made")}
        connection.close()
        acknowledged = {int(number) for number in log.read_text().split()}
        assert acknowledged <= there, f"lost: {sorted(acknowledged - there)}"
