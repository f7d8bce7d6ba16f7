"""What POSIX says about names, on a native file system and on a mount alike."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import EXCHANGE, NOREPLACE, Child, outcome, renameat2

PATH_BYTES_MAX = 4096  # linux/limits.h, PATH_MAX: with the byte that ends it
KINDS = ("absent", "file", "symlink", "empty", "full")
# What rename(2) does to a target (column) that is in the way of a source (row).
RENAME = {
    "file": ("done", "done", "done", "EISDIR", "EISDIR"),
    "symlink": ("done", "done", "done", "EISDIR", "EISDIR"),
    "empty": ("done", "ENOTDIR", "ENOTDIR", "done", "ENOTEMPTY"),
    "full": ("done", "ENOTDIR", "ENOTDIR", "done", "ENOTEMPTY"),
    "absent": ("ENOENT",) * 5,
}


def make(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_bytes(path.name.encode())
        case "symlink":
            path.symlink_to("somewhere")
        case "empty":
            path.mkdir()
        case "full":
            path.mkdir()
            (path / "below").write_bytes(path.name.encode())


def seen(path: Path) -> tuple[str, int]:
    """Kind and number of what is at `path`."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return "absent", 0
    if stat.S_ISLNK(status.st_mode):
        return "symlink", status.st_ino
    if stat.S_ISDIR(status.st_mode):
        return ("full" if any(path.iterdir()) else "empty"), status.st_ino
    return "file", status.st_ino


@pytest.mark.parametrize("across", [False, True], ids=["within", "across"])
@pytest.mark.parametrize("flag", [0, NOREPLACE, EXCHANGE], ids=["plain", "noreplace", "exchange"])
def test_rename_takes_the_place_of_what_it_may(here: Path, flag: int, across: bool) -> None:
    (here / "other").mkdir()
    for source_kind in KINDS:
        for place, target_kind in enumerate(KINDS):
            tag = f"{source_kind}-{target_kind}"
            source = here / f"{tag}-source"
            target = (here / "other" if across else here) / f"{tag}-target"
            make(source, source_kind)
            make(target, target_kind)
            before = seen(source), seen(target)
            expected = RENAME[source_kind][place]
            if source_kind != "absent" and flag == NOREPLACE and target_kind != "absent":
                expected = "EEXIST"
            if source_kind != "absent" and flag == EXCHANGE:
                expected = "ENOENT" if target_kind == "absent" else "done"
            assert outcome(lambda: renameat2(source, target, flag)) == expected, tag  # noqa: B023 - called at once
            after = seen(source), seen(target)
            if expected != "done":
                assert after == before, tag
            elif flag == EXCHANGE:
                assert after == (before[1], before[0]), tag
            else:
                assert after == (("absent", 0), before[0]), tag
            if expected == "done" and source_kind == "file":
                assert target.read_bytes() == source.name.encode(), tag


def test_a_directory_does_not_move_into_itself(here: Path) -> None:
    (here / "a/b/c").mkdir(parents=True)
    assert outcome(lambda: os.rename(here / "a", here / "a/b/c/d")) == "EINVAL"
    assert outcome(lambda: os.rename(here / "a", here / "a/b")) == "EINVAL"
    assert outcome(lambda: os.rename(here / "a/b/c", here / "a")) == "ENOTEMPTY"
    assert outcome(lambda: renameat2(here / "a/b/c", here / "a", EXCHANGE)) == "EINVAL"
    assert (here / "a/b/c").is_dir()


def test_unknown_and_contradicting_rename_flags_are_refused(here: Path) -> None:
    (here / "a").touch()
    (here / "b").touch()
    assert outcome(lambda: renameat2(here / "a", here / "b", NOREPLACE | EXCHANGE)) == "EINVAL"
    assert outcome(lambda: renameat2(here / "a", here / "b", 1 << 10)) == "EINVAL"


def test_renaming_between_two_names_of_one_file_changes_nothing(here: Path) -> None:
    (here / "a").write_bytes(b"x")
    os.link(here / "a", here / "b")
    os.rename(here / "a", here / "b")
    assert sorted(path.name for path in here.iterdir()) == ["a", "b"]
    os.rename(here / "a", here / "a")
    assert (here / "a").stat().st_nlink == 2


def test_rename_keeps_the_number_and_everything_below(here: Path) -> None:
    (here / "from/deep").mkdir(parents=True)
    (here / "from/deep/file").write_bytes(b"x")
    (here / "to").mkdir()
    numbers = {name: (here / "from" / name).stat().st_ino for name in (".", "deep", "deep/file")}
    os.rename(here / "from", here / "to/moved")
    for name, number in numbers.items():
        assert (here / "to/moved" / name).stat().st_ino == number
    assert os.stat(here / "to/moved/..").st_ino == os.stat(here / "to").st_ino
    assert (here / "to/moved/deep/file").read_bytes() == b"x"


def test_renaming_over_one_hard_link_keeps_the_other(here: Path) -> None:
    (here / "a").write_bytes(b"kept")
    os.link(here / "a", here / "b")
    (here / "new").write_bytes(b"new")
    os.rename(here / "new", here / "a")
    assert (here / "a").read_bytes() == b"new"
    assert (here / "b").read_bytes() == b"kept"
    assert (here / "b").stat().st_nlink == (here / "a").stat().st_nlink == 1
    assert (here / "a").stat().st_ino != (here / "b").stat().st_ino


def test_links_are_counted_and_share_everything(here: Path) -> None:
    (here / "directory").mkdir()
    first = here / "first"
    first.write_bytes(b"one")
    names = [here / "second", here / "directory/third"]
    for count, name in enumerate(names, 2):
        os.link(first, name)
        assert first.stat().st_nlink == name.stat().st_nlink == count
        assert name.stat().st_ino == first.stat().st_ino
    names[1].write_bytes(b"changed through the third")
    names[1].chmod(0o640)
    assert first.read_bytes() == b"changed through the third"
    assert first.stat().st_mode & 0o777 == 0o640
    first.unlink()
    assert names[0].stat().st_nlink == 2
    assert names[0].read_bytes() == b"changed through the third"


def test_link_refuses_directories_and_taken_names(here: Path) -> None:
    (here / "file").touch()
    (here / "other").touch()
    (here / "directory").mkdir()
    assert outcome(lambda: os.link(here / "directory", here / "x")) == "EPERM"
    assert outcome(lambda: os.link(here / "file", here / "other")) == "EEXIST"
    assert outcome(lambda: os.link(here / "file", here / "directory")) == "EEXIST"
    assert outcome(lambda: os.link(here / "absent", here / "x")) == "ENOENT"
    assert outcome(lambda: os.link(here / "file", here / "file/x")) == "ENOTDIR"


def test_a_symlink_can_have_two_names(here: Path) -> None:
    (here / "link").symlink_to("target")
    os.link(here / "link", here / "again", follow_symlinks=False)
    assert os.readlink(here / "again") == "target"
    assert (here / "link").lstat().st_nlink == 2


def test_removing_says_why_not(here: Path) -> None:
    (here / "file").touch()
    (here / "full/below").mkdir(parents=True)
    (here / "link").symlink_to("full")
    expected = [
        ("unlink", "full", "EISDIR"),
        ("unlink", "absent", "ENOENT"),
        ("unlink", "file/x", "ENOTDIR"),
        ("rmdir", "full", "ENOTEMPTY"),
        ("rmdir", "file", "ENOTDIR"),
        ("rmdir", "link", "ENOTDIR"),
        ("rmdir", "absent", "ENOENT"),
        ("rmdir", "full/below/.", "EINVAL"),
        ("rmdir", "full/below", "done"),
        ("rmdir", "full", "done"),
        ("unlink", "link", "done"),
        ("unlink", "file", "done"),
    ]
    calls = {"unlink": os.unlink, "rmdir": os.rmdir}
    found = [
        (call, name, outcome(lambda: calls[call](f"{here}/{name}")))  # noqa: B023 - called at once
        for call, name, _ in expected
    ]
    assert found == expected
    assert not list(here.iterdir())


NAMES = {
    "unicode": "Grüße 世界 🌍".encode(),
    "decomposed": "e\u0301".encode(),
    "composed": "\u00e9".encode(),
    "not utf-8": b"\xff\xfe raw \x80",
    "newline": b"two\nlines\ttab",
    "backslash": rb"back\slash",
    "control": bytes(range(1, 32)),
    "dash": b"-rf",
    "spaces": b"  ",
    "dots": b"...",
    "longest": b"n" * 255,
    "longest not ascii": "ü".encode() * 127 + b"x",
}


def test_names_are_any_bytes_up_to_255(here: Path) -> None:
    top = os.fsencode(here)
    for name in NAMES.values():
        with open(top + b"/" + name, "wb") as file:
            file.write(name)
    assert sorted(os.listdir(top)) == sorted(NAMES.values())
    for name in NAMES.values():
        with open(top + b"/" + name, "rb") as file:
            assert file.read() == name
        os.rename(top + b"/" + name, top + b"/renamed")
        os.rename(top + b"/renamed", top + b"/" + name)
    assert sorted(os.listdir(top)) == sorted(NAMES.values())


def test_longer_names_and_links_are_refused(here: Path) -> None:
    (here / "file").touch()
    long = here / ("n" * 256)
    for call in (
        long.touch,
        long.mkdir,
        lambda: os.symlink("x", long),
        lambda: os.link(here / "file", long),
        lambda: os.rename(here / "file", long),
        lambda: os.mkfifo(long),
        long.stat,
        long.unlink,
    ):
        assert outcome(call) == "ENAMETOOLONG"
    assert outcome(lambda: os.symlink("", here / "link")) == "ENOENT"
    assert outcome(lambda: os.symlink("t" * 4096, here / "link")) == "ENAMETOOLONG"
    os.symlink("t" * 4095, here / "link")
    assert os.readlink(here / "link") == "t" * 4095
    assert (here / "link").lstat().st_size == 4095


def test_symbolic_links_are_followed_and_loops_found(here: Path) -> None:
    (here / "directory").mkdir()
    (here / "directory/file").write_bytes(b"x")
    (here / "relative").symlink_to("directory/../directory")
    (here / "absolute").symlink_to(here / "directory")
    (here / "loop").symlink_to("loop")
    assert (here / "relative/file").read_bytes() == (here / "absolute/file").read_bytes() == b"x"
    assert outcome(lambda: os.stat(here / "loop")) == "ELOOP"
    assert outcome(lambda: os.readlink(here / "directory")) == "EINVAL"
    os.symlink(b"\xff raw", os.fsencode(here) + b"/raw")
    assert os.readlink(os.fsencode(here) + b"/raw") == b"\xff raw"


def test_a_path_through_a_file_is_no_path(here: Path) -> None:
    (here / "file").touch()
    for call in (
        lambda: os.stat(here / "file/x"),
        lambda: os.mkdir(here / "file/x"),
        lambda: os.rename(here / "file", here / "file/x"),
        lambda: os.chdir(here / "file"),
    ):
        assert outcome(call) == "ENOTDIR"
    assert outcome(lambda: os.mkdir(here / "absent/x")) == "ENOENT"
    assert outcome(lambda: os.mkdir(here / "file")) == "EEXIST"


def test_nothing_is_linked_or_moved_to_another_file_system(here: Path) -> None:
    (here / "file").touch()
    other = Path(f"/dev/shm/dittofs-e2e-{os.getpid()}")
    assert outcome(lambda: os.link(here / "file", other)) == "EXDEV"
    assert outcome(lambda: os.rename(here / "file", other)) == "EXDEV"
    assert (here / "file").exists()


def test_a_fifo_carries_bytes_between_processes(here: Path) -> None:
    fifo = here / "fifo"
    os.mkfifo(fifo, 0o622)
    assert stat.S_ISFIFO(fifo.stat().st_mode)

    def write() -> None:
        fifo.write_bytes(b"through")

    child = Child(write)
    assert fifo.read_bytes() == b"through"
    child.result()
    assert fifo.stat().st_size == 0


def test_a_socket_is_bound_and_reached_by_its_name(here: Path) -> None:
    os.chdir(here)  # the path of a socket is at most 107 bytes long
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind("socket")
        listener.listen()
        assert stat.S_ISSOCK((here / "socket").stat().st_mode)
        caller.connect("socket")
        peer, _ = listener.accept()
        caller.sendall(b"hello")
        assert peer.recv(5) == b"hello"
        peer.close()
    assert outcome(lambda: os.open(here / "socket", os.O_RDONLY)) == "ENXIO"
    os.chdir("/")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_device_nodes_keep_their_numbers(here: Path) -> None:
    for kind, name in ((stat.S_IFCHR, "character"), (stat.S_IFBLK, "block")):
        os.mknod(here / name, kind | 0o640, os.makedev(12, 345))
        status = (here / name).stat()
        assert stat.S_IFMT(status.st_mode) == kind
        assert status.st_rdev == os.makedev(12, 345)


def test_mknod_makes_a_regular_file(here: Path) -> None:
    os.mknod(here / "file", stat.S_IFREG | 0o640)
    assert (here / "file").stat().st_size == 0
    assert outcome(lambda: os.mknod(here / "file", stat.S_IFREG)) == "EEXIST"
    (here / "file").write_bytes(b"x")
    assert (here / "file").read_bytes() == b"x"


def test_two_hundred_levels_can_be_made_walked_and_removed(here: Path) -> None:
    path = here
    for level in range(200):
        path = path / f"level-{level}"
        path.mkdir()
    (path / "file").write_bytes(b"deep")
    assert (path / "file").read_bytes() == b"deep"
    (path / "file").unlink()
    while path != here:
        path.rmdir()
        path = path.parent


def test_paths_up_to_the_limit_are_reached_and_longer_ones_by_steps(here: Path) -> None:
    name = "p" * 200
    top = os.open(here, os.O_RDONLY | os.O_DIRECTORY)
    os.fchdir(top)
    try:
        depth = 0
        while (depth + 1) * (len(name) + 1) + len("/file") < PATH_BYTES_MAX + 2 * len(name):
            os.mkdir(name)
            os.chdir(name)
            depth += 1
        Path("file").write_bytes(b"far")
        os.fchdir(top)
        reached = "/".join([name] * (depth - 3))
        rest = PATH_BYTES_MAX - len(reached) - len("//file")
        longest = reached + "/" * (rest + 1) + "file"  # slashes count, and mean as much as one
        assert len(longest) == PATH_BYTES_MAX - 1
        assert outcome(lambda: os.stat(longest)) == "ENOENT"
        Path(longest).write_bytes(b"x")
        assert outcome(lambda: os.stat(f"{longest}s")) == "ENAMETOOLONG"
        whole = "/".join([name] * depth) + "/file"
        assert len(whole) >= PATH_BYTES_MAX
        assert outcome(lambda: os.stat(whole)) == "ENAMETOOLONG"
        os.chdir(reached)
        assert Path("/".join([name] * 3) + "/file").read_bytes() == b"far"
    finally:
        os.chdir("/")
        os.close(top)
    subprocess.run(["rm", "-rf", here / name], check=True)
    assert os.listdir(here) == []
