"""What POSIX says about modes, owners, times, extended attributes and ACLs, native and mounted alike."""

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.processes import NOBODY, in_child, outcome

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as two users")
with_acl_tools = pytest.mark.skipif(
    not (shutil.which("setfacl") and shutil.which("getfacl")), reason="needs the package acl"
)
XATTR_BYTES_MAX = 64 << 10
NATIVE_XATTR_BYTES_MAX = 3_000  # ext4 keeps all attributes of a file in one block


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_every_mode_is_kept(here: Path) -> None:
    path = here / "file"
    path.touch()
    for bits in range(0, 0o10000, 0o111 + 0o20):
        os.chmod(path, bits)
        assert mode(path) == bits
    (here / "directory").mkdir()
    for bits in (0o1777, 0o2755, 0o6711, 0o700):
        os.chmod(here / "directory", bits)
        assert mode(here / "directory") == bits


def test_the_umask_takes_bits_from_what_is_made(here: Path) -> None:
    def make() -> None:
        os.close(os.open(here / "file", os.O_CREAT | os.O_WRONLY, 0o777))
        os.mkdir(here / "directory", 0o777)
        os.mkfifo(here / "fifo", 0o666)
        os.mknod(here / "node", stat.S_IFREG | 0o666)

    in_child(make, umask=0o027)
    assert [mode(here / name) for name in ("file", "directory", "fifo", "node")] == [
        0o750,
        0o750,
        0o640,
        0o640,
    ]


@as_root
def test_a_write_by_another_clears_set_id_bits(here: Path) -> None:
    path = here / "file"
    for bits, expected in ((0o6777, 0o777), (0o4766, 0o766), (0o2777, 0o777), (0o0777, 0o777)):
        path.write_bytes(b"x")
        os.chmod(path, bits)
        descriptor = os.open(path, os.O_RDONLY)
        in_child(lambda: path.write_bytes(b"y"), uid=NOBODY)
        assert os.fstat(descriptor).st_mode & 0o7777 == expected
        os.close(descriptor)
        os.chmod(path, bits)
        in_child(lambda: os.truncate(path, 0), uid=NOBODY)
        assert mode(path) == expected


@as_root
def test_changing_the_owner_clears_set_id_bits_of_files_only(here: Path) -> None:
    path = here / "file"
    path.touch()
    os.chmod(path, 0o6755)
    os.chown(path, NOBODY, NOBODY)
    assert mode(path) == 0o755
    os.chmod(path, 0o2644)  # without group execute this is a mark for locking
    os.chown(path, 0, 0)
    assert mode(path) in (0o2644, 0o644)
    directory = here / "directory"
    directory.mkdir()
    os.chmod(directory, 0o6755)
    os.chown(directory, NOBODY, NOBODY)
    assert mode(directory) == 0o6755


@as_root
def test_a_set_gid_directory_hands_down_its_group(here: Path) -> None:
    directory = here / "directory"
    directory.mkdir()
    os.chown(directory, 0, NOBODY)
    os.chmod(directory, 0o2777)
    (directory / "file").touch()
    (directory / "below").mkdir()
    assert (directory / "file").stat().st_gid == NOBODY
    assert (directory / "below").stat().st_gid == NOBODY
    assert mode(directory / "below") & 0o2000
    assert not mode(directory / "file") & 0o2000


@as_root
def test_only_owners_remove_from_a_sticky_directory(here: Path) -> None:
    directory = here / "sticky"
    directory.mkdir()
    os.chmod(directory, 0o1777)
    (directory / "roots").touch()
    in_child((directory / "theirs").touch, uid=NOBODY)
    assert (directory / "theirs").stat().st_uid == NOBODY

    def attempt() -> list[str]:
        return [
            outcome((directory / "roots").unlink),
            outcome(lambda: os.rename(directory / "roots", directory / "x")),
            outcome(lambda: os.rename(directory / "theirs", directory / "roots")),
            outcome((directory / "theirs").unlink),
        ]

    refused = in_child(attempt, uid=NOBODY)
    assert [one in ("EPERM", "EACCES") for one in refused] == [True, True, True, False]
    assert not (directory / "theirs").exists()


@as_root
def test_permission_bits_are_enforced(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x")
    private = here / "private"
    private.mkdir()
    (private / "file").touch()
    os.chmod(path, 0o640)
    os.chmod(private, 0o700)

    def attempt() -> list[str]:
        return [
            outcome(path.read_bytes),
            outcome(lambda: os.stat(private / "file")),
            outcome(lambda: os.chmod(path, 0o666)),
            outcome(lambda: os.chown(path, NOBODY, -1)),
            outcome(lambda: os.utime(path, (1, 1))),
            outcome(lambda: os.utime(path)),
            outcome((here / "new").touch),
            outcome(lambda: os.setxattr(path, "user.x", b"")),
        ]

    expected = ["EACCES", "EACCES", "EPERM", "EPERM", "EPERM", "EACCES", "EACCES", "EACCES"]
    assert in_child(attempt, uid=NOBODY) == expected
    os.chown(path, NOBODY, NOBODY)
    assert in_child(lambda: path.read_bytes(), uid=NOBODY) == b"x"
    assert not in_child(lambda: os.access(path, os.X_OK), uid=NOBODY)


@as_root
def test_owners_are_kept_and_minus_one_leaves_them(here: Path) -> None:
    path = here / "file"
    path.touch()
    os.chown(path, 1234, 4321)
    os.chown(path, -1, 99)
    os.chown(path, 77, -1)
    assert (path.stat().st_uid, path.stat().st_gid) == (77, 99)
    (here / "link").symlink_to("file")
    os.lchown(here / "link", 5, 6)
    assert ((here / "link").lstat().st_uid, path.stat().st_uid) == (5, 77)


def test_times_are_kept_to_the_nanosecond(here: Path) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    (here / "link").symlink_to("file")
    os.mkfifo(here / "fifo")
    for name in ("file", "directory", "link", "fifo"):
        for atime, mtime in ((1, 10**18 + 1), (1_700_000_000_123_456_789, 999_999_999), (0, 4 * 10**18 + 7)):
            os.utime(here / name, ns=(atime, mtime), follow_symlinks=False)
            status = (here / name).lstat()
            assert (status.st_atime_ns, status.st_mtime_ns) == (atime, mtime), name
    os.utime(here / "file", ns=(-1_500_000_000, -1_500_000_000))
    assert (here / "file").stat().st_mtime_ns == -1_500_000_000


def test_now_and_omit_are_what_they_say(here: Path) -> None:
    path = here / "file"
    path.touch()
    os.utime(path, ns=(5 * 10**9, 6 * 10**9))
    subprocess.run(["touch", "-a", "-d", "@7", path], check=True)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (7 * 10**9, 6 * 10**9)
    begin = time.time() - 1
    os.utime(path)
    assert path.stat().st_mtime >= begin


def test_a_set_time_survives_the_close_of_an_earlier_writer(here: Path) -> None:
    descriptor = os.open(here / "file", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"content")
    os.utime(here / "file", ns=(10**18, 10**18))
    os.close(descriptor)
    assert (here / "file").stat().st_mtime_ns == 10**18


def test_reading_moves_the_access_time_after_a_change(here: Path) -> None:
    (here / "file").write_bytes(b"x")
    (here / "directory").mkdir()
    (here / "link").symlink_to("file")
    ways: dict[str, Callable[[Path], object]] = {
        "file": Path.read_bytes,
        "directory": os.listdir,
        "link": os.readlink,
    }
    for name, read in ways.items():
        path = here / name
        os.utime(path, ns=(10**18, 2 * 10**18), follow_symlinks=False)
        read(path)
        assert path.lstat().st_atime_ns > 10**18, name


def test_extended_attributes_are_kept_listed_and_removed(here: Path) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    for path in (here / "file", here / "directory"):
        values = {
            "user.text": b"value",
            "user.empty": b"",
            "user.binary": bytes(range(256)),
            "user.ünicode": b"x",
        }
        for name, value in values.items():
            os.setxattr(path, name, value)
        assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == values
        os.setxattr(path, "user.text", b"changed")
        os.removexattr(path, "user.empty")
        assert os.getxattr(path, "user.text") == b"changed"
        assert sorted(os.listxattr(path)) == ["user.binary", "user.text", "user.ünicode"]
        assert outcome(lambda: os.getxattr(path, "user.empty")) == "ENODATA"  # noqa: B023 - called at once
        assert outcome(lambda: os.removexattr(path, "user.empty")) == "ENODATA"  # noqa: B023 - called at once


def test_attribute_flags_say_whether_it_may_exist(here: Path) -> None:
    path = here / "file"
    path.touch()
    assert outcome(lambda: os.setxattr(path, "user.x", b"1", os.XATTR_REPLACE)) == "ENODATA"
    assert outcome(lambda: os.setxattr(path, "user.x", b"1", os.XATTR_CREATE)) == "done"
    assert outcome(lambda: os.setxattr(path, "user.x", b"2", os.XATTR_CREATE)) == "EEXIST"
    assert outcome(lambda: os.setxattr(path, "user.x", b"3", os.XATTR_REPLACE)) == "done"
    assert os.getxattr(path, "user.x") == b"3"


def test_attributes_up_to_the_limit_are_kept(here: Path, request: pytest.FixtureRequest) -> None:
    path = here / "file"
    path.touch()
    is_native = request.node.callspec.params["here"] == "native"
    limit = NATIVE_XATTR_BYTES_MAX if is_native else XATTR_BYTES_MAX
    value = os.urandom(limit)
    os.setxattr(path, "user.large", value)
    os.setxattr(path, "user." + "n" * 250, b"longest name")
    assert os.getxattr(path, "user.large") == value
    assert os.getxattr(path, "user." + "n" * 250) == b"longest name"
    assert outcome(lambda: os.setxattr(path, "user.more", b"x" * (limit + 4096 * 20))) in ("E2BIG", "ENOSPC")
    assert outcome(lambda: os.setxattr(path, "user." + "n" * 251, b"")) == "ERANGE"
    assert len(os.listxattr(path)) == 2


def test_user_attributes_are_for_files_and_directories(here: Path) -> None:
    (here / "link").symlink_to("nowhere")
    os.mkfifo(here / "fifo")
    assert outcome(lambda: os.setxattr(here / "link", "user.x", b"", follow_symlinks=False)) == "EPERM"
    assert outcome(lambda: os.setxattr(here / "fifo", "user.x", b"")) == "EPERM"
    assert outcome(lambda: os.setxattr(here / "fifo", "nonsense.x", b"")) == "ENOTSUP"


@as_root
def test_trusted_and_security_attributes_are_kept_for_root(here: Path) -> None:
    path = here / "file"
    path.touch()
    os.setxattr(path, "trusted.x", b"secret")
    os.setxattr(path, "security.x", b"label")
    assert os.getxattr(path, "trusted.x") == b"secret"
    assert os.getxattr(path, "security.x") == b"label"
    assert {"trusted.x", "security.x"} <= set(os.listxattr(path))
    assert in_child(lambda: outcome(lambda: os.getxattr(path, "trusted.x")), uid=NOBODY) in (
        "ENODATA",
        "EPERM",
    )


def acl(directory: Path, *arguments: str) -> str:
    done = subprocess.run(arguments, cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout


@with_acl_tools
def test_an_acl_sets_the_group_bits_and_chmod_sets_its_mask(here: Path) -> None:
    (here / "file").touch()
    os.chmod(here / "file", 0o640)
    acl(here, "setfacl", "-m", "u:12:rwx,g:34:r", "file")
    assert mode(here / "file") == 0o670
    os.chmod(here / "file", 0o604)
    shown = acl(here, "getfacl", "-cnE", "file")
    assert shown.split() == [
        "user::rw-",
        "user:12:rwx",
        "group::r--",
        "group:34:r--",
        "mask::---",
        "other::r--",
    ]
    acl(here, "setfacl", "-b", "file")
    assert acl(here, "getfacl", "-cnE", "file").split() == ["user::rw-", "group::---", "other::r--"]
    assert "system.posix_acl_access" not in os.listxattr(here / "file")


@with_acl_tools
def test_default_acls_are_inherited(here: Path) -> None:
    inherit_default_acls(here, umask=0)


@with_acl_tools
def test_default_acls_are_inherited_in_place_of_the_umask(here: Path, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["here"] == "pyfuse3":
        # Without FUSE_DONT_MASK, which pyfuse3 cannot ask for, the kernel takes the umask from the mode.
        request.applymarker(pytest.mark.xfail(strict=True, reason="pyfuse3 cannot ask for FUSE_DONT_MASK"))
    inherit_default_acls(here, umask=0o077)


def inherit_default_acls(here: Path, umask: int) -> None:
    directory = here / "directory"
    directory.mkdir()
    acl(directory, "setfacl", "-m", "d:u::rwx,d:u:12:rwx,d:g::r-x,d:o::---,d:m::rwx", ".")

    def make() -> None:
        os.close(os.open(directory / "file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(directory / "below", 0o777)
        os.mkfifo(directory / "fifo", 0o666)
        os.symlink("x", directory / "link")

    in_child(make, umask=umask)
    assert mode(directory / "file") == 0o660
    assert mode(directory / "below") == 0o770
    assert mode(directory / "fifo") == 0o660
    base = "user::rwx user:12:rwx group::r-x mask::rwx other::---"
    default = " ".join(f"default:{entry}" for entry in base.split())
    file, below = (" ".join(acl(directory, "getfacl", "-cnE", name).split()) for name in ("file", "below"))
    assert file == base.replace("user::rwx", "user::rw-").replace("mask::rwx", "mask::rw-")
    assert below == f"{base} {default}"
    acl(directory, "setfacl", "-k", ".")
    in_child((directory / "plain").touch, umask=0o077)
    assert mode(directory / "plain") == 0o600


@with_acl_tools
def test_a_default_acl_is_for_directories(here: Path) -> None:
    (here / "file").touch()
    done = subprocess.run(["setfacl", "-m", "d:u::rwx", "file"], cwd=here, capture_output=True, check=False)
    assert done.returncode
    assert "system.posix_acl_default" not in os.listxattr(here / "file")


@as_root
@with_acl_tools
def test_acls_grant_and_deny(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x")
    os.chmod(path, 0o600)
    assert in_child(lambda: outcome(path.read_bytes), uid=NOBODY) == "EACCES"
    acl(here, "setfacl", "-m", f"u:{NOBODY}:r", "file")
    assert in_child(path.read_bytes, uid=NOBODY) == b"x"
    assert in_child(lambda: outcome(lambda: path.write_bytes(b"y")), uid=NOBODY) == "EACCES"
    os.chmod(path, 0o666)
    acl(here, "setfacl", "-m", f"u:{NOBODY}:-,g::r", "file")
    assert in_child(lambda: outcome(path.read_bytes), uid=NOBODY) == "EACCES"


def test_the_file_system_tells_its_limits(here: Path) -> None:
    told = os.statvfs(here)
    assert told.f_namemax == 255
    assert told.f_bsize == told.f_frsize == 4096
    assert told.f_blocks >= told.f_bfree >= told.f_bavail > 0
    assert os.stat(here).st_dev == os.stat(here / "..").st_dev


def test_a_size_is_what_was_written_and_blocks_are_not_absurd(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x" * 100_001)
    os.sync()
    status = path.stat()
    assert status.st_size == 100_001
    assert 100_001 <= status.st_blocks * 512 <= 300_000
    os.truncate(path, 1 << 30)
    assert path.stat().st_blocks == status.st_blocks, "a hole takes no room"


def test_an_extended_attribute_of_a_namespace_that_nobody_serves_is_not_supported(here: Path) -> None:
    path = here / "file"
    path.touch()
    for name in ("strange.one", "system.strange"):
        assert outcome(lambda: os.getxattr(path, name)) == "ENOTSUP"  # noqa: B023 - called at once
        assert outcome(lambda: os.setxattr(path, name, b"x")) == "ENOTSUP"  # noqa: B023 - called at once
        assert outcome(lambda: os.removexattr(path, name)) == "ENOTSUP"  # noqa: B023 - called at once


def test_an_extended_attribute_has_a_name_behind_its_namespace(here: Path) -> None:
    path = here / "file"
    path.touch()
    for name in ("user.", "trusted.", "security.") if os.geteuid() == 0 else ("user.",):
        for call in (
            lambda: os.setxattr(path, name, b"x"),  # noqa: B023 - called at once
            lambda: os.getxattr(path, name),  # noqa: B023 - called at once
            lambda: os.removexattr(path, name),  # noqa: B023 - called at once
        ):
            assert outcome(call) == "EINVAL", name
    assert outcome(lambda: os.setxattr(path, "system.", b"x")) == "ENOTSUP"
    assert os.listxattr(path) == []


def test_a_change_of_owner_to_nobody_takes_the_set_id_bits_of_a_file_and_not_of_a_directory(
    here: Path,
) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    for name, left in (("file", 0o755), ("directory", 0o6755)):
        (here / name).chmod(0o6755)
        os.chown(here / name, -1, -1)
        assert stat.S_IMODE((here / name).stat().st_mode) == left, name
