"""Each check of the doctor, well and not."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from dittofs.cli.examination import (
    PACKAGES,
    check_allow_other,
    check_clock,
    check_daemon,
    check_fuse,
    check_network,
    check_packages,
    check_private,
    check_room,
    check_settings,
    check_swap,
    network_checks,
)
from dittofs.config import Paths
from dittofs.control.protocol import BluetoothStatus, NetworkStatus, SignalStatus
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService


@pytest.fixture
def paths(home: Path) -> Paths:
    paths = Paths.find()
    assert paths.state.is_relative_to(home)
    paths.state.mkdir(parents=True, mode=0o700)
    return paths


def test_a_new_home_has_nothing_in_its_way_and_every_line_has_a_sign(shell: Shell) -> None:
    code = shell.run("doctor")
    *checks, last = shell.out.splitlines()
    assert all(line[0] in "✓!✗ " for line in checks)
    assert (code == 0) == (last == "Nothing stands in the way.")
    assert shell.run("doctor", "--json") == code
    assert {check["name"] for check in shell.json()} >= {"fuse", "clock"}
    assert {check["state"] for check in shell.json()} <= {"tick", "warning", "cross"}


def test_a_missing_package_is_named_with_its_command() -> None:
    def load(name: str) -> None:
        if name == "pyfuse3":
            raise ImportError("libfuse3.so.3: cannot open shared object file")

    check = check_packages(load)
    assert check.state == "cross"
    assert "pyfuse3 (libfuse3.so.3" in check.says
    assert "pip install" in check.mend
    assert check_packages(lambda _: None).says.endswith(f"has all {len(PACKAGES)} packages")


def test_a_missing_fuse_device_is_a_cross(tmp_path: Path) -> None:
    check = check_fuse(tmp_path / "fuse")
    assert (check.state, "modprobe" in check.mend) == ("cross", True)


def test_a_key_or_directory_open_to_others_is_a_cross_with_the_command_that_closes_it(paths: Paths) -> None:
    assert [check.state for check in check_private(paths)] == ["tick"]
    key, secrets = paths.state / "device.key", paths.state / "volumes" / "x" / "secrets"
    secrets.parent.mkdir(parents=True)
    for path in (key, secrets):
        path.touch(mode=0o600)
    assert [check.state for check in check_private(paths)] == ["tick"]
    key.chmod(0o640)
    secrets.chmod(0o604)
    paths.state.chmod(0o750)
    checks = list(check_private(paths))
    assert [check.mend for check in checks] == [
        f"chmod 700 {paths.state}",
        f"chmod 600 {key}",
        f"chmod 600 {secrets}",
    ]
    assert {check.state for check in checks} == {"cross"}


def test_letting_others_in_is_explained_to_users_and_free_to_root(tmp_path: Path) -> None:
    conf = tmp_path / "fuse.conf"
    assert "user_allow_other" in check_allow_other(conf, is_root=False).says
    conf.write_text("user_allow_other\n")
    assert "allows it" in check_allow_other(conf, is_root=False).says
    assert "root" in check_allow_other(conf, is_root=True).says


def test_settings_that_are_not_understood_are_a_cross(paths: Paths) -> None:
    assert check_settings(paths).state == "tick"
    paths.settings.write_text("[device]\nlabel = 3\n")
    check = check_settings(paths)
    assert check.state == "cross"
    assert "config.toml:2" in check.says


def test_a_clock_before_its_time_or_before_its_files_is_noticed(paths: Paths) -> None:
    assert check_clock(paths, 0.0).state == "cross"
    (paths.state / "journal").touch()
    assert check_clock(paths, time.time() + 1).state == "tick"
    os.utime(paths.state / "journal", (time.time() + 7200, time.time() + 7200))
    check = check_clock(paths, time.time())
    assert (check.state, "2 h from now" in check.says) == ("warning", True)


def test_swap_in_the_clear_is_a_warning_and_encrypted_swap_is_not(tmp_path: Path) -> None:
    swaps = tmp_path / "swaps"
    assert check_swap(swaps).state == "tick"
    swaps.write_text(
        "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n/dev/zram0 partition 1 0 5\n"
    )
    check = check_swap(swaps, tmp_path)
    assert (check.state, "/dev/sda2" in check.says, "zram" in check.says) == ("warning", True, False)
    uuid = tmp_path / "sda2" / "dm" / "uuid"
    uuid.parent.mkdir(parents=True)
    uuid.write_text("LVM-swap\n")
    assert check_swap(swaps, tmp_path).state == "warning"
    uuid.write_text("CRYPT-PLAIN-swap\n")
    assert check_swap(swaps, tmp_path).state == "tick"


def test_room_is_told_even_where_nothing_is_stored_yet() -> None:
    assert "free where" in check_room(Paths.find()).says


def test_the_daemon_that_answers_is_named(service: SmallService) -> None:
    assert service.files == {}
    check = check_daemon(Paths.find())
    assert (check.state, f"process {os.getpid()}" in check.says) == ("tick", True)


def test_a_home_that_cannot_be_made_is_a_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DITTOFS_HOME", "/proc/dittofs")
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    (check,) = check_private(Paths.find())
    assert (check.state, "may not write to /proc" in check.says) == ("cross", True)


def test_where_others_reach_this_device_is_told_and_what_stands_in_the_way_mended() -> None:
    assert [check.state for check in network_checks(None)] == ["tick"]
    well = list(network_checks(NetworkStatus(7347, ("192.0.2.7:7347",))))
    assert [check.state for check in well] == ["tick", "tick"]
    assert "192.0.2.7:7347" in well[0].says
    taken, mdns = network_checks(NetworkStatus(0, problem="port 7347 is taken", uses_mdns=False))
    assert (taken.state, "port 7347 is taken" in taken.says, "config.toml" in taken.mend) == (
        "cross",
        True,
        True,
    )
    assert (mdns.state, "mdns = true" in mdns.mend) == ("warning", True)
    assert next(network_checks(NetworkStatus(7347))).state == "warning"


def test_a_signalling_server_that_is_not_reached_is_told() -> None:
    servers = SignalStatus("ws://a.example:1"), SignalStatus("ws://b.example:1", "refused")
    well, lost = list(network_checks(NetworkStatus(7347, ("192.0.2.7:7347",), signal=servers)))[2:]
    assert (well.state, "a.example" in well.says) == ("tick", True)
    assert (lost.state, "refused" in lost.says, "dittofs signal" in lost.mend) == ("warning", True, True)


def test_bluetooth_is_told_of_only_where_it_was_asked_for_and_why_it_does_not_work() -> None:
    usual = NetworkStatus(7347, ("192.0.2.7:7347",))
    assert not [check for check in network_checks(usual) if check.name == "bluetooth"]
    for status, state in (
        (BluetoothStatus("hci0", "00:AA:01:00:00:42"), "tick"),
        (BluetoothStatus(problem="bluetoothd does not run on this machine"), "warning"),
    ):
        (check,) = list(network_checks(msgspec.structs.replace(usual, bluetooth=status)))[2:]
        assert (check.name, check.state) == ("bluetooth", state)
        assert (status.problem or status.controller) in check.says
    lost = BluetoothStatus(problem="Bluetooth needs the system's message bus: there is none (No such file)")
    (check,) = list(network_checks(msgspec.structs.replace(usual, bluetooth=lost)))[2:]
    assert "apt install dbus" in check.mend


def test_bluetooth_that_is_switched_on_is_told_of_while_no_daemon_runs(tmp_path: Path) -> None:
    paths = Paths.find({"DITTOFS_HOME": str(tmp_path)})
    assert not list(check_network(paths))
    paths.settings.parent.mkdir(parents=True, exist_ok=True)
    paths.settings.write_text("[network]\nbluetooth = true\n")
    (check,) = check_network(paths)
    assert (check.name, check.state) == ("bluetooth", "tick")
    assert "dittofs mount DIR" in check.says
