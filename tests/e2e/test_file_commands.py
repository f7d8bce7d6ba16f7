"""Files in and out of volumes by the real command, and what the commands say as JSON."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.node import Node

LARGE = os.urandom(900_000)


def lines(node: Node, *arguments: str | Path) -> list[dict[str, Any]]:
    """The JSON objects a command prints, one a line."""
    return [json.loads(line) for line in node.run(*arguments, "--json").stdout.splitlines()]


def test_added_files_come_out_as_they_went_in(mounted: Node, tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(LARGE)
    (tmp_path / "empty").touch()
    source.chmod(0o640)
    os.utime(source, ns=(10**18, 10**18 + 5))
    mounted.run("add", source, tmp_path / "empty", "--to", mounted.root / "deep/er")
    there = mounted.root / "deep/er/large.bin"
    assert there.read_bytes() == LARGE
    assert there.stat().st_mtime_ns == 10**18 + 5
    assert there.stat().st_mode & 0o777 == 0o640
    assert (mounted.root / "deep/er/empty").stat().st_size == 0
    mounted.run("get", "--file", there, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == LARGE
    mounted.crash()
    assert there.read_bytes() == LARGE


def test_files_go_in_and_out_without_a_mount(mounted: Node, tmp_path: Path) -> None:
    (mounted.root / "letter").write_text("Dear reader\n")
    mounted.unmount()
    (tmp_path / "more").write_text("P.S.\n")
    mounted.run("add", tmp_path / "more", "--to", "mount:")
    out = mounted.run("get", "--file", "mount:letter", "-o", "-").stdout
    assert out == "Dear reader\n"
    assert sorted(entry["path"] for entry in lines(mounted, "list", "mount:")) == ["letter", "more"]
    mounted.mount()
    assert (mounted.root / "more").read_text() == "P.S.\n"


def test_adding_replaces_only_when_asked_to(mounted: Node, tmp_path: Path) -> None:
    source = tmp_path / "name"
    source.write_text("one")
    mounted.run("add", source, "--to", mounted.root)
    source.write_text("two")
    refused = mounted.run("add", source, "--to", mounted.root, check=False)
    assert refused.returncode == 1
    assert "--replace" in refused.stderr
    assert (mounted.root / "name").read_text() == "one"
    mounted.run("add", "--replace", source, "--to", mounted.root)
    assert mounted.run("get", "--file", mounted.root / "name", "-o", "-").stdout == "two"


def test_output_appears_whole_or_not_at_all(mounted: Node, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    (mounted.root / "file").write_text("theirs")
    refused = mounted.run("get", "--file", mounted.root / "file", "-o", out, check=False)
    assert refused.returncode == 1
    assert out.read_text() == "mine"
    mounted.run("get", "--file", mounted.root / "file", "-o", out, "--force")
    assert out.read_text() == "theirs"
    absent = mounted.run("get", "--file", mounted.root / "absent", "-o", tmp_path / "none", check=False)
    assert absent.returncode == 1
    assert not (tmp_path / "none").exists()


def test_a_file_is_put_together_from_the_hashes_its_listing_shows(mounted: Node, tmp_path: Path) -> None:
    (mounted.root / "large").write_bytes(LARGE)
    os.sync()
    mounted.restart()
    runs = [item for item in lines(mounted, "list", "-v", mounted.root / "large") if "ids" in item]
    ids = [identity for run in runs for identity in run["ids"]]
    assert len(ids) > 3
    assert sum(size for run in runs for size in run["sizes"]) == len(LARGE)
    mounted.run("get", "--hashes", ",".join(ids), "-o", tmp_path / "out")
    assert hashlib.sha256((tmp_path / "out").read_bytes()).digest() == hashlib.sha256(LARGE).digest()
    unknown = mounted.run("get", "--hashes", "00" * 32, "-o", tmp_path / "none", check=False)
    assert unknown.returncode == 1
    assert not (tmp_path / "none").exists()


def test_a_listing_says_what_stat_says(mounted: Node) -> None:
    (mounted.root / "directory").mkdir(mode=0o750)
    (mounted.root / "directory/file").write_bytes(b"x" * 1234)
    (mounted.root / "link").symlink_to("directory/file")
    raw = os.fsencode(mounted.root) + b"/\xff raw"
    with open(raw, "wb") as file:
        file.write(b"y")
    listed = {entry["path"]: entry for entry in lines(mounted, "list", mounted.root)}
    assert {path: entry["kind"] for path, entry in listed.items()} == {
        "directory": "directory",
        "directory/file": "file",
        "link": "symlink",
        "\ufffd raw": "file",
    }
    for path in ("directory", "directory/file", "link"):
        status = (mounted.root / path).lstat()
        entry = listed[path]
        assert entry["number"] == status.st_ino
        assert entry["mtime_ns"] == status.st_mtime_ns
        assert entry["mode"] == status.st_mode & 0o7777
    assert listed["directory/file"]["size"] == 1234
    assert listed["\ufffd raw"]["path_raw"]
    text = mounted.run("list", mounted.root / "directory").stdout
    assert "file" in text
    assert "link" not in text


def test_check_reads_everything_and_names_a_flipped_bit(mounted: Node) -> None:
    (mounted.root / "good").write_bytes(os.urandom(300_000))
    os.sync()
    mounted.restart()
    done = mounted.run("check", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["findings"] == 0
    mounted.unmount()
    mounted.end_daemon()
    packs = [path for path in mounted.home.rglob("*") if path.is_file() and path.stat().st_size > 300_000]
    (pack,) = [path for path in packs if "pack" in str(path.relative_to(mounted.home))]
    with pack.open("r+b") as file:
        file.seek(150_000)
        byte = file.read(1)
        file.seek(150_000)
        file.write(bytes([byte[0] ^ 1]))
    mounted.mount()
    mounted.expects_errors = True
    found = mounted.run("check", mounted.root, "--json", check=False)
    assert found.returncode == 5
    assert any(item.get("path") == "good" for item in map(json.loads, found.stdout.splitlines()))
    with pytest.raises(OSError):
        (mounted.root / "good").read_bytes()


def test_a_command_without_a_daemon_says_what_to_do(node: Node) -> None:
    done = node.run("list", check=False)
    assert done.returncode == 1
    assert "dittofs mount" in done.stderr
