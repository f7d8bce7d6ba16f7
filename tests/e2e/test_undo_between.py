"""A tree removed on one device is held on the other, refused there, accepted there, and undone."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dittofs.control.client import Client
from dittofs.control.protocol import BrakeEvent
from tests.e2e.network import Device, Network, await_next_second, eventually

FILES = 200


@pytest.fixture
def pair(net: Network) -> tuple[Network, Device, Device]:
    """Two devices with one volume, with the brake as people have it."""
    a, b = net.device("alder"), net.device("birch")
    for device in (a, b):
        device.brakes = True
        device.configure()
    net.cable(a, b)
    a.found()
    a.share_with(b)
    return net, a, b


def content(number: int) -> bytes:
    return b"content of file %d\n" % number * 20


def fill(device: Device, files: int = FILES) -> dict[str, bytes]:
    """A tree of 200 files, or fewer, in 10 directories; path -> content."""
    made = {}
    for number in range(files):
        path = f"tree/{number % 10}/file {number}"
        (device.root / path).parent.mkdir(parents=True, exist_ok=True)
        (device.root / path).write_bytes(content(number))
        made[path] = content(number)
    return made


def read(root: Path) -> dict[str, bytes]:
    found = {}
    for path in (root / "tree").rglob("*"):
        if path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def held(device: Device) -> list[dict[str, object]]:
    volumes = device.status()["volumes"]
    return [batch for volume in volumes for batch in volume["held"]]


def files_held(device: Device) -> int:
    return sum(int(str(one["removed"])) + int(str(one["rewritten"])) for one in held(device))


@contextmanager
def listening(device: Device) -> Iterator[list[BrakeEvent]]:
    """What the brake of a device tells meanwhile."""
    heard: list[BrakeEvent] = []
    begun, is_over = threading.Event(), threading.Event()

    def listen() -> None:
        for event in Client(device.home / "run/control.sock").events():
            begun.set()
            if isinstance(event, BrakeEvent):
                heard.append(event)
            if is_over.is_set():
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert begun.wait(10)
    yield heard
    is_over.set()


def test_a_removed_tree_is_held_elsewhere_and_refusing_brings_all_of_it_back(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    made = fill(a)
    a.await_in_step()
    with listening(b) as events:
        shutil.rmtree(a.root / "tree")
        eventually(lambda: files_held(b) == FILES, 20, "all that was removed is held")
        eventually(lambda: any(event.held.device == a.label for event in events), 10)
    assert read(b.root) == made
    assert not (a.root / "tree").exists()
    status = b.run("status", check=False)
    assert status.returncode == 5
    assert "BRAKE" in status.stdout
    listed = b.run("brake", check=False)
    assert listed.returncode == 5
    assert f"{a.label} removed 200 files and 11 directories" in listed.stdout
    named = b.run("brake", "-v", check=False).stdout.splitlines()
    paths = [line.strip() for line in named if line.startswith("    ")]
    assert len(paths) == 100
    assert paths == sorted(paths)
    told = b.run("brake", "reject")
    assert "200 files" in told.stdout
    eventually(lambda: read(a.root) == made, 20, "everything is back")
    assert read(b.root) == made
    assert held(a) == held(b) == []
    assert b.run("brake").stdout == "Nothing is held.\n"


@pytest.mark.soak
def test_what_one_device_refused_is_held_by_no_other_any_more(net: Network) -> None:
    devices = [net.device(label) for label in ("alder", "birch", "cedar")]
    for device in devices:
        device.brakes = True
        device.configure()
    a, b, c = devices
    for one, other in ((a, b), (a, c), (b, c)):
        net.cable(one, other)
    a.found()
    a.share_with(b, c)
    made = fill(a, 40)
    a.await_in_step()
    shutil.rmtree(a.root / "tree")
    eventually(lambda: files_held(b) == files_held(c) == 40, 30, "both hold it")
    b.run("brake", "reject")
    eventually(lambda: held(c) == [], 30, "nothing is left to be decided")
    assert read(c.root) == made
    eventually(lambda: read(a.root) == made, 30, "everything is back")
    assert c.run("brake", "accept", check=False).returncode == 0
    assert read(c.root) == made


def test_what_was_accepted_goes_and_undo_brings_it_back(pair: tuple[Network, Device, Device]) -> None:
    _, a, b = pair
    made = fill(a)
    (a.root / "kept").write_text("kept")
    a.await_in_step()
    await_next_second()  # times are given in whole ones
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    shutil.rmtree(a.root / "tree")
    (a.root / "made").write_text("made after it")
    eventually(lambda: files_held(b) == FILES, 20, "all that was removed is held")
    b.run("brake", "accept", "--device", a.label)
    eventually(lambda: not (b.root / "tree").exists(), 20, "it is gone here too")
    planned = b.run("undo", "--device", a.label, "--since", since, "--dry-run")
    assert "200 files" in planned.stdout
    assert not (b.root / "tree").exists()
    done = json.loads(b.run("undo", "--device", a.label, "--since", since, "--json").stdout)
    kinds = [step["kind"] for step in done["steps"]]
    assert (kinds.count("back"), kinds.count("trash")) == (FILES + 11, 1)
    assert read(b.root) == made
    eventually(lambda: read(a.root) == made, 20, "everything is back")
    eventually(lambda: not (a.root / "made").exists(), 10)
    assert (a.root / "kept").read_text() == "kept"
    again = b.run("undo", "--device", a.label, "--since", since)
    assert again.stdout.startswith("Nothing to undo")


def test_files_rewritten_in_a_mass_while_apart_are_held_when_the_devices_meet(
    pair: tuple[Network, Device, Device],
) -> None:
    net, a, b = pair
    made = fill(a)
    a.await_in_step()
    net.pull(a, b)
    for path in made:
        (a.root / path).write_bytes(b"your files are encrypted " + path.encode())
    net.plug(a, b)
    eventually(lambda: files_held(b) == FILES, 30, "all that was rewritten is held")
    assert read(b.root) == made
    b.restart()
    assert files_held(b) == FILES
    assert read(b.root) == made
    (b.root / "tree/0/file 0").write_bytes(b"wanted here")
    b.run("brake", "reject")
    made["tree/0/file 0"] = b"wanted here"
    eventually(lambda: read(a.root) == made, 30, "everything is back")
    assert read(b.root) == made


def test_an_unmounted_folder_and_a_daemon_without_its_disk_remove_nothing(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    made = fill(a)
    a.await_in_step()
    a.run("unmount", a.root)
    assert not (a.root / "tree").exists()
    (a.root / "tree").mkdir()  # into the bare directory that programs see now
    shutil.rmtree(a.root / "tree")
    a.end_daemon()
    state = a.home / "state"
    state.rename(a.home / "elsewhere")  # the disk with everything on it is not there
    refused = a.run("status", check=False)
    assert refused.returncode != 0 or "Shared" not in refused.stdout
    if refused.returncode == 0 or state.exists():
        a.run("daemon", "stop", check=False)
        shutil.rmtree(state, ignore_errors=True)
    (a.home / "elsewhere").rename(state)
    a.mount()
    eventually(lambda: read(a.root) == made, 20)
    a.await_in_step()
    assert read(b.root) == made
    assert held(b) == []
