"""`dittofs status`, from reports."""

import msgspec
import pytest

from dittofs.cli.status import exit_code, lines
from dittofs.control.protocol import (
    BluetoothStatus,
    Custody,
    DeviceStatus,
    Finding,
    MemberStatus,
    NetworkStatus,
    Pending,
    StatusReport,
    VolumeStatus,
)
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

LAPTOP = DeviceStatus(name="laptop", id="ab" * 32, is_this=True, is_online=True)
NAS = DeviceStatus(name="nas", id="cd" * 32, is_this=False, is_online=False)
HERE = MemberStatus("laptop", "ab" * 32, "owner", is_this=True, is_online=True)
THERE = MemberStatus("nas", "cd" * 32, "writer")
GOOD = VolumeStatus(
    name="Shared",
    id="ef" * 32,
    state="mounted",
    path="/srv/Shared",
    files=1204,
    bytes=38_200_000_000,
    bytes_here=4_100_000_000,
)


def report(*volumes: VolumeStatus, devices: tuple[DeviceStatus, ...] = (LAPTOP,)) -> StatusReport:
    return StatusReport("0.1.0", 4711, 7200, 60_000_000, volumes, devices)


def test_a_volume_that_is_well_takes_two_lines() -> None:
    assert lines(report(GOOD), verbose=False) == [
        "Shared   /srv/Shared   mounted   1,204 files, 38.2 GB (4.1 GB here)",
        "  ONLY HERE   1,204 files: no other device is a member of this volume",
        "Devices",
        "  laptop   this device",
    ]
    assert exit_code(report(GOOD)) == 0


@pytest.mark.parametrize("here", [8_561_000, 8_640_000])
def test_what_is_here_is_not_said_twice(here: int) -> None:
    volume = msgspec.structs.replace(GOOD, bytes=8_600_000, bytes_here=here)
    assert lines(report(volume), verbose=False)[0].endswith("files, 8.6 MB")


def test_what_needs_attention_is_shown_with_its_command_and_exits_with_5() -> None:
    finding = Finding(severity="damage", what="pack", detail="pack 3 is cut short")
    for volume, word in (
        (msgspec.structs.replace(GOOD, damage=(finding,)), "DAMAGE"),
        (msgspec.structs.replace(GOOD, read_only="the journal cannot be appended to"), "READ-ONLY"),
        (msgspec.structs.replace(GOOD, state="failed", failure="the journal is damaged"), "FAILED"),
    ):
        text = "\n".join(lines(report(volume), verbose=False))
        assert word in text
        assert exit_code(report(GOOD, volume)) == 5


def test_what_was_recovered_is_named_and_is_no_damage() -> None:
    finding = Finding(
        "warning", "file", "holds what was being written", "a (recovered).txt", mend="look at it"
    )
    volume = msgspec.structs.replace(GOOD, damage=(finding,))
    assert lines(report(volume), verbose=False)[1:3] == [
        "  NOTICE      1 finding    look at it",
        "              a (recovered).txt: holds what was being written",
    ]
    assert exit_code(report(volume)) == 5


def test_a_volume_that_could_not_be_mounted_again_says_why_and_needs_attention() -> None:
    failure = "it was not mounted again: /srv/Shared: it holds 1 entry written while nothing was mounted (a)"
    volume = msgspec.structs.replace(GOOD, state="failed", failure=failure, members=(HERE, THERE))
    text = lines(report(volume), verbose=False)
    assert "1,204 files" in text[0]
    assert text[1] == f"  FAILED      {failure}    dittofs mount /srv/Shared"
    assert exit_code(report(volume)) == 5


def test_conflicts_exit_with_4_and_what_is_unsaved_is_named() -> None:
    volume = msgspec.structs.replace(
        GOOD, conflicts=1, pending=Pending(files=3, bytes=41_000_000), members=(HERE, THERE)
    )
    text = "\n".join(lines(report(volume, devices=(LAPTOP, NAS)), verbose=False))
    assert "CONFLICTS   1 conflict    dittofs conflicts" in text
    assert "3 files, 41 MB not yet safe from a power cut" in text
    assert "nas   offline" in text
    assert "ONLY HERE" not in text
    assert exit_code(report(volume)) == 4


def shared(custody: Custody, copies: str = "2") -> VolumeStatus:
    return msgspec.structs.replace(GOOD, members=(HERE, THERE), custody=custody, copies=copies)


def test_files_are_told_by_who_has_confirmed_to_hold_them() -> None:
    custody = Custody(
        safe=1196,
        only_here=3,
        only_here_bytes=41_000_000,
        only_elsewhere=4,
        only_elsewhere_bytes=1000,
        missing=1,
        missing_bytes=7,
        unsent=3,
        unsent_bytes=41_000_000,
        sending_to=("nas",),
        time_left_s=6.0,
    )
    assert lines(report(shared(custody)), verbose=False)[1:5] == [
        "  SAFE        1,196 files on 2 or more devices",
        "  ONLY HERE   3 files, 41 MB -> sending to nas, 6 s left",
        "  ONE COPY    4 files, 1 kB on one other device, and not here",
        "  MISSING     1 file, 7 bytes on no device that has said so    dittofs list --missing",
    ]


def test_what_is_only_here_exits_with_3_unless_nothing_is_to_be_sent() -> None:
    lonely = Custody(only_here=1, only_here_bytes=5, unsent=1, unsent_bytes=5)
    assert exit_code(report(shared(lonely))) == 3
    assert ": no other device is connected" in lines(report(shared(lonely)), verbose=False)[1]
    removed = msgspec.structs.replace(HERE, role="none")
    outside = msgspec.structs.replace(shared(lonely), role="none", members=(removed, THERE))
    assert "  ONLY HERE   1 file, 5 bytes: cannot be sent: this device has no role" in lines(
        report(outside), verbose=False
    )
    full = msgspec.structs.replace(shared(lonely), disk_low=("nas",))
    assert (
        lines(report(full), verbose=False)[1] == "  ONLY HERE   1 file, 5 bytes: no connected device has room"
    )
    meant = msgspec.structs.replace(lonely, unsent=0, unsent_bytes=0, on_demand=1, on_demand_bytes=5)
    assert exit_code(report(shared(meant, "on-demand"))) == 0
    assert "on-demand" in lines(report(shared(meant, "on-demand")), verbose=False)[1]
    alone = msgspec.structs.replace(shared(lonely), members=(HERE,))
    assert exit_code(report(alone)) == 0
    kept = shared(Custody(past=1, past_bytes=5))
    assert exit_code(report(kept)) == 3
    assert "  ONLY HERE   1 content, 5 bytes, kept by snapshots: no other device is connected" in lines(
        report(kept), verbose=False
    )
    both = msgspec.structs.replace(shared(lonely), conflicts=2)
    assert exit_code(report(both)) == 3


def test_copies_on_retired_devices_count_for_nothing_and_such_a_device_is_marked() -> None:
    gone = msgspec.structs.replace(THERE, is_retired=True)
    volume = msgspec.structs.replace(shared(Custody(only_here=1, only_here_bytes=5)), members=(HERE, gone))
    text = lines(report(volume, devices=(LAPTOP, NAS)), verbose=False)
    assert text[1] == "  ONLY HERE   1 file, 5 bytes: all other devices are retired"
    assert text[-1] == "  nas   offline   retired from Shared: its copies do not count"
    assert exit_code(report(volume)) == 0, "there is nobody to send it to"


def test_while_it_counts_nothing_is_called_safe() -> None:
    text = "\n".join(lines(report(shared(Custody(is_counting=True, safe=1204))), verbose=False))
    assert "SAFE" not in text
    assert "COUNTING" in text


def test_devices_are_shown_with_path_and_round_trip_and_a_network_that_fails_too() -> None:
    online = DeviceStatus(
        name="desktop",
        id="cd" * 32,
        is_this=False,
        is_online=True,
        path="tcp 192.168.1.7:7347",
        round_trip_s=0.003,
        is_up_to_date=True,
    )
    seen = report(GOOD, devices=(LAPTOP, online))
    assert lines(seen, verbose=False)[-1] == "  desktop   online   tcp 192.168.1.7:7347   3 ms   up to date"
    failed = msgspec.structs.replace(seen, network=NetworkStatus(port=0, problem="port 7 is taken"))
    assert "NO NETWORK  port 7 is taken" in lines(failed, verbose=False)[-1]


def test_what_bluetooth_lacks_is_said_to_who_asks_for_more() -> None:
    off = BluetoothStatus(problem="the Bluetooth controller hci0 is switched off")
    network = NetworkStatus(port=1, bluetooth=off)
    seen = msgspec.structs.replace(report(GOOD), network=network)
    assert "Bluetooth   the Bluetooth controller hci0 is switched off" in lines(seen, verbose=True)
    assert not [line for line in lines(seen, verbose=False) if "Bluetooth" in line]
    used = BluetoothStatus("hci0", "00:AA:01:00:00:42")
    network = NetworkStatus(port=1, bluetooth=used)
    seen = msgspec.structs.replace(report(GOOD), network=network)
    assert "Bluetooth   hci0   00:AA:01:00:00:42" in lines(seen, verbose=True)


def test_a_device_that_may_not_write_is_told_so_and_one_that_is_no_member_needs_attention() -> None:
    reader = msgspec.structs.replace(GOOD, role="reader", members=(HERE, THERE))
    assert "READER" in lines(report(reader), verbose=False)[1]
    assert exit_code(report(reader)) == 0
    removed = msgspec.structs.replace(HERE, role="none")
    outside = msgspec.structs.replace(GOOD, role="none", members=(removed, THERE))
    assert "dittofs join" in lines(report(outside), verbose=False)[1]
    assert exit_code(report(outside)) == 5


def test_words_that_nobody_wrote_down_are_nagged_about() -> None:
    volume = msgspec.structs.replace(GOOD, has_owner_key=True)
    assert "dittofs recovery" in "\n".join(lines(report(volume), verbose=False))


def test_a_hostile_volume_name_cannot_act_on_the_terminal() -> None:
    volume = msgspec.structs.replace(GOOD, name="\x1b[2J", path="/srv/\n", options=("fsname=\x1b",))
    assert "\x1b" not in "".join(lines(report(volume), verbose=True))
    assert not any("\n" in line for line in lines(report(volume), verbose=True))


def test_ids_and_the_daemon_are_shown_only_when_asked() -> None:
    assert "ef" * 32 not in "".join(lines(report(GOOD), verbose=False))
    text = "\n".join(lines(report(GOOD), verbose=True))
    assert "ef" * 32 in text
    assert "process 4711   up 2 h   60 MB of memory" in text


def test_without_a_volume_the_first_command_is_named() -> None:
    assert "dittofs mount ~/Shared" in lines(report(), verbose=False)[0]


def test_the_command_asks_the_daemon(shell: Shell, service: SmallService) -> None:
    service.files[b"a"] = b"12345"
    assert shell.run("status") == 0
    assert "1 file, 5 bytes" in shell.out
    assert shell.run("status", "--json") == 0
    assert shell.json()["volumes"][0]["bytes"] == 5


def test_what_nobody_can_have_is_missing_and_needs_attention() -> None:
    volume = msgspec.structs.replace(GOOD, custody=Custody(only_here=1203, missing=1, missing_bytes=7))
    assert lines(report(volume), verbose=False)[1:3] == [
        "  ONLY HERE   1,203 files: no other device is a member of this volume",
        "  MISSING     1 file, 7 bytes not on this device, and no other has them    dittofs check",
    ]
    assert exit_code(report(volume)) == 5
