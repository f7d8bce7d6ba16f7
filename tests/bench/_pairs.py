"""Two devices with one folder: DittoFS, rsync and Syncthing over the same cable."""

import ctypes
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from dittofs.control.client import Client
from dittofs.control.protocol import StatusReport, VolumeStatus
from dittofs.control.sharing import CopiesRequest
from tests.bench._machine import cpu_s, resident_bytes
from tests.e2e.network import NAMESPACES, Device, Network, network

LOOK_S: Final = 0.001
STATUS_LOOK_S: Final = 0.25  # a daemon's report costs it some milliseconds
PATIENCE_S: Final = 60.0
RSYNC_PORT: Final = 8730
SYNCTHING_PORT: Final = 22000
REST_PORT: Final = 8384
FOLDER: Final = "bench"
API_KEY: Final = "a-key-that-guards-nothing"
SHIPPED_DELAY_S: Final = 10
MIB: Final = 1 << 20


class Pair(Protocol):
    """One program that keeps two directories alike."""

    name: str
    a: Path
    b: Path

    def start(self) -> None:
        """Both sides run, connected, with nothing in the folder."""

    def tell(self, path: str = "") -> None:
        """Something below `path` has changed on A: a program that would wait is told now."""

    def stored_bytes(self) -> int | None:
        """What B has stored of contents; None if what is visible there is all there."""

    def pids(self) -> list[int]:
        """The lasting processes of A and B."""

    def cpu_s(self) -> float:
        """Of both sides since they were started."""

    def stop_b(self) -> None: ...

    def start_b(self) -> None: ...

    def stop(self) -> None: ...


class Cable:
    """Two network namespaces and what is between them."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.a, self.b = net.device("alder"), net.device("birch")
        net.cable(self.a, self.b)

    def wire_bytes(self) -> int:
        """Everything that went over the cable, both ways, with all headers."""
        return self.a.sent_bytes() + self.b.sent_bytes()

    def pull(self) -> None:
        self.net.pull(self.a, self.b)

    def plug(self) -> None:
        self.net.plug(self.a, self.b)


@contextmanager
def cable(directory: Path) -> Iterator[Cable]:
    """Plugged in, and gone afterwards with the daemons of both ends."""
    with network(directory) as net:
        yield Cable(net)


def await_true(
    condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S, look_s: float = LOOK_S
) -> float:
    """Seconds until `condition` holds. TimeoutError after `patience_s`."""
    begun = time.perf_counter()
    while True:
        try:
            if condition():
                return time.perf_counter() - begun
        except OSError:
            pass
        if time.perf_counter() - begun > patience_s:
            raise TimeoutError(f"not within {patience_s:g} s: {what}")
        time.sleep(look_s)


class DittoPair:
    """Two daemons with mounts; every content is to be on both (`copies = 2`, the default)."""

    name = "DittoFS"

    def __init__(self, ends: Cable) -> None:
        self._a, self._b = ends.a, ends.b
        self.a, self.b = Path(), Path()
        self._ended_cpu_s = 0.0
        self._pids: list[int] = []

    def start(self) -> None:
        self._a.found()
        self._a.share_with(self._b)
        self.a, self.b = self._a.root, self._b.root
        self._note_pids()
        await_true(self._is_connected, "the two devices connect", look_s=STATUS_LOOK_S)

    def _note_pids(self) -> None:
        self._pids = [self.status(device).pid for device in (self._a, self._b)]

    def _is_connected(self) -> bool:
        members = self.volume(self._a).members
        return any(one.is_online and one.is_up_to_date for one in members if not one.is_this)

    def client(self, device: Device) -> Client:
        return Client(device.home / "run/control.sock")

    def status(self, device: Device) -> StatusReport:
        return self.client(device).status()

    def volume(self, device: Device) -> VolumeStatus:
        return self.status(device).volumes[0]

    def set_copies(self, text: str) -> None:
        self.client(self._a).copies(CopiesRequest(volume=self.volume(self._a).name, copies=text))

    def tell(self, path: str = "") -> None:
        del path

    def stored_bytes(self) -> int | None:
        return sum(pack.stat().st_size for pack in self._b.home.rglob("*.pack"))

    def is_confirmed(self) -> bool:
        """A knows that B holds all of everything, durably."""
        volume = self.volume(self._a)
        custody = volume.custody
        return not (custody.is_counting or custody.unsent or volume.pending.files)

    def is_parted(self) -> bool:
        """Both sides have noticed that the other is gone."""
        volumes = [self.volume(device) for device in (self._a, self._b)]
        return not any(one.is_online for volume in volumes for one in volume.members if not one.is_this)

    def pids(self) -> list[int]:
        return self._pids

    def cpu_s(self) -> float:
        return self._ended_cpu_s + sum(map(cpu_s, self._pids))

    def stop_b(self) -> None:
        self._b.unmount()
        self._ended_cpu_s += cpu_s(self._pids[1])
        self._b.end_daemon()

    def start_b(self) -> None:
        self._b.mount()
        self._note_pids()

    def stop(self) -> None:
        for device in (self._a, self._b):
            device.close()
            shutil.rmtree(device.home)


class RsyncPair:
    """A pushes to a daemon on B, over plain TCP."""

    name = "rsync"

    def __init__(self, ends: Cable, directory: Path) -> None:
        self._ends = ends
        self._directory = directory
        self.a, self.b = directory / "a", directory / "b"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._client_cpu_s = 0.0

    def start(self) -> None:
        self.a.mkdir(parents=True)
        self.b.mkdir()
        self.start_b()

    def start_b(self) -> None:
        settings = self._directory / "rsyncd.conf"
        settings.write_text(
            f"use chroot = no\nuid = root\ngid = root\n[m]\npath = {self.b}\nread only = no\n"
        )
        command = ["rsync", "--daemon", "--no-detach", f"--config={settings}", f"--port={RSYNC_PORT}"]
        self._daemon = _started([*self._ends.b.inside, *command])
        await_true(lambda: _answers(self._ends.b, RSYNC_PORT), "rsync listens", 10)

    def tell(self, path: str = "") -> None:
        del path
        address = f"rsync://{self._ends.b.addresses[0]}:{RSYNC_PORT}/m/"
        command = [
            *self._ends.a.inside,
            "rsync",
            "-a",
            "--delete",
            "--modify-window=-1",
            f"{self.a}/",
            address,
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, "rsync failed"
        self._client_cpu_s += usage.ru_utime + usage.ru_stime

    def stored_bytes(self) -> int | None:
        return None

    def pids(self) -> list[int]:
        return []

    def cpu_s(self) -> float:
        assert self._daemon is not None
        children = Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children")
        await_true(lambda: not children.read_text(), "the processes that served rsync have ended", 10)
        fields = Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = sum(map(int, fields[11:15]))  # with the children that served a transfer and ended
        return self._client_cpu_s + ticks / os.sysconf("SC_CLK_TCK")

    def stop_b(self) -> None:
        assert self._daemon is not None
        _end(self._daemon)

    def stop(self) -> None:
        self.stop_b()
        shutil.rmtree(self._directory)


class SyncthingPair:
    """Debian's Syncthing, told over its API what to scan; `is_shipped`: as it is installed, untold."""

    name = "Syncthing"

    def __init__(self, ends: Cable, directory: Path) -> None:
        self._directory = directory
        self.a, self.b = directory / "a/files", directory / "b/files"
        self._ends = (ends.a, ends.b)
        self._homes = (directory / "a/home", directory / "b/home")
        self._ids: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended_cpu_s = 0.0

    def start(self) -> None:
        for home, files in zip(self._homes, (self.a, self.b), strict=True):
            (files / ".stfolder").mkdir(parents=True)
            command = ["syncthing", "generate", f"--home={home}", "--no-default-folder"]
            subprocess.run(command, env=self._environment(), capture_output=True, check=True, timeout=60)
            tree = ElementTree.parse(home / "config.xml")
            self._ids.append(str(tree.find("./device").get("id")))  # type: ignore[union-attr]
        for side in (0, 1):
            self._configure(side)
        self._processes = [self._run(side) for side in (0, 1)]
        self.await_connected()

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "HOME": str(self._directory), "STNOUPGRADE": "1", "STMONITORED": "yes"}

    def _configure(self, side: int) -> None:
        place = self._homes[side] / "config.xml"
        tree = ElementTree.parse(place)
        root = tree.getroot()
        for device in root.findall("./device"):
            root.remove(device)
        for number, device_id in enumerate(self._ids):
            device = ElementTree.SubElement(root, "device", id=device_id, compression="never")
            address = f"tcp://{self._ends[number].addresses[0]}:{SYNCTHING_PORT}"
            ElementTree.SubElement(device, "address").text = address
        folder = ElementTree.SubElement(root, "folder", id=FOLDER, path=str((self.a, self.b)[side]))
        folder.set("rescanIntervalS", "3600")
        folder.set("fsWatcherEnabled", "true")
        folder.set("fsWatcherDelayS", "1")
        for device_id in self._ids:
            ElementTree.SubElement(folder, "device", id=device_id)
        wanted = {
            "listenAddress": f"tcp://0.0.0.0:{SYNCTHING_PORT}",
            "globalAnnounceEnabled": "false",
            "localAnnounceEnabled": "false",
            "relaysEnabled": "false",
            "natEnabled": "false",
            "startBrowser": "false",
            "urAccepted": "-1",
            "crashReportingEnabled": "false",
            "setLowPriority": "false",
            "reconnectionIntervalS": "5",
        }
        options = root.find("options")
        assert options is not None
        for name, text in wanted.items():
            option = options.find(name)
            assert option is not None, name
            option.text = text
        gui = root.find("gui")
        assert gui is not None
        for name, text in (("address", f"127.0.0.1:{REST_PORT}"), ("apikey", API_KEY)):
            found = gui.find(name)
            (ElementTree.SubElement(gui, name) if found is None else found).text = text
        tree.write(place)

    def _run(self, side: int) -> subprocess.Popen[bytes]:
        command = ["syncthing", "serve", f"--home={self._homes[side]}", "--no-browser"]
        return _started([*self._ends[side].inside, *command], self._environment())

    def ask(self, side: int, method: str, path: str, body: Any = None) -> Any:
        """One request of the local API."""
        with inside(self._ends[side]):
            connection = http.client.HTTPConnection("127.0.0.1", REST_PORT, timeout=PATIENCE_S)
            connection.connect()
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"X-API-Key": API_KEY})
            answer = connection.getresponse().read()
            return json.loads(answer) if answer.startswith((b"{", b"[")) else answer
        finally:
            connection.close()

    def await_connected(self) -> None:
        await_true(self._is_connected, "Syncthing connects", look_s=STATUS_LOOK_S)

    def _is_connected(self) -> bool:
        try:
            found = self.ask(0, "GET", "/rest/system/connections")["connections"]
            state = self.ask(1, "GET", f"/rest/db/status?folder={FOLDER}")["state"]
        except (OSError, TypeError, http.client.HTTPException):
            return False
        return bool(found.get(self._ids[1], {}).get("connected")) and state == "idle"

    def set_delay(self, delay_s: int) -> None:
        """How long the watcher of A waits after a change."""
        self.ask(0, "PATCH", f"/rest/config/folders/{FOLDER}", {"fsWatcherDelayS": delay_s})
        self.await_connected()

    def pause(self) -> None:
        """End the connection, and make none."""
        self.ask(0, "POST", f"/rest/system/pause?device={self._ids[1]}")

    def resume(self) -> None:
        self.ask(0, "POST", f"/rest/system/resume?device={self._ids[1]}")

    def tell(self, path: str = "") -> None:
        sub = f"&sub={urllib.parse.quote(path)}" if path else ""
        self.ask(0, "POST", f"/rest/db/scan?folder={FOLDER}{sub}")

    def tell_b(self) -> None:
        self.ask(1, "POST", f"/rest/db/scan?folder={FOLDER}")

    def stored_bytes(self) -> int | None:
        return None

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def cpu_s(self) -> float:
        return self._ended_cpu_s + sum(map(cpu_s, self.pids()))

    def stop_b(self) -> None:
        self._ended_cpu_s += cpu_s(self._processes[1].pid)
        _end(self._processes[1])

    def start_b(self) -> None:
        self._processes[1] = self._run(1)

    def stop(self) -> None:
        for process in self._processes:
            _end(process)
        shutil.rmtree(self._directory)


@contextmanager
def inside(device: Device) -> Iterator[None]:
    """What this thread connects meanwhile is in the device's network, and stays there."""
    with open("/proc/thread-self/ns/net") as ours, open(NAMESPACES / device.space) as theirs:
        _enter(theirs.fileno())
        try:
            yield
        finally:
            _enter(ours.fileno())


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), "setns")


def _answers(device: Device, port: int) -> bool:
    command = [*device.inside, "ss", "-Hltn", f"sport = :{port}"]
    return bool(subprocess.run(command, capture_output=True, check=True).stdout)


def _started(command: list[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, env=environment)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


def reset_peak(pids: list[int]) -> None:
    """Measure the peak of resident memory from now on."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most that was resident since `reset_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return resident_bytes(pid)


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return hashlib.shake_256(seed.encode()).digest(size)
