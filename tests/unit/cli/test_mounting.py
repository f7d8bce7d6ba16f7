"""`dittofs mount` and `unmount` up to the kernel; with it: tests/e2e/test_mount_commands.py."""

import json
import os
from pathlib import Path

import pytest

from dittofs.cli.asking import Place, locate, shown_directory, which_volume
from dittofs.control.faults import Refusal
from dittofs.control.protocol import VolumeStatus
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")


def test_a_directory_that_cannot_be_used_is_refused_before_a_daemon_is_started(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert shell.run("mount", tmp_path / "file") == 1
    assert "not a directory" in shell.err
    assert shell.run("mount", tmp_path) == 1
    assert "not empty" in shell.err
    assert shell.run("mount", tmp_path / "new", "-o", "ro,nonsense") == 2
    assert "'nonsense'" in shell.err
    assert shell.run("mount", "") == 2
    assert "empty word" in shell.err
    assert not home.exists()
    assert not (tmp_path / "new").exists()


def test_where_a_volume_was_mounted_before_what_was_written_meanwhile_is_named(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    place = tmp_path / "Shared"
    place.mkdir()
    (place / "notes").touch()
    (home / "state").mkdir(parents=True, mode=0o700)
    record = {"name": "Shared", "directory": "ab", "volume_id": "cd", "path": str(place)}
    (home / "state/volumes.json").write_text(json.dumps({"format": 1, "volumes": [record]}))
    assert shell.run("mount", place) == 1
    assert "it holds 1 entry written while nothing was mounted (notes)" in shell.err
    assert "Move them away, then run this again" in shell.err
    (place / "attic").touch()
    assert shell.run("mount", place) == 1
    assert "2 entries written while nothing was mounted (attic …)" in shell.err


def test_of_two_volumes_one_is_to_be_named_in_the_command_that_was_given() -> None:
    volumes = [VolumeStatus(name, "ab", "unmounted") for name in ("My Thesis", "Shared")]
    with pytest.raises(Refusal) as caught:
        which_volume(None, volumes, "dittofs share VOLUME")
    assert (caught.value.code, caught.value.mend) == ("usage", "dittofs share 'My Thesis'")
    with pytest.raises(Refusal) as caught:
        locate("a", volumes)
    assert caught.value.mend == "Write  VOLUME:PATH   as in  'My Thesis':a"


@needs_fuse
def test_a_mount_that_is_not_to_be_seen_here_needs_attention(
    shell: Shell, service: SmallService, tmp_path: Path
) -> None:
    assert shell.run("mount", tmp_path / "new", "--json") == 5
    assert service.mounted_at == os.fsencode(tmp_path / "new")
    assert "another mount namespace" in shell.err


def test_unmounting_by_name_and_all_reaches_the_daemon(shell: Shell, service: SmallService) -> None:
    service.mounted_at = b"/srv/\x1bShared"
    assert shell.run("unmount", "Shared") == 0
    assert shell.out == "Unmounted /srv/\\x1bShared.\n"
    service.mounted_at = b"/srv/Shared"
    assert shell.run("unmount", "--all", "--force", "--json") == 0
    assert shell.json()["unmounted"][0]["is_lazy"]


def test_unmounting_what_is_not_mounted_says_so(shell: Shell, service: SmallService, tmp_path: Path) -> None:
    assert service.mounted_at == b""
    assert shell.run("unmount", tmp_path / "elsewhere") == 1
    assert "nothing is mounted at" in shell.err


def test_unmounting_everything_without_a_daemon_is_done_already(shell: Shell) -> None:
    assert shell.run("unmount", "--all") == 0
    assert shell.out == "Nothing was mounted.\n"


def test_words_mean_a_volume_and_a_path_in_it() -> None:
    one = VolumeStatus(name="Shared", id="", state="mounted", path="/nowhere/Shared")
    two = VolumeStatus(name="Photos", id="", state="unmounted")
    assert locate("Photos:2026/a", [one, two]) == Place("Photos", b"2026/a")
    assert locate("Photos:", [one, two]) == Place("Photos", b"")
    assert locate("docs/a:b", [one]) == Place("Shared", b"docs/a:b")
    assert locate(None, [one]) == Place("Shared", b"")
    with pytest.raises(Refusal, match="which volume") as caught:
        locate("docs/a", [one, two])
    assert caught.value.code == "usage"
    with pytest.raises(Refusal, match="no volume"):
        locate(None, [])


def test_the_home_directory_is_written_as_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert shown_directory(b"/home/ada/Shared") == "~/Shared"
    assert shown_directory(b"/home/adam/Shared") == "/home/adam/Shared"
    assert shown_directory(b"/home/ada/\xff") == r"~/\xff"
