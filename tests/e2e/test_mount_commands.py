"""Mounting and unmounting by the real command."""

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dittofs.control.options import FRONT_ENDS
from tests.e2e.node import Node, mounts_below
from tests.e2e.processes import NOBODY, in_child, outcome

TOLD_S = 2.0
OLD_NS = 10**18

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_file_is_there_after_a_restart(node: Node) -> None:
    node.mount()
    (node.root / "letter.txt").write_text("Dear reader\n")
    node.restart()
    assert (node.root / "letter.txt").read_text() == "Dear reader\n"


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "still open"])
def test_a_file_that_was_renamed_over_another_keeps_its_number_and_times(
    mounted: Node, is_open: bool
) -> None:
    path = mounted.root / "letter.txt"
    path.write_text("first version\n")
    mounted.restart()
    saved = mounted.root / "letter.txt.tmp"
    with saved.open("w") as file:
        file.write("second version\n")
        file.flush()
        saved.chmod(0o640)
        number = saved.stat().st_ino
        if is_open:
            os.rename(saved, path)
    if not is_open:
        os.rename(saved, path)
    expected = path.stat()
    assert expected.st_ino == number
    for come_back in (mounted.restart, mounted.crash):
        come_back()
        found = path.stat()
        assert (found.st_ino, found.st_mode, found.st_mtime_ns, found.st_ctime_ns) == (
            number,
            expected.st_mode,
            expected.st_mtime_ns,
            expected.st_ctime_ns,
        )
        assert path.read_text() == "second version\n"


def test_mounting_makes_the_directory_and_says_where_it_is(node: Node) -> None:
    done = node.run("mount", node.root)
    assert node.root.is_mount()
    assert str(node.root) in done.stdout
    again = node.run("mount", node.root)
    assert "already mounted" in again.stdout
    assert mounts_below(node.root) == [node.root]


def test_unmounting_leaves_an_empty_directory(mounted: Node) -> None:
    (mounted.root / "file").touch()
    mounted.unmount()
    assert not mounted.root.is_mount()
    assert not list(mounted.root.iterdir())


def test_status_counts_what_is_mounted(mounted: Node) -> None:
    (mounted.root / "directory").mkdir()
    (mounted.root / "directory/file").write_bytes(b"x" * 1000)
    os.sync()
    mounted.restart()
    report = mounted.status()
    (volume,) = report["volumes"]
    assert (volume["state"], volume["path"]) == ("mounted", str(mounted.root))
    assert (volume["files"], volume["bytes"]) == (1, 1000)
    text = mounted.run("status").stdout
    assert "1 file" in text
    assert str(mounted.root) in text


# Two of something


def soon(is_so: Callable[[], bool]) -> None:
    """The daemon tells one kernel cache what another mount changed right after it answered that one."""
    deadline = time.monotonic() + TOLD_S
    while not is_so():
        assert time.monotonic() < deadline, "the other mount never showed it"


def test_two_volumes_share_a_daemon_and_nothing_else(node: Node) -> None:
    places = [node.directory / "one", node.directory / "two"]
    for place in places:
        node.mount(place)
    for place in places:
        (place / "file").write_text(place.name)
    assert [(place / "file").read_text() for place in places] == ["one", "two"]
    assert sorted(volume["name"] for volume in node.status()["volumes"]) == ["one", "two"]
    assert places[0].stat().st_dev != places[1].stat().st_dev
    node.unmount(places[0])
    assert (places[1] / "file").read_text() == "two"
    node.mount(places[0])
    assert (places[0] / "file").read_text() == "one"


def test_two_mounts_of_one_volume_see_each_others_changes(node: Node) -> None:
    first, second = node.directory / "first", node.directory / "second"
    node.mount(first, "--name", "both")
    node.mount(second, "--name", "both")
    (first / "file").write_text("one")
    assert (second / "file").read_text() == "one"
    assert not (second / "made").exists()
    (first / "made").mkdir()
    soon((second / "made").is_dir)
    (second / "file").write_text("changed by the second")
    soon(lambda: (first / "file").read_text() == "changed by the second")
    soon(lambda: (first / "file").stat().st_size == 21)
    (second / "file").chmod(0o640)
    soon(lambda: (first / "file").stat().st_mode & 0o777 == 0o640)
    os.rename(first / "file", first / "made/moved")
    soon(lambda: not (second / "file").exists())
    soon(lambda: (second / "made/moved").read_text() == "changed by the second")
    assert os.listdir(second) == ["made"]
    (second / "made/moved").unlink()
    soon(lambda: not (first / "made/moved").exists())
    assert os.listdir(first / "made") == []
    (first / "busy").touch()
    for number in range(200):
        written, read = (first, second) if number % 2 else (second, first)
        (written / "busy").write_text(f"version {number}")
        soon(lambda: (read / "busy").read_text() == f"version {number}")  # noqa: B023 - called at once


# Options


@as_root
def test_others_may_enter_only_with_allow_other(node: Node) -> None:
    node.directory.parent.chmod(0o755)
    node.mount()
    os.chdir(node.directory)  # whoever made the directories above may have closed them to others
    (node.root / "file").write_text("x")
    relative = Path(node.root.name)
    assert in_child(lambda: outcome((relative / "file").read_text), uid=NOBODY) == "EACCES"
    node.unmount()
    node.mount(node.root, "-o", "allow_other")
    assert in_child(lambda: (relative / "file").read_text(), uid=NOBODY) == "x"
    os.chdir("/")


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_read_only_mount_changes_nothing(node: Node) -> None:
    node.mount()
    path = node.root / "file"
    path.write_text("x")
    node.unmount()
    node.mount(node.root, "-o", "ro")
    assert path.read_text() == "x"
    for call in (
        lambda: path.write_text("y"),
        lambda: path.chmod(0o600),
        path.unlink,
        (node.root / "directory").mkdir,
        lambda: os.rename(path, node.root / "other"),
        lambda: os.setxattr(path, "user.x", b""),
    ):
        assert outcome(call) == "EROFS"


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@as_root
def test_set_id_bits_and_devices_act_only_when_asked_for(node: Node) -> None:
    def options() -> set[str]:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            fields = line.split()
            if fields[1] == str(node.root):
                return set(fields[3].split(","))
        raise AssertionError("not mounted")

    node.mount()
    assert {"nosuid", "nodev"} <= options()
    os.mknod(node.root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert outcome((node.root / "null").read_bytes) == "EACCES"
    node.unmount()
    node.mount(node.root, "-o", "dev,suid")
    assert not {"nosuid", "nodev"} & options()
    assert (node.root / "null").read_bytes() == b""


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_access_times_follow_relatime_unless_the_mount_or_the_reader_asks_for_less(node: Node) -> None:
    file, directory, link = (node.root / name for name in ("file", "directory", "link"))

    def read(flags: int = 0) -> None:
        descriptor = os.open(file, os.O_RDONLY | flags)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # or the kernel reads what it has
        assert os.read(descriptor, 9) == b"x"
        os.close(descriptor)

    def moved(act: Callable[[], object], path: Path) -> bool:
        """Whether it counts as the first access since a change."""
        os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)
        act()
        return path.lstat().st_atime_ns > OLD_NS

    def noted() -> list[bool]:
        return [
            moved(read, file),
            moved(lambda: read(os.O_NOATIME), file),
            moved(lambda: os.listdir(directory), directory),
            moved(lambda: os.readlink(link), link),
        ]

    node.mount()
    file.write_bytes(b"x")
    directory.mkdir()
    link.symlink_to("file")
    assert noted() == [True, False, True, True]
    read()
    before = file.stat().st_atime_ns
    read()
    assert file.stat().st_atime_ns == before, "a second one on the same day does not count"
    for option, expected in (("nodiratime", [True, False, False, True]), ("noatime", [False] * 4)):
        node.unmount()
        node.mount(node.root, "-o", option)
        assert noted() == expected, option
    os.utime(file, ns=(OLD_NS, OLD_NS))
    node.unmount()
    node.mount(node.root, "-o", "ro")
    read()
    assert file.stat().st_atime_ns == OLD_NS


# What was left behind, what is in the way


def test_a_mount_left_by_a_killed_daemon_is_replaced(mounted: Node) -> None:
    (mounted.root / "file").write_text("x")
    mounted.kill_daemon()
    assert outcome(mounted.root.stat) == "ENOTCONN"
    mounted.mount()
    assert (mounted.root / "file").read_text() == "x"
    assert mounts_below(mounted.root) == [mounted.root]


def test_unmounting_what_is_in_use_says_who_uses_it(mounted: Node) -> None:
    (mounted.root / "file").write_text("x")
    user = subprocess.Popen(["cat"], cwd=mounted.root, stdin=subprocess.PIPE)
    try:
        done = mounted.run("unmount", mounted.root, check=False)
        assert done.returncode == 1
        assert str(user.pid) in done.stderr
        assert "cat" in done.stderr
        assert "--force" in done.stderr
        assert mounted.root.is_mount()
        mounted.run("unmount", "--force", mounted.root)
        assert not mounted.root.is_mount()
    finally:
        assert user.stdin is not None
        user.stdin.close()
        user.wait()


def refusal(node: Node, *arguments: str | Path, prefix: tuple[str, ...] = ()) -> str:
    """What a command that must fail says: no traceback, and nothing is mounted."""
    done = node.run(*arguments, check=False, prefix=prefix)
    assert done.returncode in (1, 2, 5), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not mounts_below(node.directory)
    return done.stderr


def test_mounting_on_a_file_says_what_to_do(node: Node) -> None:
    path = node.directory / "file"
    path.write_text("mine")
    said = refusal(node, "mount", path)
    assert "not a directory" in said
    assert str(path) in said
    assert "dittofs mount " in said
    assert path.read_text() == "mine"


def test_mounting_on_what_is_not_empty_says_what_to_do(node: Node) -> None:
    path = node.directory / "full"
    path.mkdir()
    (path / "mine").touch()
    said = refusal(node, "mount", path)
    assert "not empty" in said
    assert "dittofs mount " in said
    assert (path / "mine").exists()


def test_mounting_where_something_else_is_mounted_says_what_to_do(node: Node) -> None:
    said = refusal(node, "mount", "/proc")
    assert "mounted" in said


@as_root
def test_without_fuse_it_says_how_to_get_it(node: Node) -> None:
    hide = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9"
    prefix = ("unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh")
    said = refusal(node, "mount", node.root, prefix=prefix)
    assert "/dev/fuse" in said
    assert "modprobe fuse" in said or "--device" in said


def test_a_key_file_that_others_can_read_is_refused_with_the_command_that_mends_it(node: Node) -> None:
    node.mount()
    node.unmount()
    node.end_daemon()
    keys = [path for path in node.home.rglob("*") if path.is_file() and "key" in path.name]
    assert keys
    node.expects_errors = True
    for key in keys:
        assert key.stat().st_mode & 0o077 == 0
        key.chmod(0o644)
        said = refusal(node, "mount", node.root)
        assert f"chmod 600 {key}" in said
        key.chmod(0o600)
    node.mount()


@pytest.mark.parametrize(
    "arguments",
    [["mount"], ["mount", "/tmp/x", "-o", "nonsense"], ["unmount"], ["nonsense"], ["list", "--nonsense"]],
    ids=" ".join,
)
def test_a_command_that_makes_no_sense_exits_with_2(node: Node, arguments: list[str]) -> None:
    done = node.run(*arguments, check=False)
    assert done.returncode == 2, done.stderr
    assert "dittofs" in done.stderr
    assert "Traceback" not in done.stderr
    assert not node.home.exists() or not mounts_below(Path("/tmp/x"))


def test_unmounting_what_is_not_mounted_says_so(mounted: Node) -> None:
    done = mounted.run("unmount", mounted.directory / "elsewhere", check=False)
    assert done.returncode == 1
    assert "mounted" in done.stderr


# Names and places


def test_names_of_any_bytes_survive_a_restart(mounted: Node) -> None:
    top = os.fsencode(mounted.root)
    names = ["Grüße 世界".encode(), b"\xff\xfe", b"two\nlines", b"n" * 255, "ü".encode() * 127 + b"x", b"-rf"]
    for name in names:
        with open(top + b"/" + name, "wb") as file:
            file.write(name)
    mounted.restart()
    assert sorted(os.listdir(top)) == sorted(names)
    for name in names:
        with open(top + b"/" + name, "rb") as file:
            assert file.read() == name
    listed = [json.loads(line) for line in mounted.run("list", mounted.root, "--json").stdout.splitlines()]
    assert len(listed) >= 1


def test_the_reserved_directory_is_reached_but_never_listed(mounted: Node) -> None:
    assert ".dittofs" not in os.listdir(mounted.root)
    reserved = mounted.root / ".dittofs"
    assert "README.txt" in os.listdir(reserved)
    assert b"DittoFS" in (reserved / "README.txt").read_bytes()
    assert b"files" in (reserved / "status").read_bytes()
    for call in (
        (reserved / "new").touch,
        (reserved / "README.txt").unlink,
        lambda: (reserved / "status").write_text("x"),
        lambda: os.rename(reserved, mounted.root / "other"),
        lambda: os.rmdir(reserved),
        reserved.mkdir,
    ):
        assert outcome(call) in ("EACCES", "EPERM", "EROFS", "EEXIST", "EBUSY", "ENOTEMPTY")
    assert outcome(lambda: os.rename(mounted.root, reserved)) != "done"


def test_what_is_ignored_stays_local_and_works(mounted: Node) -> None:
    (mounted.root / ".dittoignore").write_text("*.o\nbuild/\n")
    (mounted.root / "kept.c").write_text("int main;\n")
    (mounted.root / "made.o").write_bytes(b"object")
    (mounted.root / "build").mkdir()
    (mounted.root / "build/deep").mkdir()
    (mounted.root / "build/deep/out").write_bytes(b"x" * 100_000)
    mounted.restart()
    state = {
        name: os.getxattr(mounted.root / name, "user.dittofs.state")
        for name in ("kept.c", "made.o", "build/deep/out", ".dittoignore")
    }
    assert state == {
        "kept.c": b"published",
        "made.o": b"ignored",
        "build/deep/out": b"ignored",
        ".dittoignore": b"published",
    }
    assert "user.dittofs.state" not in os.listxattr(mounted.root / "kept.c")
    assert (mounted.root / "build/deep/out").read_bytes() == b"x" * 100_000
    assert (mounted.root / "made.o").read_bytes() == b"object"
    mounted.crash()
    assert (mounted.root / "made.o").read_bytes() == b"object"
    (volume,) = mounted.status()["volumes"]
    assert volume["files"] == 2
    (mounted.root / ".dittoignore").unlink()
    mounted.restart()
    assert os.getxattr(mounted.root / "build/deep/out", "user.dittofs.state") == b"published"
    assert (mounted.root / "build/deep/out").read_bytes() == b"x" * 100_000
