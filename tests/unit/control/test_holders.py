"""Who uses a directory: real processes."""

import subprocess
import sys
from pathlib import Path

from dittofs.control.holders import Holder, holders
from dittofs.control.mountpoint import mounted_at, mounts

WAIT = "import sys; sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.read()"


def started(code: str, cwd: Path) -> subprocess.Popen[str]:
    """A process that has said it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_a_process_that_works_in_a_directory_or_has_files_open_is_named(tmp_path: Path) -> None:
    held, beside = tmp_path / "held", tmp_path / "held-beside"
    held.mkdir()
    beside.mkdir()
    (held / "a").touch()
    works = started(WAIT, held)
    opens = started("f = open('held/a'), open('held/a');" + WAIT, tmp_path)
    away = started(WAIT, beside)
    try:
        found = {holder.pid: holder.how for holder in holders(str(held))}
    finally:
        for process in (works, opens, away):
            ended(process)
    assert found == {works.pid: ("works in it",), opens.pid: ("has 2 files open",)}


def test_names_of_processes_are_those_people_know(tmp_path: Path) -> None:
    process = subprocess.Popen(["cat"], cwd=tmp_path, stdin=subprocess.PIPE)  # returns after exec
    try:
        assert holders(str(tmp_path)) == [Holder(process.pid, "cat", ("works in it",))]
    finally:
        process.communicate()


def test_a_file_that_is_only_mapped_counts(tmp_path: Path) -> None:
    process = tmp_path / "42"
    process.mkdir()
    (process / "comm").write_text("mapper\n")
    root = mounted_at("/", mounts())
    assert root is not None
    major, minor = map(int, root.device.split(":"))
    (process / "maps").write_text(f"7f00-7f01 r--s 00000000 {major:02x}:{minor:02x} 12 /name/elsewhere\n")
    assert holders("/", tmp_path) == [Holder(42, "mapper", ("has files mapped",))]
    (process / "maps").write_text("7f00-7f01 r--s 00000000 fe:fe 12 /name/elsewhere\n")
    assert holders("/", tmp_path) == []
