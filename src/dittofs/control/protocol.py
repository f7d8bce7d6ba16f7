"""The local API as data: the daemon, its volumes and events. `files`, `sharing` and others continue it.

Client and server share both; `routes` says what is asked how. A reader ignores fields it does not know,
and a field added later has a default, so both may be of different ages; what cannot be said that way gets
another `API_VERSION` and another prefix. Times are nanoseconds since 1970 (`_ns`) or seconds
of duration (`_s`). `path` and `path_raw`: see `dittofs.control.paths`.
"""

from typing import Final, Literal

from msgspec import Struct

from dittofs.control.faults import Refusal
from dittofs.control.undoing import HeldBatch

API_VERSION: Final = 1
PREFIX: Final = f"/v{API_VERSION}"
EXIT_ALREADY_RUNNING: Final = 75
"""Exit status of a daemon that found another one holding its lock (EX_TEMPFAIL of sysexits.h)."""

JSON_BYTES_MAX: Final = 1 << 20
"""The largest request in JSON."""


class Failure(Struct, frozen=True, tag="failure"):
    """Why a request was refused. In a stream of items it is the last one."""

    error: str  # a code of `dittofs.control.faults.FAULTS`
    message: str  # what happened and what was not affected
    mend: str = ""  # the command or step that helps


def failure_of(refusal: Refusal) -> Failure:
    """The failure that tells a client of `refusal`; text that is not UTF-8 is made so."""
    text = (refusal.code, refusal.message, refusal.mend)
    error, message, mend = (part.encode(errors="backslashreplace").decode() for part in text)
    return Failure(error=error, message=message, mend=mend)


# --- the daemon and its volumes ---


class Health(Struct, frozen=True):
    """The daemon answers. Mounts may still be coming back: see `StatusReport`."""

    version: str
    pid: int
    api: int = API_VERSION


class Finding(Struct, frozen=True, tag="finding"):
    """Something found damaged, missing or out of place."""

    severity: Literal["damage", "warning"]
    what: str  # the part of the store: "chunk", "pack", "journal", "index", "file", ...
    detail: str  # a sentence: what is wrong, and what is not affected
    path: str = ""  # the file in the volume that it concerns, if one
    path_raw: bytes = b""
    mend: str = ""


class Pending(Struct, frozen=True):
    """Closed or written, and not yet published or not yet on the platter."""

    files: int = 0  # files with a publication to come
    bytes: int = 0  # bytes that a power cut now would lose


VolumeState = Literal["unmounted", "mounting", "mounted", "failed"]
RoleName = Literal["none", "store", "reader", "writer", "owner"]


class Custody(Struct, frozen=True):
    """Files of a volume by the devices that have confirmed to hold all of their content, durably."""

    is_counting: bool = False  # not everything was looked at yet: the numbers are lower bounds
    safe: int = 0  # on two devices or more
    only_here: int = 0
    only_here_bytes: int = 0
    only_elsewhere: int = 0  # on one other device, and not here
    only_elsewhere_bytes: int = 0
    missing: int = 0  # on no device that has said so
    missing_bytes: int = 0
    on_demand: int = 0  # of `only_here`: where the policy has nobody hold it who does not ask for it
    on_demand_bytes: int = 0
    past: int = 0  # contents on this device alone that no file has any more, and snapshots keep
    past_bytes: int = 0
    unsent: int = 0  # here, and on fewer devices than the policy asks
    unsent_bytes: int = 0
    to_fetch_bytes: int = 0  # of contents that this device is still to hold for others
    sending_to: tuple[str, ...] = ()  # the connected devices that unsent content goes to
    time_left_s: float = -1.0  # until nothing is unsent; -1: not known


class MemberStatus(Struct, frozen=True):
    """A device of one volume."""

    name: str
    id: str  # hexadecimal
    role: RoleName
    is_this: bool = False
    is_online: bool = False
    path: str = ""  # how it is connected, like "tcp 192.168.1.7:7347"
    round_trip_s: float = 0.0
    is_up_to_date: bool = False  # it has every change known here, durably; only while it is online
    last_seen_ns: int = 0  # when it was online last; 0: not since this daemon started
    bytes_sent: int = 0  # over the present connection
    bytes_received: int = 0
    rate_sent: float = 0.0  # bytes a second over its busy seconds; 0: there were none yet
    rate_received: float = 0.0
    is_retired: bool = False  # nobody waits for it, and its copies do not count
    limit_up: int = 0  # bytes a second that may be sent there now, by a limit of its own; 0: none
    limit_down: int = 0
    user: str = ""  # whose it is; empty: nobody's
    role_by: str = ""  # what says the role: "device", "user", "group", "default"
    role_group: str = ""  # that group


class VolumeStatus(Struct, frozen=True):
    """One volume on this device."""

    name: str
    id: str  # hexadecimal
    state: VolumeState
    path: str = ""  # where it is mounted; of an unmounted one, where it was last; empty: never
    path_raw: bytes = b""
    options: tuple[str, ...] = ()  # what is in force beyond the defaults
    files: int = 0
    directories: int = 0
    bytes: int = 0  # sizes of all files
    bytes_here: int | None = 0  # of them, readable on this device without any other; null: not counted yet
    stored_bytes: int = 0  # what the store takes on disk
    history_bytes: int | None = None  # of them, what only the past needs; null: not counted yet
    conflicts: int = 0
    pending: Pending = Pending()
    read_only: str = ""  # why the volume accepts no change; empty: it does
    failure: str = ""  # why the state is "failed"
    damage: tuple[Finding, ...] = ()  # found since the daemon started, at most 100
    role: RoleName = "none"  # of this device
    copies_rules: int = 0  # files and directories with a policy of their own
    copies: str = ""  # the policy: "all", "on-demand" or how many devices hold each content
    custody: Custody = Custody()
    members: tuple[MemberStatus, ...] = ()  # this device first
    has_owner_key: bool = False  # the recovery words were not written down yet
    held: tuple[HeldBatch, ...] = ()  # by the brake: what is shown as it was until somebody decides
    has_untaken: bool = False  # this device may only read now, and others lack what it wrote before
    pins: int = 0  # files and directories that are pinned here themselves
    pins_missing: int = 0  # contents of pinned files that are still to be fetched
    pins_missing_bytes: int = 0
    pins_problem: str = ""  # why they are not fetched
    cache_over_bytes: int = 0  # above the limit of `[cache]`, and could not be freed
    disk_low: tuple[str, ...] = ()  # devices that take nothing more, for their disk is nearly full
    untold: int = 0  # changes elsewhere that programs which watch the mount did not hear of


class DeviceStatus(Struct, frozen=True):
    """A device that has a replica."""

    name: str
    id: str  # hexadecimal
    is_this: bool
    is_online: bool
    path: str = ""
    round_trip_s: float = 0.0
    is_up_to_date: bool = False  # in every volume of both
    last_seen_ns: int = 0


class SignalStatus(Struct, frozen=True):
    """A signalling server that this device uses."""

    url: str
    problem: str = ""  # why it is not reached, or empty


class BluetoothStatus(Struct, frozen=True):
    """The Bluetooth controller that this device uses, as it was asked to."""

    controller: str = ""  # like "hci0"
    address: str = ""
    problem: str = ""  # why it cannot be used, or empty


class NetworkStatus(Struct, frozen=True):
    """Where other devices reach this one."""

    port: int  # 0: it does not listen
    addresses: tuple[str, ...] = ()  # like "192.168.1.7:7347"
    problem: str = ""  # why nobody can reach this device
    uses_mdns: bool = True
    signal: tuple[SignalStatus, ...] = ()
    bluetooth: BluetoothStatus | None = None  # null: it is not asked for


class StatusReport(Struct, frozen=True):
    """Everything `dittofs status` shows, as of one instant."""

    version: str
    pid: int
    uptime_s: float
    memory_bytes: int  # resident set of the daemon
    volumes: tuple[VolumeStatus, ...]
    devices: tuple[DeviceStatus, ...]  # this one first, then those of all volumes
    api: int = API_VERSION
    network: NetworkStatus | None = None  # None: no volume needs it yet
    limit_up: int = 0  # bytes a second that may be sent to all devices together now; 0: no limit
    limit_down: int = 0
    limit_problems: tuple[str, ...] = ()  # lines of the limits' file that are passed over


class MountRequest(Struct, frozen=True):
    """Mount a volume on the local directory `path` (absolute), making either if it does not exist."""

    path: str
    path_raw: bytes = b""
    name: str = ""  # of the volume; empty: the one last mounted there, else the directory's name
    options: tuple[str, ...] = ()  # as after -o, one each; see `dittofs.control.options`


class MountResult(Struct, frozen=True):
    """The mount is usable."""

    volume: VolumeStatus
    device: str  # the name of this device
    is_new_volume: bool = False
    is_new_directory: bool = False
    was_mounted: bool = False  # there already: nothing was done
    was_stale: bool = False  # a mount left by a crash was replaced
    warnings: tuple[str, ...] = ()


class UnmountRequest(Struct, frozen=True):
    """Unmount by local directory, by volume name, or everything."""

    path: str = ""
    path_raw: bytes = b""
    volume: str = ""
    all: bool = False
    force: bool = False  # although programs use it (they keep their open files) or data is unsent


class Unmounted(Struct, frozen=True):
    """One mount that is gone. Everything written to it is durable on this device."""

    volume: str
    path: str
    path_raw: bytes = b""
    is_lazy: bool = False  # detached while in use: programs still hold open files
    has_left: bool = False  # the volume was joined for as long as it is mounted: nothing of it is here now


class UnmountResult(Struct, frozen=True):
    unmounted: tuple[Unmounted, ...]  # empty: nothing was mounted there, which is not an error with `all`


class StopResult(Struct, frozen=True):
    """The daemon is stopping: it unmounts, makes everything durable and exits."""

    pid: int


# --- check ---


class CheckRequest(Struct, frozen=True):
    """Verify a volume; with a path only the contents at or below it. `repair`: mend what can be mended."""

    volume: str
    path: str = ""
    path_raw: bytes = b""
    repair: bool = False


class CheckProgress(Struct, frozen=True, tag="progress"):
    """How far the check is; sent at least every second."""

    bytes_done: int
    bytes_total: int  # 0: not yet known
    step: str = ""  # "journal", "index", "packs", "files", ...


class CheckDone(Struct, frozen=True, tag="done"):
    """The check came to its end; the last item. Without it the check proves nothing."""

    files: int
    chunks: int
    bytes: int
    findings: int
    mended: int = 0  # of them, by this check


# --- events ---


class VolumeEvent(Struct, frozen=True, tag="volume"):
    """A volume changed its state, became read-only or writable again."""

    volume: VolumeStatus


class DamageEvent(Struct, frozen=True, tag="damage"):
    volume: str
    finding: Finding


class PeerEvent(Struct, frozen=True, tag="peer"):
    """A device of a volume connected or disconnected."""

    volume: str
    name: str
    id: str
    is_online: bool


class FilesEvent(Struct, frozen=True, tag="files"):
    """Names or contents changed, together."""

    volume: str
    device: str  # by which device it came; empty: it was made here
    count: int  # of names and files
    paths: tuple[str, ...]  # of the first 100, as text


class ConflictEvent(Struct, frozen=True, tag="conflict"):
    """There are more conflicts than before."""

    volume: str
    conflicts: int


class BrakeEvent(Struct, frozen=True, tag="brake"):
    """The brake holds more than before."""

    held: HeldBatch


class ProgressEvent(Struct, frozen=True, tag="progress"):
    """More, or less, is on other devices than a moment ago. At most two a second."""

    volume: str
    custody: Custody


class LaggedEvent(Struct, frozen=True, tag="lagged"):
    """This listener was too slow and missed events: ask for the status."""

    missed: int


class AliveEvent(Struct, frozen=True, tag="alive"):
    """Nothing happened for a while. Sent by the server itself."""


class StoppingEvent(Struct, frozen=True, tag="stopping"):
    """The daemon stops; the last event."""


CheckItem = CheckProgress | Finding | CheckDone
Event = (
    VolumeEvent
    | DamageEvent
    | PeerEvent
    | FilesEvent
    | ConflictEvent
    | BrakeEvent
    | ProgressEvent
    | LaggedEvent
    | AliveEvent
    | StoppingEvent
)
