"""Directories to mount on. Real directories; mounts are lines of a mountinfo file."""

import os
import threading
from pathlib import Path

import pytest

from dittofs.control.faults import Refusal
from dittofs.control.mountpoint import (
    Mount,
    canonical,
    inspect,
    mounted_around,
    mounted_at,
    mounts,
    prepare,
    require_fuse,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = 65534


def ours(path: Path | str) -> Mount:
    return Mount(str(path), "fuse.dittofs", "0:99", "Shared")


def refusal(path: Path, *known: Mount) -> Refusal:
    with pytest.raises(Refusal) as caught:
        inspect(str(path), known)
    return caught.value


def test_mountinfo_is_read_with_its_escapes(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_bytes(
        b"22 1 0:20 / / rw - ext4 /dev/sda1 rw\n"
        b"40 22 0:45 / /home/a\\040b/\\134x\xff rw,nosuid shared:5 master:1 - fuse.dittofs My\\040Files rw\n"
    )
    assert mounts(mountinfo)[1] == Mount("/home/a b/\\x\udcff", "fuse.dittofs", "0:45", "My Files")


def test_the_mount_on_top_and_the_mount_around_are_found() -> None:
    known = [
        Mount("/", "ext4", "8:1", ""),
        Mount("/a", "tmpfs", "0:1", ""),
        ours("/a"),
        Mount("/a/b", "tmpfs", "0:2", ""),
    ]
    at, around = mounted_at("/a", known), mounted_around("/a/c", known)
    assert at is not None and at.is_ours
    assert around is not None and around.is_ours
    beside = mounted_around("/ab", known)
    assert beside is not None and beside.path == "/"
    inside = mounted_around("/a/b/c", known)
    assert inside is not None and inside.path == "/a/b"


def test_an_empty_directory_is_ready(tmp_path: Path) -> None:
    assert inspect(str(tmp_path), ()).state == "empty"


def test_a_directory_that_is_absent_is_made_with_its_parents_only_by_prepare(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep"
    assert inspect(str(path), ()).state == "absent"
    assert not path.parent.exists()


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")
def test_prepare_makes_what_is_missing_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep"
    assert prepare(str(path)).is_new
    assert path.is_dir()
    assert not prepare(str(path)).is_new


def test_a_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    said = refusal(path)
    assert "not a directory" in said.message
    assert said.mend.endswith(f"dittofs mount {path}-shared")
    assert "not a directory" in refusal(path / "below").message
    assert path.read_text() == "mine"


def test_a_directory_with_entries_is_refused_with_their_number(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert "its 1 entry" in refusal(tmp_path).message
    for number in range(1233):
        (tmp_path / str(number)).touch()
    assert "its 1,234 entries" in refusal(tmp_path).message


def test_a_command_that_is_suggested_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "my $(files)"
    path.mkdir()
    (path / "a").touch()
    assert refusal(path).mend.endswith(f"dittofs mount '{path}-shared'")


def test_what_is_to_be_imported_is_not_mounted_inside_of_itself_nor_where_something_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photos"
    path.mkdir()
    (path / "a").touch()
    (tmp_path / "photos-shared").touch()
    assert refusal(path).mend.endswith(f"dittofs mount {tmp_path}/photos-shared2")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refusal(path).mend.endswith("dittofs mount /home/ada/photos-shared")


def test_inside_a_mount_of_ours_is_refused_and_beside_it_is_not(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(tmp_path / "inside", ours(tmp_path)).message
    assert inspect(f"{tmp_path}-beside", [ours(tmp_path)]).state == "absent"
    (tmp_path / "disk").mkdir()
    other = Mount(str(tmp_path / "disk"), "ext4", "8:2", "")
    assert inspect(str(tmp_path / "disk" / "x"), [ours(tmp_path), other]).state == "absent"


def test_where_something_else_is_mounted_is_refused_and_a_mount_of_ours_is_live(tmp_path: Path) -> None:
    said = refusal(tmp_path, Mount(str(tmp_path), "tmpfs", "0:1", ""))
    assert "mount point already" in said.message
    assert "tmpfs" in said.message
    assert inspect(str(tmp_path), [ours(tmp_path)]).state == "live"


@as_root
def test_a_directory_this_user_may_not_write_is_refused(tmp_path: Path) -> None:
    for above in [*tmp_path.parents, tmp_path]:
        if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
            above.chmod(0o711)
    (tmp_path / "closed").mkdir(mode=0o755)
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    os.seteuid(NOBODY)
    try:
        for name in ("closed", "sticky"):
            assert refusal(tmp_path / name).code == "forbidden"
    finally:
        os.seteuid(0)


def test_without_the_device_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        require_fuse(tmp_path / "fuse")
    assert "modprobe fuse" in caught.value.mend
    assert "--device" in caught.value.mend
    (tmp_path / "fuse").mkdir()  # cannot be opened for writing
    with pytest.raises(Refusal, match="cannot be used"):
        require_fuse(tmp_path / "fuse")


def test_a_path_is_made_absolute_and_free_of_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    top = os.path.realpath(tmp_path)
    assert canonical("../link/new") == f"{top}/real/new"
    assert canonical(str(tmp_path / "link")) == f"{top}/real"
    assert canonical(".") == f"{top}/real"


def test_a_mount_that_does_not_answer_is_given_up_with_the_command_that_takes_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr("dittofs.control.mountpoint.ANSWER_S", 0.05)
    monkeypatch.setattr(os, "statvfs", lambda _path: answer.wait(10))
    said = refusal(tmp_path, ours(tmp_path))
    answer.set()
    assert (said.code, f"unmount --force {tmp_path}" in said.mend) == ("no_answer", True)


def test_another_device_in_the_place_of_fuse_is_refused() -> None:
    with pytest.raises(Refusal, match="/dev/null is not the FUSE device"):
        require_fuse(Path("/dev/null"))
