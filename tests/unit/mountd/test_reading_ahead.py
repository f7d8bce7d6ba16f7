"""The kernel reads far ahead in large files that are here, and no further than elsewhere in all others."""

from pathlib import Path

import pytest

from dittofs.control.mountpoint import mounted_at, mounts
from mountd.kernel.reading_ahead import FAR_KIB, LARGE_BYTES, OPENING_S, ReadingAhead

USUAL = b"128\n"
FAR = b"%d" % FAR_KIB


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    """What the kernel would take for what is mounted on the root, in a directory of its own."""
    root = mounted_at("/", mounts())
    assert root is not None
    path = tmp_path / root.device / "read_ahead_kb"
    path.parent.mkdir()
    path.write_bytes(USUAL)
    return path


@pytest.fixture
def ahead(setting: Path, clock: Clock) -> ReadingAhead:
    made = ReadingAhead(clock)
    made.connect("/", setting.parent.parent)
    return made


def test_a_large_file_that_is_here_is_read_far_ahead_and_a_small_one_is_not(
    ahead: ReadingAhead, setting: Path
) -> None:
    assert ahead.is_connected
    ahead.opening(LARGE_BYTES, is_whole=True)
    assert setting.read_bytes() == FAR
    ahead.opening(LARGE_BYTES - 1, is_whole=True)
    assert setting.read_bytes().strip() == USUAL.strip()
    ahead.opening(LARGE_BYTES, is_whole=True)
    assert setting.read_bytes() == FAR


def test_who_opens_what_is_elsewhere_never_finds_the_far_setting_of_another(
    ahead: ReadingAhead, setting: Path, clock: Clock
) -> None:
    ahead.opening(LARGE_BYTES, is_whole=True)
    ahead.opening(LARGE_BYTES, is_whole=False)
    assert setting.read_bytes().strip() == USUAL.strip()
    clock.now += OPENING_S / 2
    ahead.opening(LARGE_BYTES, is_whole=True)
    assert setting.read_bytes().strip() == USUAL.strip(), "the first may not have taken the setting yet"
    clock.now += OPENING_S / 2
    ahead.opening(LARGE_BYTES, is_whole=True)
    assert setting.read_bytes() == FAR


def test_a_mount_that_is_told_to_read_further_is_left_alone(setting: Path, clock: Clock) -> None:
    setting.write_bytes(b"8192\n")
    ahead = ReadingAhead(clock)
    ahead.connect("/", setting.parent.parent)
    ahead.opening(LARGE_BYTES, is_whole=True)
    assert not ahead.is_connected
    assert setting.read_bytes().strip() == b"8192"


def test_where_nothing_may_be_set_nothing_is(clock: Clock, tmp_path: Path) -> None:
    ahead = ReadingAhead(clock)
    ahead.connect("/", tmp_path / "absent")
    ahead.opening(LARGE_BYTES, is_whole=True)
    ahead.connect("/no/mount", tmp_path)
    assert not ahead.is_connected
