"""Daemons are killed, vanish, go back to a backup or are doubled while they replicate: nothing is lost."""

import errno
import os
import random
import shutil
import time
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.alike import are_alike, assert_alike
from tests.e2e.network import Device, Network, eventually
from tests.e2e.processes import Child
from tests.e2e.witness import ABSENT, Testimony, Witness, content, read_log, work_until_the_daemon_dies

BEATS_MAX = 60  # acknowledged changes before the kill
SPREAD_S = 0.03
VANISHED_S = 30.0
"""READ_PATIENCE_S, and room for a busy machine."""
LARGE = 16 << 20


def settle(*devices: Device) -> None:
    """All devices become alike."""
    eventually(lambda: are_alike(*devices), 60, "all devices show the same")
    devices[0].await_in_step()
    assert_alike(*devices)


def assert_as_testified(directory: Path, name: str, testimony: Testimony) -> None:
    """The name shows the acknowledged version whole, or one begun after it: that one as far as it came.

    (The test ends programs in the middle of a write, and a file that was cut is closed as it is.)
    """
    allowed = testimony.allowed()
    places = [path for path in directory.rglob(name) if not path.is_dir()]
    if not places:
        assert ABSENT in allowed, f"{name} is gone; it must be version {allowed}"
        return
    data = places[0].read_bytes()
    assert data == content(name, testimony.acknowledged) or any(
        content(name, version).startswith(data) for version in testimony.begun
    ), f"{name}, {len(data)} bytes that begin {data[:40]!r}, is no version of {allowed}"


def round_of_work(a: Device, b: Device, number: int, logs: Path) -> None:
    """Work on both devices, kill one, mount it again, and let them meet."""
    chance = random.Random(number)
    victim, other = (a, b) if chance.random() < 0.5 else (b, a)
    pid = victim.daemon_pid()
    (a.root / f"round-{number}").mkdir()
    eventually((b.root / f"round-{number}").exists, 20)
    beats, beat = os.pipe()
    workers = []
    names = []
    for device in (a, b):
        for kind in ("rewriter", "saver", "mover"):
            name = f"{kind}-{device.label}-{number}"
            names.append(name)
            directory = device.root / f"round-{number}"
            witness = Witness(directory, logs / name, beat, name, chance.randrange(1 << 30))
            workers.append(Child(partial(work_until_the_daemon_dies, witness)))
            witness.close()
    os.close(beat)
    try:
        for _ in range(chance.randrange(1, BEATS_MAX)):
            assert os.read(beats, 1), "all workers ended before the daemon was killed"
        time.sleep(chance.random() * SPREAD_S)  # the kill falls anywhere within an operation
        victim.kill_daemon(pid)
        for device, worker in zip([a] * 3 + [b] * 3, workers, strict=True):
            if device is victim:
                worker.result()
    finally:
        for worker in workers:
            worker.end()
        os.close(beats)
    victim.mount()
    settle(victim, other)
    for name in names:
        for file, testimony in read_log(logs / name).items():
            assert_as_testified(a.root / f"round-{number}", file, testimony)


@pytest.mark.parametrize(
    "rounds", [range(4), pytest.param(range(4, 34), marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_everything_acknowledged_is_on_both_after_either_daemon_was_killed(
    pair: tuple[Network, Device, Device], tmp_path: Path, rounds: range
) -> None:
    _, a, b = pair
    for number in rounds:
        round_of_work(a, b, number, tmp_path)


@pytest.mark.parametrize("how", ["pulled", "killed", pytest.param("lost", marks=pytest.mark.soak)])
def test_a_read_whose_peer_vanishes_fails_clearly_in_time_and_works_when_it_is_back(
    pair: tuple[Network, Device, Device], how: str
) -> None:
    net, a, b = pair
    a.run("copies", "on-demand")
    data = os.urandom(LARGE)
    (a.root / "large").write_bytes(data)
    eventually(lambda: (b.root / "large").stat().st_size == LARGE, 20)
    with (b.root / "large").open("rb") as file:
        assert file.read(1 << 20) == data[: 1 << 20]
        if how == "killed":
            a.kill_daemon()
        else:
            (net.pull if how == "pulled" else net.lose)(a, b)
        begun = time.monotonic()
        file.seek(LARGE // 2)
        with pytest.raises(OSError) as failed:
            file.read(1 << 20)
        took_s = time.monotonic() - begun
        print(f"{how}: {errno.errorcode[failed.value.errno or 0]} after {took_s:.1f} s")
        assert failed.value.errno in (errno.ETIMEDOUT, errno.EIO)
        assert took_s < VANISHED_S
    if how == "killed":
        a.mount()
    else:
        (net.plug if how == "pulled" else net.find)(a, b)
    with (b.root / "large").open("rb") as file:
        eventually(lambda: file.seek(LARGE // 2) and file.read(1 << 20) == data[LARGE // 2 :][: 1 << 20], 30)


def test_a_state_from_a_backup_heals_without_loss(
    pair: tuple[Network, Device, Device], tmp_path: Path
) -> None:
    _, a, b = pair
    for number in range(10):
        (a.root / f"before{number}").write_text(f"{number}")
    a.await_in_step()
    b.unmount()
    b.end_daemon()
    shutil.copytree(b.home, tmp_path / "backup", symlinks=True)
    b.mount()
    for device in (a, b):
        (device.root / f"after of {device.label}").write_text(device.label)
        (device.root / "before0").write_text(f"written by {device.label}")
        settle(a, b)
    (b.root / "before1").unlink()
    (b.root / "before2").rename(b.root / "renamed")
    (a.root / "before3").write_text("written by alder")
    settle(a, b)
    b.unmount()
    b.end_daemon()
    shutil.rmtree(b.home)
    shutil.copytree(tmp_path / "backup", b.home, symlinks=True)
    b.expects_errors = True  # it says that another copy of this device has written too
    b.mount()
    (b.root / "after the backup").write_text("and on")
    (b.root / "before4").write_text("written after the backup")
    eventually(lambda: (a.root / "after the backup").exists(), 30)
    settle(a, b)
    texts = {path.read_text() for path in b.root.iterdir()}
    expected = {
        "alder",
        "birch",
        "written by birch",
        "written by alder",
        "and on",
        "written after the backup",
    }
    assert expected <= texts
    assert (b.root / "renamed").read_text() == "2"


def test_two_live_devices_with_one_key_are_refused_and_told(net: Network) -> None:
    a, b, twin = net.device("alder"), net.device("birch"), net.device("twin")
    net.cable(a, b)
    net.cable(a, twin)
    a.found()
    a.share_with(b)
    a.await_in_step()
    b.unmount()
    b.end_daemon()
    shutil.rmtree(twin.home)
    shutil.copytree(b.home, twin.home, symlinks=True)
    b.mount()
    eventually(lambda: "peer connected" in log(b), 20)
    twin.root = twin.directory / "Shared"
    for device in (a, twin):
        device.expects_errors = True
    twin.mount(None, "--name", "Shared")
    eventually(lambda: "two devices with one key" in log(a), 20)
    eventually(lambda: "duplicate" in log(twin) or "same key" in log(twin), 20)
    (a.root / "file").write_text("goes on")
    eventually(lambda: (b.root / "file").read_text() == "goes on", 20)


def log(device: Device) -> str:
    return (device.home / "state/daemon.log").read_text()


def test_a_removed_device_is_refused_and_told(pair: tuple[Network, Device, Device]) -> None:
    _, a, b = pair
    (a.root / "before").write_text("before")
    a.await_in_step()
    a.run("devices", "remove", "birch")
    (a.root / "after").write_text("after")
    told = eventually(lambda: "not a member" in b.run("status", check=False).stdout + log(b), 20)
    print(f"told after {told:.1f} s")
    assert not (b.root / "after").exists()
    assert (b.root / "before").read_text() == "before", "what it has it keeps"
    b.restart()
    assert not (b.root / "after").exists()
