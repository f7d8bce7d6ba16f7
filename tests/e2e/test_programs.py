"""Real programs on a mount leave what they leave on a native file system, through restarts too."""

import mmap
import os
import random
import shutil
import sqlite3
import time
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.git_history import FILES, make_repository
from tests.e2e.node import Node
from tests.e2e.processes import Child
from tests.e2e.terminal import Terminal
from tests.e2e.trees import assert_same, assert_survives_restarts, run

DOCUMENTS = Path("/usr/share/doc")
WRITERS = 4


@pytest.fixture
def pair(mounted: Node, tmp_path: Path) -> tuple[Path, Path]:
    """A directory on the mount, and its like on a native file system."""
    native = tmp_path / "native"
    native.mkdir()
    return mounted.root, native


def test_copied_documents_are_identical(mounted: Node, pair: tuple[Path, Path]) -> None:
    on_mount, native = pair
    for place in pair:
        run("cp", "-a", DOCUMENTS, place / "doc")
    assert_same(on_mount / "doc", native / "doc")
    assert_survives_restarts(mounted, on_mount)
    run("rm", "-rf", on_mount / "doc")
    assert not list(on_mount.iterdir())


def test_git_clones_checks_packs_and_trusts_its_index_after_a_restart(
    mounted: Node, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    origin = make_repository(tmp_path)
    clones = [place / "clone" for place in pair]
    for clone in clones:
        run("git", "clone", "-q", "--no-local", origin, clone)
        assert run("git", "status", "--porcelain", cwd=clone) == ""
        run("git", "fsck", "--strict", cwd=clone)
        run("git", "gc", "-q", "--prune=now", cwd=clone)
        run(
            "git",
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
            cwd=clone,
        )
        run("git", "checkout", "-q", "HEAD~6", cwd=clone)
        run("git", "checkout", "-q", "main", cwd=clone)
    on_mount, native = clones
    assert len(run("git", "ls-files", cwd=on_mount).splitlines()) >= FILES
    run("diff", "-r", "--no-dereference", "--exclude=.git", native, on_mount)
    run("git", "status", cwd=on_mount)
    # diff-files compares the index with stat(2) alone: any number, size or time that moved is listed.
    assert run("git", "diff-files", cwd=on_mount) == ""
    index = (on_mount / ".git/index").read_bytes()
    assert_survives_restarts(mounted, on_mount)
    assert run("git", "diff-files", cwd=on_mount) == ""
    assert run("git", "status", "--porcelain", cwd=on_mount) == ""
    assert (on_mount / ".git/index").read_bytes() == index
    run("git", "fsck", "--strict", cwd=on_mount)
    (on_mount / "links/link-3").unlink()
    os.utime(on_mount / "part-1/sub-1/file-1.txt")
    assert len(run("git", "diff-files", cwd=on_mount).splitlines()) == 2


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_four_sqlite_writers_lose_nothing(mounted: Node, journal: str) -> None:
    path = mounted.root / "database.sqlite"
    rows = 40

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    connection = connect()
    assert connection.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
    connection.execute("CREATE TABLE made (writer INTEGER, number INTEGER, filler BLOB)")
    connection.execute("CREATE INDEX by_writer ON made (writer, number)")
    connection.close()

    def write(writer: int) -> None:
        own = connect()
        for number in range(rows):
            own.execute("BEGIN IMMEDIATE")
            own.execute("INSERT INTO made VALUES (?, ?, randomblob(2000))", (writer, number))
            own.execute("UPDATE made SET filler = randomblob(100) WHERE number = ?", (number // 2,))
            own.execute("COMMIT")
        own.close()

    children = [Child(partial(write, writer)) for writer in range(WRITERS)]
    for child in children:
        child.result()

    def assert_whole() -> None:
        connection = connect()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = connection.execute(
            "SELECT writer, count(*), max(number) FROM made GROUP BY writer"
        ).fetchall()
        assert found == [(writer, rows, rows - 1) for writer in range(WRITERS)]
        connection.close()

    assert_whole()
    assert_survives_restarts(mounted, mounted.root)
    assert_whole()
    assert run("sqlite3", path, "PRAGMA integrity_check").strip() == "ok"


def test_vim_saves_in_each_of_its_ways(mounted: Node, pair: tuple[Path, Path]) -> None:
    for place in pair:
        for ways in ("backupcopy=no", "backupcopy=yes", "nobackup nowritebackup", "backup backupcopy=no"):
            file = place / f"{ways}.txt"
            file.write_text("first line\nsecond line\n")
            file.chmod(0o640)
            for word in ("third", "fourth"):
                edit = f"normal Go{word} line"
                run("vim", "-es", "-u", "NONE", "-c", f"set {ways}", "-c", edit, "-c", "wq", file)
            os.utime(file, (1, 1))
            for backup in place.glob("*~"):
                os.utime(backup, (1, 1))
        os.utime(place, (1, 1))
    on_mount, native = pair
    assert (
        on_mount / "backupcopy=no.txt"
    ).read_text() == "first line\nsecond line\nthird line\nfourth line\n"
    assert_same(on_mount, native)
    assert_survives_restarts(mounted, on_mount)


def test_nano_saves_and_makes_its_backup(mounted: Node, pair: tuple[Path, Path]) -> None:
    for place in pair:
        file = place / "letter.txt"
        file.write_text("Dear reader\n")
        with Terminal("nano", "--ignorercfiles", "--backup", file) as terminal:
            terminal.await_output(b"Dear reader")
            terminal.type(b"Hello! \x0f")  # ^O
            terminal.await_output(b"File Name to Write")
            terminal.type(b"\r")
            terminal.await_output(b"Wrote")
            terminal.type(b"\x18")  # ^X
            terminal.await_end()
    on_mount, native = pair
    assert (on_mount / "letter.txt").read_text() == "Hello! Dear reader\n"
    run("diff", "-r", native, on_mount)
    assert sorted(os.listdir(on_mount)) == ["letter.txt", "letter.txt~"]
    assert_survives_restarts(mounted, on_mount)


def make_difficult_tree(top: Path) -> None:
    """Links of both kinds, holes, ACLs, attributes, owners, special files, odd names and times."""
    chance = random.Random(2)
    for number in range(300):
        directory = top / f"d{number % 13}/e{number % 5}"
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"file-{number}"
        file.write_bytes(chance.randbytes(chance.choice((0, 1, 100, 5_000, 70_000, 400_000))))
        file.chmod(chance.choice((0o644, 0o600, 0o755, 0o444)))
        if number % 7 == 0:
            os.link(file, top / f"hard-{number}")
            os.symlink(f"d{number % 13}", top / f"soft-{number}")
        if number % 11 == 0:
            os.setxattr(file, "user.origin", f"made by {number}".encode())
    with (top / "sparse").open("wb") as sparse:
        sparse.seek(5_000_000)
        sparse.write(b"end")
    os.mkfifo(top / "fifo", 0o640)
    for name in ("Grüße 世界".encode(), b"\xff raw", b"two\nlines", b"n" * 255):
        (top / os.fsdecode(name)).write_bytes(name)
    run("setfacl", "-m", "u:12:rwx,g:34:r", top / "d1")
    run("setfacl", "-m", "d:u:12:rwx", top / "d2")
    run("setfacl", "-m", "u:55:r", top / "sparse")
    if os.geteuid() == 0:
        os.chown(top / "d3", 1234, 4321)
        os.lchown(top / "soft-0", 77, 88)
    # Long ago: rsync takes times of one second for equal where it cannot tell.
    for number, path in enumerate([*top.rglob("*"), top]):
        os.utime(path, ns=(10**18, 10**18 + number), follow_symlinks=False)


def test_rsync_copies_everything_and_then_nothing(mounted: Node, pair: tuple[Path, Path]) -> None:
    on_mount, native = pair
    make_difficult_tree(native)
    copy = on_mount / "copy"
    run("rsync", "-aHAX", f"{native}/", f"{copy}/")
    assert_same(copy, native)
    assert run("rsync", "-aHAXni", "--delete", f"{native}/", f"{copy}/") == ""
    assert run("rsync", "-aHAXnic", "--delete", f"{native}/", f"{copy}/") == ""
    assert_survives_restarts(mounted, on_mount)
    assert run("rsync", "-aHAXni", "--delete", f"{native}/", f"{copy}/") == ""
    assert_same(copy, native)


def test_tar_unpacks_identical_trees(mounted: Node, pair: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make_difficult_tree(source)
    packed = tmp_path / "packed.tar"
    keeping = ("--format=posix", "--xattrs", "--acls", "--numeric-owner")
    run("tar", *keeping, "-C", source, "-cf", packed, ".")
    for place in pair:
        (place / "tree").mkdir()
        run("tar", *keeping, "-C", place / "tree", "-xpf", packed)
    on_mount, native = pair
    assert_same(native / "tree", source)
    assert_same(on_mount / "tree", source)
    assert_survives_restarts(mounted, on_mount)
    assert_same(on_mount / "tree", source)


def test_hard_linked_snapshots_keep_the_past_under_rsync(mounted: Node, pair: tuple[Path, Path]) -> None:
    on_mount, native = pair
    for place in pair:
        current = place / "current"
        current.mkdir()
        for number in range(200):
            (current / f"file-{number}").write_text(f"{number} as of day 0\n")
            os.utime(current / f"file-{number}", (1, 1))
        for day in range(1, 4):
            run("cp", "-al", current, place / f"day-{day}")
            changes = place / "changes"
            shutil.copytree(current, changes)
            for number in range(day, 200, 20):
                (changes / f"file-{number}").write_text(f"{number} as of day {day}\n")
                os.utime(changes / f"file-{number}", (day + 1, day + 1))
            (changes / f"file-{day + 100}").unlink()
            run("rsync", "-a", "--delete", f"{changes}/", f"{current}/")
            shutil.rmtree(changes)
        for directory in sorted(place.iterdir()):
            os.utime(directory, (1, 1))
        os.utime(place, (1, 1))
    assert_same(on_mount, native)
    assert (on_mount / "day-1/file-0").stat().st_nlink == (native / "day-1/file-0").stat().st_nlink
    assert (on_mount / "day-1/file-0").stat().st_ino == (on_mount / "current/file-0").stat().st_ino
    assert (on_mount / "day-1/file-1").read_text() == "1 as of day 0\n"
    assert_survives_restarts(mounted, on_mount)
    assert_same(on_mount, native)


def test_shared_mappings_of_four_writers_keep_every_byte(mounted: Node, pair: tuple[Path, Path]) -> None:
    size = 2 << 20

    def write(path: Path, writer: int) -> None:
        chance = random.Random(writer)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapping:
            for offset in range(writer * 4096, size, WRITERS * 4096):
                mapping[offset : offset + 4000] = chance.randbytes(4000)

    for place in pair:
        path = place / "mapped"
        path.write_bytes(b"\0" * size)
        children = [Child(partial(write, path, writer)) for writer in range(WRITERS)]
        for child in children:
            child.result()
    on_mount, native = pair
    assert (on_mount / "mapped").read_bytes() == (native / "mapped").read_bytes()
    assert_survives_restarts(mounted, on_mount)
    assert (on_mount / "mapped").read_bytes() == (native / "mapped").read_bytes()


def test_a_log_of_many_shells_keeps_every_line(mounted: Node, pair: tuple[Path, Path]) -> None:
    on_mount, _ = pair
    loop = 'for i in $(seq 100); do echo "$0 $i" >> log; done'
    for place in pair:
        children = [Child(partial(run, "sh", "-c", loop, str(who), cwd=place)) for who in range(WRITERS)]
        for child in children:
            child.result()
    logs = [(place / "log").read_text().splitlines() for place in pair]
    assert sorted(logs[0]) == sorted(logs[1])
    assert_survives_restarts(mounted, on_mount)
    assert (on_mount / "log").read_text().splitlines() == logs[0]


def test_ten_thousand_files_are_back_within_five_seconds_of_a_crash(mounted: Node) -> None:
    for number in range(10_000):
        directory = mounted.root / f"d{number // 100}"
        if number % 100 == 0:
            directory.mkdir()
        (directory / f"f{number}").write_bytes(b"%d" % number)
    took_s = mounted.crash()
    begin = time.monotonic()
    assert sum(len(files) for _, _, files in os.walk(mounted.root)) == 10_000
    assert (mounted.root / "d73/f7345").read_bytes() == b"7345"
    assert took_s < 5, f"mounting took {took_s:.1f} s, listing {time.monotonic() - begin:.1f} s"
