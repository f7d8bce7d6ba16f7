"""What `doctor` looks at. Each check is a function that changes nothing and always has an answer."""

import importlib
import os
import shlex
import shutil
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from dittofs.cli.output import counted, duration, human_size
from dittofs.cli.places import mounted_before
from dittofs.config import Paths, Settings
from dittofs.control.client import Client
from dittofs.control.faults import Refusal
from dittofs.control.mountpoint import FUSE_DEVICE, fusermount, inspect, mounts, require_fuse
from dittofs.control.options import FUSE_CONF, is_user_allow_other
from dittofs.control.protocol import BluetoothStatus, NetworkStatus, StatusReport
from dittofs.errors import ConfigError, ReadOnlyHome
from dittofs.local_disk import require_writable

PACKAGES: Final = (
    "OpenSSL",
    "apsw",
    "blake3",
    "cryptography",
    "h11",
    "ifaddr",
    "jeepney",
    "msgspec",
    "pathspec",
    "pycrdt",
    "pyfastcdc",
    "pyfuse3",
    "zeroconf",
    "zstandard",
)
ROOM_BYTES_CROSS: Final = 100_000_000
ROOM_BYTES_WARNING: Final = 2_000_000_000
CLOCK_YEAR_MIN: Final = 2025
FUTURE_S_MAX: Final = 60.0
OTHERS: Final = 0o077


class Check(NamedTuple):
    """One thing looked at. `mend` is the command that helps, if something does."""

    name: str
    state: Literal["tick", "warning", "cross"]
    says: str
    mend: str = ""


def examine(paths: Paths) -> Iterator[Check]:
    """Every check, in the order in which they stand on each other."""
    yield check_packages()
    yield check_fuse()
    yield check_fusermount()
    yield check_allow_other()
    yield check_settings(paths)
    yield from check_private(paths)
    yield check_room(paths)
    yield check_clock(paths, time.time())
    yield check_swap()
    yield from check_stale(mounted_before(paths))
    yield check_daemon(paths)
    yield from check_network(paths)


def check_packages(load: Callable[[str], object] = importlib.import_module) -> Check:
    """Whether what the daemon imports can be imported."""
    broken = []
    for package in PACKAGES:
        try:
            load(package)
        except ImportError as error:
            broken.append(f"{package} ({error})")
    if broken:
        mend = f"{sys.executable} -m pip install --force-reinstall dittofs   (pyfuse3 needs libfuse3-dev)"
        return Check("packages", "cross", f"cannot be imported: {', '.join(broken)}", mend)
    return Check("packages", "tick", f"Python {sys.version.split()[0]} has all {len(PACKAGES)} packages")


def check_fuse(device: Path = FUSE_DEVICE) -> Check:
    """Whether this user can open the FUSE device."""
    try:
        require_fuse(device)
    except Refusal as refusal:
        if "fusermount3" not in refusal.message:  # that has a check of its own
            return Check("fuse", "cross", refusal.message, refusal.mend)
    return Check("fuse", "tick", f"{device} can be used")


def check_fusermount() -> Check:
    """Whether users other than root can mount."""
    program = fusermount()
    if program:
        return Check("fusermount3", "tick", program)
    state: Literal["warning", "cross"] = "cross" if os.geteuid() else "warning"
    return Check("fusermount3", state, "is missing; only root can mount without it", "sudo apt install fuse3")


def check_allow_other(fuse_conf: Path = FUSE_CONF, *, is_root: bool | None = None) -> Check:
    """Whether -o allow_other would work: a tick in any case, since few need it."""
    if (os.geteuid() == 0) if is_root is None else is_root:
        return Check("allow_other", "tick", "root may always let others into a mount")
    if is_user_allow_other(fuse_conf):
        return Check("allow_other", "tick", f"{fuse_conf} allows it")
    mend = f"If other users shall see your mounts:  echo user_allow_other | sudo tee -a {fuse_conf}"
    return Check("allow_other", "tick", f"is not allowed to users in {fuse_conf}; mounts are private. {mend}")


def check_settings(paths: Paths) -> Check:
    """Whether the settings file, if there is one, is understood."""
    try:
        settings = Settings.read(paths.settings)
    except ConfigError as error:
        return Check("settings", "cross", str(error), f"Edit {paths.settings}")
    return Check("settings", "tick", f'this device is called "{settings.label}"')


def check_private(paths: Paths) -> Iterator[Check]:
    """Whether directories and key files are closed to other users."""
    count = 0
    for path in (
        paths.state,
        paths.runtime,
        paths.state / "device.key",
        *sorted(paths.state.glob("**/secrets")),
    ):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Check(
                "private", "cross", f"{path}: {error.strerror}", f"sudo chown -R {os.geteuid()} {path}"
            )
            continue
        count += 1
        is_directory = stat.S_ISDIR(found.st_mode)
        if found.st_uid != os.geteuid():
            text = f"{path} belongs to user {found.st_uid}, not to you ({os.geteuid()})"
            yield Check("private", "cross", text, f"sudo chown {os.geteuid()} {path}")
        elif found.st_mode & OTHERS:
            text = f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})"
            yield Check("private", "cross", text, f"chmod {'700' if is_directory else '600'} {path}")
        else:
            continue
        count = -1_000_000
    if count > 0:
        yield Check("private", "tick", "keys and directories are closed to other users")
    elif count == 0:
        yield _check_beginning(paths)


def _check_beginning(paths: Paths) -> Check:
    place = _existing(paths.state)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Check("private", "tick", "nothing has been stored yet")
    text = f"{paths.state} cannot be made: you may not write to {place}"
    return Check("private", "cross", text, "Set DITTOFS_HOME to a directory of yours, or to none")


def _existing(place: Path) -> Path:
    """`place`, or the nearest directory above it that exists."""
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place


def check_room(paths: Paths) -> Check:
    """Whether the disk of the store can be written, and has room."""
    try:
        require_writable(paths.state)
    except ReadOnlyHome as error:
        return Check("disk", "cross", str(error), error.mend)
    place = _existing(paths.state)
    free = shutil.disk_usage(place).free
    says = f"{human_size(free)} free where {paths.state} lies"
    if free < ROOM_BYTES_CROSS:
        return Check("disk", "cross", f"only {says}: writes will fail", f"df -h {place}")
    if free < ROOM_BYTES_WARNING:
        return Check("disk", "warning", f"only {says}", f"df -h {place}")
    return Check("disk", "tick", says)


def check_clock(paths: Paths, now_s: float) -> Check:
    """Whether the clock is plausible: versions are named and conflicts shown by it."""
    mend = "timedatectl set-ntp true"
    year = time.gmtime(now_s).tm_year
    if year < CLOCK_YEAR_MIN:
        return Check("clock", "cross", f"it is the year {year} here; times of files would be wrong", mend)
    newest = max((_mtime(path) for path in (paths.state, *paths.state.glob("*"))), default=0.0)
    if newest > now_s + FUTURE_S_MAX:
        text = f"the store was written {duration(newest - now_s)} from now: the clock was set back"
        return Check("clock", "warning", text, mend)
    return Check("clock", "tick", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)))


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def check_swap(swaps: Path = Path("/proc/swaps"), block: Path = Path("/sys/class/block")) -> Check:
    """Whether keys in memory could reach a disk in the clear."""
    try:
        places = [line.split()[0] for line in swaps.read_text().splitlines()[1:] if line.strip()]
    except OSError:
        places = []
    plain = [place for place in places if not _is_guarded(Path(place), block)]
    if plain:
        text = f"swap in the clear ({', '.join(plain)}): keys in memory may be written to it"
        return Check("swap", "warning", text, "Encrypt it (crypttab(5), option swap), or: sudo swapoff -a")
    return Check("swap", "tick", "none" if not places else "encrypted, or compressed in memory")


def _is_guarded(place: Path, block: Path) -> bool:
    """A device-mapper target of dm-crypt, or zram."""
    name = place.resolve().name
    if name.startswith("zram"):
        return True
    try:
        return (block / name / "dm" / "uuid").read_text().startswith("CRYPT-")
    except OSError:
        return False


def check_stale(own: Collection[str]) -> Iterator[Check]:
    """Whether mounts were left behind by a crash, or do not answer. `own`: where this device's were."""
    count, is_well = 0, True
    for mount in mounts():
        if not mount.is_ours:
            continue
        count += 1
        try:
            is_stale = inspect(mount.path).state == "stale"
        except Refusal as refusal:
            is_stale = False
            if refusal.code == "no_answer":
                is_well = False
                yield Check("mounts", "cross", refusal.message, refusal.mend)
        if is_stale:
            path = shlex.quote(mount.path)
            if mount.path not in own:
                text = f"{mount.path} was left by a daemon that is gone, and is none of this device's mounts"
                yield Check("mounts", "warning", text, f"If nobody wants it:  dittofs unmount {path}")
                continue
            is_well = False
            text = f"{mount.path} was left by a daemon that is gone"
            yield Check("mounts", "cross", text, f"dittofs mount {path}   or   dittofs unmount {path}")
    if is_well:
        yield Check(
            "mounts", "tick", f"{count} here, and none of this device's left by a crash" if count else "none"
        )


def check_daemon(paths: Paths) -> Check:
    """Whether the daemon answers, and what it says about its volumes."""
    try:
        report = Client(paths.socket).status()
    except Refusal as refusal:
        if refusal.code == "no_daemon":
            return Check("daemon", "tick", "does not run; `dittofs mount DIR` starts it")
        return Check("daemon", "cross", refusal.message, f"tail {paths.state / 'daemon.log'}")
    return _check_volumes(report)


def check_network(paths: Paths) -> Iterator[Check]:
    """Whether other devices can reach this one, and find it. While no daemon answers, what waits for one."""
    try:
        report = Client(paths.socket).status()
    except Refusal as refusal:
        if refusal.code == "no_daemon":
            yield from _bluetooth_later(paths)
        return
    yield from network_checks(report.network)


def network_checks(network: NetworkStatus | None) -> Iterator[Check]:
    """What is told of a network."""
    if network is None:
        yield Check("network", "tick", "no volume has another device; `dittofs share` invites one")
        return
    if not network.port:
        mend = 'Give it another address or port: [network] bind = "...", port = ... in config.toml'
        yield Check("network", "cross", f"nobody can reach this device: {network.problem}", mend)
    elif not network.addresses:
        yield Check("network", "warning", "this machine has no network address now", "ip address")
    else:
        yield Check("network", "tick", f"others reach this device at {', '.join(network.addresses)}")
    if network.uses_mdns:
        yield Check("mdns", "tick", "devices on one local network find each other")
    else:
        mend = "Let it be found: [network] mdns = true in config.toml; or name others: dittofs daemon --peer"
        yield Check("mdns", "warning", "is off in the settings: only known addresses are tried", mend)
    for server in network.signal:
        if server.problem:
            mend = "Does it run there ( dittofs signal ), and does its firewall let in its port?"
            yield Check("signal", "warning", f"{server.url} is not reached: {server.problem}", mend)
        else:
            yield Check("signal", "tick", f"other networks' devices are met by way of {server.url}")
    if network.bluetooth is not None:
        yield _bluetooth_check(network.bluetooth)


def _bluetooth_later(paths: Paths) -> Iterator[Check]:
    with suppress(ConfigError):  # that has a check of its own
        if Settings.read(paths.settings).bluetooth is not None:
            text = "switched on; looked at when the daemon runs: dittofs mount DIR"
            yield Check("bluetooth", "tick", text)


def _bluetooth_check(status: BluetoothStatus) -> Check:
    if status.problem:
        mend = "systemctl status bluetooth; bluetoothctl power on; see docs/how-to/bluetooth.md"
        if "message bus" in status.problem:
            mend = "sudo apt install dbus; sudo systemctl start dbus; see docs/how-to/bluetooth.md"
        return Check("bluetooth", "warning", status.problem, mend)
    return Check("bluetooth", "tick", f"is used ({status.controller}, {status.address})")


def _check_volumes(report: StatusReport) -> Check:
    for volume in report.volumes:
        if volume.state == "failed":
            return Check("daemon", "cross", f'volume "{volume.name}": {volume.failure}', "dittofs status -v")
        if volume.read_only:
            return Check("daemon", "cross", f'volume "{volume.name}": {volume.read_only}', "dittofs check")
        if volume.damage:
            text = f'volume "{volume.name}": {counted(len(volume.damage), "finding")}'
            return Check("daemon", "cross", text, "dittofs status")
    memory = human_size(report.memory_bytes)
    says = f"answers (process {report.pid}, version {report.version}, {memory} of memory)"
    return Check("daemon", "tick", says)
