"""`dittofs status`, from reports."""

import msgspec

from dittofs.cli.status import exit_code, lines
from dittofs.control.protocol import DeviceStatus, Finding, Pending, StatusReport, VolumeStatus
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

LAPTOP = DeviceStatus(name="laptop", id="ab" * 32, is_this=True, is_online=True)
NAS = DeviceStatus(name="nas", id="cd" * 32, is_this=False, is_online=False)
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
        "  ONLY HERE   1,204 files: no other device has this volume yet",
        "Devices",
        "  laptop   this device",
    ]
    assert exit_code(report(GOOD)) == 0


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


def test_conflicts_exit_with_4_and_what_is_unsaved_is_named() -> None:
    volume = msgspec.structs.replace(GOOD, conflicts=1, pending=Pending(files=3, bytes=41_000_000))
    text = "\n".join(lines(report(volume, devices=(LAPTOP, NAS)), verbose=False))
    assert "1 conflict" in text
    assert "3 files, 41 MB not yet safe from a power cut" in text
    assert "nas   offline" in text
    assert "ONLY HERE" not in text
    assert exit_code(report(volume)) == 4


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
