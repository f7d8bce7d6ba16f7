"""The past, on real mounts: versions, removed files, times and snapshots, by commands and by programs."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.network import Device, Network, eventually
from tests.e2e.node import Node


def items(node: Node, *words: str | Path) -> list[dict[str, Any]]:
    """What a command tells, line by line."""
    return [json.loads(line) for line in node.run(*words, "--json").stdout.splitlines()]


def written(node: Node, path: str) -> list[dict[str, Any]]:
    return [one for one in items(node, "log", path) if one["what"] in ("created", "written")]


def test_versions_are_listed_and_had_again(node: Node) -> None:
    node.mount()
    file = node.root / "letter.txt"
    for text in ("first", "second", "third"):
        file.write_text(text)
    eventually(lambda: len(written(node, f"{node.root}/letter.txt")) == 3, 10)
    third, second, first = written(node, f"{node.root}/letter.txt")
    assert (third["is_shown"], second["is_shown"]) == (True, False)
    node.run("restore", f"{file}@{first['version']}", "-o", node.directory / "old.txt")
    assert (node.directory / "old.txt").read_text() == "first"
    assert file.read_text() == "third"
    wrong = node.run("restore", f"{file}@zzzz", check=False)
    assert wrong.returncode == 2
    assert "nothing was done\nWhich there are:  dittofs log " in wrong.stderr
    done = node.run("restore", f"{file}@{second['id']}")
    assert "1 file restored, 6 bytes" in done.stdout
    assert file.read_text() == "second"
    assert len(written(node, f"{node.root}/letter.txt")) == 4


def test_removed_files_come_back_and_are_forgotten(node: Node) -> None:
    node.mount()
    (node.root / "d").mkdir()
    (node.root / "d/a").write_text("a")
    (node.root / "d/b").write_text("bb")
    node.run("sync")  # both are published
    subprocess.run(["rm", "-r", node.root / "d"], check=True)
    eventually(lambda: len(items(node, "trash", "list")) == 2, 10)
    node.run("trash", "restore", node.root / "d/a")
    assert (node.root / "d/a").read_text() == "a"
    again = node.run("trash", "restore", node.root / "d/a", check=False)
    assert again.returncode == 1
    assert "d/a is there already" in again.stderr
    refused = node.run("trash", "empty", check=False)
    assert refused.returncode == 2
    assert "1 removed file, 2 bytes would be gone for good" in refused.stderr
    node.run("trash", "empty", "--yes")
    assert items(node, "trash", "list") == []


def test_a_whole_volume_is_set_back_to_a_time(node: Node) -> None:
    node.mount()
    (node.root / "d").mkdir()
    (node.root / "d/a").write_text("a")
    (node.root / "b").write_text("bb")
    node.run("sync")
    then = f"{datetime.now(UTC):%FT%T.%fZ}"
    (node.root / "b").write_text("changed")
    subprocess.run(["rm", "-r", node.root / "d"], check=True)
    node.run("sync")
    node.run("restore", f"{node.root}@{then}")
    assert (node.root / "d/a").read_text() == "a"
    assert (node.root / "b").read_text() == "bb"


def test_the_past_is_browsed_copied_and_compared_by_any_program(node: Node) -> None:
    node.mount()
    (node.root / "d").mkdir()
    (node.root / "d/a").write_text("first\n")
    (node.root / "run").write_text("#!/bin/sh\n")
    (node.root / "run").chmod(0o755)
    (node.root / "s").symlink_to("d/a")
    node.run("snapshot", "create", "before")
    (node.root / "d/a").write_text("second\n")
    (node.root / "s").unlink()
    (node.root / "new").write_text("n")
    node.run("sync")
    was = node.root / ".dittofs/at/before"
    assert "before" in [path.name for path in (node.root / ".dittofs/at").iterdir()]
    assert sorted(path.name for path in was.iterdir()) == ["d", "run", "s"]
    copy = node.directory / "copy"
    subprocess.run(["cp", "-a", was, copy], check=True)
    assert (copy / "d/a").read_text() == "first\n"
    assert (copy / "run").stat().st_mode & 0o777 == 0o755
    assert (copy / "run").stat().st_mtime_ns == (node.root / "run").stat().st_mtime_ns
    assert subprocess.run(["diff", "-r", was, copy], check=False).returncode == 0
    compared = subprocess.run(
        ["git", "diff", "--no-index", "--stat", was / "d", node.root / "d"], capture_output=True, text=True
    )
    assert "1 file changed" in compared.stdout
    with pytest.raises(OSError, match="Read-only"):
        (was / "d/a").write_text("x")
    second = node.run("checkout", "before", node.directory / "out")
    assert "3 files" in second.stdout
    assert (node.directory / "out/s").readlink() == Path("d/a")
    assert node.run("checkout", "before", node.directory / "out", check=False).returncode == 1
    node.run("restore", f"{node.root}/d/a@before", "-o", node.directory / "a")
    assert (node.directory / "a").read_text() == "first\n"
    node.run("restore", f"{node.root}/d@before")
    assert (node.root / "d/a").read_text() == "first\n"
    node.run("snapshot", "delete", "before")
    assert not was.exists()


def test_another_device_has_the_past_too(pair: tuple[Network, Device, Device]) -> None:
    net, a, b = pair
    (a.root / "f").write_text("from a")
    a.await_in_step()
    (b.root / "f").write_text("from b!")
    b.run("snapshot", "create", "both")
    b.await_in_step()
    eventually(lambda: len(written(a, f"{a.root}/f")) == 2, 10)
    assert [one["device"] for one in written(a, f"{a.root}/f")] == [b.label, a.label]
    eventually(lambda: (a.root / ".dittofs/at/both/f").read_text() == "from b!", 10)
    (b.root / "f").write_text("later")
    b.await_in_step()
    net.pull(a, b)
    assert (a.root / ".dittofs/at/both/f").read_text() == "from b!"
    net.plug(a, b)
    (a.root / "f").unlink()
    a.await_in_step()
    b.run("trash", "restore", b.root / "f")
    b.await_in_step()
    assert (a.root / "f").read_text() == "later"


def test_a_checkout_into_a_mount_is_refused_also_through_a_link_and_the_daemon_goes_on(node: Node) -> None:
    node.mount()
    (node.root / "d").mkdir()
    (node.root / "f").write_text("of the volume")
    node.run("snapshot", "create", "before")
    link = node.directory / "link"
    link.symlink_to(node.root / "d")
    for where in (node.root, node.root / "d", node.root / "new", link, link / "new"):
        done = node.run("checkout", "before", where, "--force", check=False, timeout_s=20)
        assert done.returncode == 1
        assert "is in a volume already" in done.stderr
        assert "dittofs restore" in done.stderr
    assert sorted(path.name for path in node.root.rglob("*")) == ["d", "f"]


def test_a_path_or_device_that_nobody_knows_is_refused_with_what_to_do_next(node: Node) -> None:
    node.mount()
    (node.root / "f").write_text("f")
    (name,) = (volume["name"] for volume in node.status()["volumes"])
    me = items(node, "log")[0]["device"]
    for words in (
        ("trash", "list", f"{name}:nope"),
        ("trash", "empty", f"{name}:nope", "--yes"),
        ("undo", "--device", me, "--since", "1h", "--dry-run", f"{name}:nope"),
        ("undo", "--device", "nope", "--since", "1h", "--dry-run", f"{name}:"),
        ("log", "--device", "nope"),
        ("log", f"{name}:nope"),
        ("devices", "retire", "nope"),
        ("devices", "remove", "nope"),
    ):
        done = node.run(*words, check=False)
        assert done.returncode == 1, words
        assert "nope" in done.stderr
        assert "dittofs log" in done.stderr or "dittofs devices" in done.stderr, words
    for words in (("trash", "empty", f"{name}:f", "--yes"), ("trash", "list", f"{name}:f")):
        node.run(*words)
    assert items(node, "log", "--device", me)
