"""Key files: their bytes, who may read them, and what a crash leaves."""

import contextlib
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import ConfigError, Damaged, DiskError, FormatError
from dittofs.identity.key_files import FILE_BYTES_MAX, KeyFiles, Kind, OwnerOnly, pack, unpack
from dittofs.local_disk import LocalDisk
from tests.simulation.disk import SimulatedDisk
from tests.unit.identity.files import key_files

PAYLOAD = b"the payload"
PACKED = pack(Kind.DEVICE, PAYLOAD)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "my state"
    directory.mkdir(0o700)
    return directory


@pytest.fixture
def files(state: Path) -> KeyFiles:
    files = KeyFiles(LocalDisk(str(state)), OwnerOnly(state))
    files.create("device.key", Kind.DEVICE, PAYLOAD)
    return files


def test_a_key_file_is_these_bytes() -> None:
    assert PACKED.hex() == "446974746f4b6579010100000000000b746865207061796c6f616487c365f0ebb0258c"


def test_a_key_file_is_read_as_it_was_made_and_open_to_its_owner_only(files: KeyFiles, state: Path) -> None:
    assert files.read("device.key", Kind.DEVICE) == PAYLOAD
    assert stat.S_IMODE((state / "device.key").stat().st_mode) == 0o600
    assert list(state.iterdir()) == [state / "device.key"]


def test_no_bit_of_a_key_file_can_be_flipped() -> None:
    for bit in range(len(PACKED) * 8):
        damaged = bytearray(PACKED)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack(Kind.DEVICE, bytes(damaged))


@given(st.binary(max_size=200))
@example(PACKED[:-1])
@example(PACKED + b"\0")
@example(pack(Kind.VOLUME, PAYLOAD))
def test_any_other_bytes_are_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        unpack(Kind.DEVICE, data)


@pytest.mark.parametrize("place", [8, 9, 10, 11, 12])
def test_a_sound_file_of_another_version_kind_or_protection_is_refused(place: int) -> None:
    changed = bytearray(PACKED[:-8])
    changed[place] ^= 4
    with pytest.raises(FormatError):
        unpack(Kind.DEVICE, resummed(bytes(changed)))


def resummed(body: bytes) -> bytes:
    return body + blake3(body).digest(length=8)


def test_damage_names_the_file(files: KeyFiles, state: Path) -> None:
    (state / "device.key").write_bytes(PACKED[:-1] + b"?")
    with pytest.raises(Damaged, match=re.escape(f"{state}/device.key: the checksum")):
        files.read("device.key", Kind.DEVICE)


def test_a_file_of_any_length_is_read_within_bounds(files: KeyFiles, state: Path) -> None:
    os.truncate(state / "device.key", FILE_BYTES_MAX << 20)
    with pytest.raises(Damaged):
        files.read("device.key", Kind.DEVICE)


def test_a_missing_key_file_is_named(files: KeyFiles, state: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{state}/secrets is missing")):
        files.read("secrets", Kind.VOLUME)


def test_a_key_is_never_replaced(files: KeyFiles) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        files.create("device.key", Kind.DEVICE, b"another")
    assert files.read("device.key", Kind.DEVICE) == PAYLOAD


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_key_file_open_to_others_is_refused_until_the_named_command_is_run(
    files: KeyFiles, state: Path, mode: int
) -> None:
    key = state / "device.key"
    key.chmod(mode)
    with pytest.raises(ConfigError) as refusal:
        files.read("device.key", Kind.DEVICE)
    assert str(key) in str(refusal.value)
    assert f"{mode:04o}, not 0600" in str(refusal.value)
    run_what_it_says(refusal.value)
    assert files.read("device.key", Kind.DEVICE) == PAYLOAD


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o710, 0o701])
def test_keys_in_a_directory_open_to_others_are_neither_read_nor_made(
    files: KeyFiles, state: Path, mode: int
) -> None:
    state.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}, not 0700"):
        files.create("secrets", Kind.VOLUME, PAYLOAD)
    assert not (state / "secrets").exists()
    with pytest.raises(ConfigError, match=f"{mode:04o}, not 0700") as refusal:
        files.read("device.key", Kind.DEVICE)
    run_what_it_says(refusal.value)
    assert files.read("device.key", Kind.DEVICE) == PAYLOAD


def run_what_it_says(refusal: ConfigError) -> None:
    _, _, command = str(refusal).partition("Run: ")
    subprocess.run(["sh", "-c", command], check=True)


@pytest.mark.usefixtures("files")
def test_keys_of_another_user_are_refused(state: Path) -> None:
    stranger = OwnerOnly(state, uid=os.geteuid() + 1)
    with pytest.raises(ConfigError, match=re.escape(f"'{state}'")) as refusal:
        KeyFiles(LocalDisk(str(state)), stranger).read("device.key", Kind.DEVICE)
    assert "sudo chown" in str(refusal.value)


def test_a_link_in_place_of_a_key_file_is_refused(files: KeyFiles, state: Path) -> None:
    (state / "device.key").rename(state / "elsewhere")
    (state / "device.key").symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="not a regular file"):
        files.read("device.key", Kind.DEVICE)


def test_after_a_crash_at_any_instant_a_key_file_is_absent_or_whole() -> None:
    disks: list[SimulatedDisk] = []
    disk = SimulatedDisk(hook=lambda _event: disks.append(disk.fork()))
    key_files(disk).create("volumes/v/secrets", Kind.VOLUME, PAYLOAD)
    disks.append(disk.fork())
    for step, before in enumerate(disks):
        for seed in range(20):
            crashed = before.fork()
            crashed.crash(seed)
            files = key_files(crashed)
            if not files.exists("volumes/v/secrets"):
                assert step < len(disks) - 1, "it was durable when `create` returned"
                files.create("volumes/v/secrets", Kind.VOLUME, PAYLOAD)
            assert files.read("volumes/v/secrets", Kind.VOLUME) == PAYLOAD


def test_after_a_crash_at_any_instant_a_replaced_key_file_is_the_old_or_the_new_one() -> None:
    disks: list[SimulatedDisk] = []
    disk = SimulatedDisk()
    key_files(disk).create("volumes/v/secrets", Kind.VOLUME, b"a longer payload from before")
    disk.hook = lambda _event: disks.append(disk.fork())
    key_files(disk).replace("volumes/v/secrets", Kind.VOLUME, PAYLOAD)
    disks.append(disk.fork())
    found = set()
    for step, before in enumerate(disks):
        for seed in range(20):
            crashed = before.fork()
            crashed.crash(seed)
            payload = key_files(crashed).read("volumes/v/secrets", Kind.VOLUME)
            found.add(payload)
            if step == len(disks) - 1:
                assert payload == PAYLOAD, "it was durable when `replace` returned"
    assert found == {b"a longer payload from before", PAYLOAD}


def test_only_a_key_that_is_there_and_private_is_replaced(files: KeyFiles, state: Path) -> None:
    with pytest.raises(ConfigError, match="secrets is missing"):
        files.replace("secrets", Kind.VOLUME, PAYLOAD)
    (state / "device.key").chmod(0o644)
    with pytest.raises(ConfigError, match="0644, not 0600"):
        files.replace("device.key", Kind.DEVICE, b"another")
    assert sorted(path.name for path in state.iterdir()) == ["device.key"]


def test_a_key_that_was_read_survives_a_crash_even_if_its_maker_died() -> None:
    disk = SimulatedDisk()
    disk.fail_path("volumes/v", {"sync_directory"})
    with contextlib.suppress(DiskError):
        key_files(disk).create("volumes/v/secrets", Kind.VOLUME, PAYLOAD)
    disk.fail_path("volumes/v", ())
    disk.kill()
    for seed in range(20):
        crashed = disk.fork()
        assert key_files(crashed).read("volumes/v/secrets", Kind.VOLUME) == PAYLOAD
        crashed.crash(seed)
        assert key_files(crashed).read("volumes/v/secrets", Kind.VOLUME) == PAYLOAD


def test_a_longer_file_left_by_a_crash_is_no_part_of_the_key() -> None:
    disk = SimulatedDisk()
    left = disk.open("device.key.new", create=True)
    left.write(0, bytes(1000))
    left.close()
    key_files(disk).create("device.key", Kind.DEVICE, PAYLOAD)
    assert key_files(disk).read("device.key", Kind.DEVICE) == PAYLOAD


@pytest.mark.parametrize("event", ["write", "sync", "truncate"])
def test_a_disk_that_fails_leaves_no_part_of_a_key(event: str) -> None:
    disk = SimulatedDisk()
    disk.fail_path("device.key.new", {event})
    with pytest.raises(DiskError):
        key_files(disk).create("device.key", Kind.DEVICE, PAYLOAD)
    assert disk.listdir("") == []
