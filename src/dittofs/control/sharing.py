"""The local API as data, continued: what concerns the other devices of a volume.

`volume` is always the name that this device gives it. See `protocol` for the rules.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dittofs.control.protocol import RoleName, Unmounted, VolumeStatus

Port = Annotated[int, Meta(ge=-1, le=65535)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class ShareRequest(Struct, frozen=True):
    """Invite one device. The lines are an `Invitation`, `ShareWaiting` about once a second, `ShareEnded`.

    The invitation stays open when the client leaves.
    """

    volume: str
    role: Literal["", "reader", "writer", "owner"] = ""  # of its own; empty: as user or default say
    bind: str = ""  # listen on this address of this machine alone, if the daemon does not listen yet
    port: Port = -1  # and on this port; -1: as the settings say
    signal: str = ""  # meet the volume's devices by way of this signalling server too, from now on
    user: str = ""  # whose the device will be; empty: nobody's


class Invitation(Struct, frozen=True, tag="invitation"):
    """An open invitation: good once, for `expires_in_s`."""

    volume: str
    role: RoleName  # that it will have, as things are
    code: str  # 7-cabin-velvet: for devices that hear each other on a network
    command: str  # with the code, to be run on the other machine
    ticket: str  # dittofs://join/1?...: for those that can reach one of the addresses; empty: there is none
    ticket_command: str  # with the ticket, quoted for a shell; empty as that is
    addresses: tuple[str, ...]  # where this device listens
    id: str  # of this device: its fingerprint is the beginning
    expires_in_s: float
    signal: str = ""  # the signalling server by way of which the code works too; it is in `command`
    warning: str = ""  # what is to be known, such as that it is not reached
    user: str = ""  # whose the device will be


class ShareWaiting(Struct, frozen=True, tag="waiting"):
    """Nobody has come yet."""

    expires_in_s: float


class ShareEnded(Struct, frozen=True, tag="ended"):
    """What became of the invitation."""

    how: Literal["joined", "late", "burnt", "refused"]
    name: str = ""  # of the device that joined
    id: str = ""
    role: RoleName = "none"
    path: str = ""  # how it is connected, once it is
    names: int = 0  # files and directories of the volume, which it gets first
    was: RoleName = "none"  # its role before
    user: str = ""  # whose it is
    reason: str = ""  # why who came was refused


class JoinRequest(Struct, frozen=True):
    """Use an invitation, and mount the volume on the local directory `path` (absolute)."""

    invitation: str  # a code or a ticket
    path: str
    path_raw: bytes = b""
    is_parent: bool = False  # the volume is mounted on a directory of its own name in `path`
    name: str = ""  # of the volume here; empty: what the inviting device calls it
    options: tuple[str, ...] = ()  # as of `MountRequest`
    timeout_s: Seconds = 30.0  # so long who shows the code is looked for
    address: str = ""  # HOST:PORT of the inviting device: with a code it is not looked for then
    inviter: str = ""  # its id, with `address`: nobody else is told anything
    signal: str = ""  # a signalling server by way of which who shows the code is looked for too
    is_ephemeral: bool = False  # this device leaves with its last mount; not of a volume that is here already


class MeetRequest(Struct, frozen=True):
    """Who invites at an address?"""

    address: str  # HOST:PORT


class MeetResult(Struct, frozen=True):
    """A device that has an open invitation. Nothing but its key is proven."""

    address: str
    id: str


class JoinProgress(Struct, frozen=True, tag="progress"):
    """How far it is. `step` is "looking", "pairing", "connecting", "names" or "mounting"."""

    step: str
    names: int = 0  # files and directories known by now
    bytes_received: int = 0


class JoinResult(Struct, frozen=True, tag="joined"):
    """The mount is usable."""

    volume: VolumeStatus
    device: str  # the name of this device
    inviter: str  # the device that made the invitation; empty if that is not known
    role: RoleName
    was_member: bool = False  # the volume was on this device already
    was: RoleName = "none"  # the role before
    was_mounted: bool = False
    is_new_directory: bool = False
    is_complete: bool = True  # all names have come; otherwise they follow
    note: str = ""  # why the invitation was of no use, if this device was a member without it
    warnings: tuple[str, ...] = ()


class PingRequest(Struct, frozen=True):
    """Ask a device of a volume for an answer, again and again. The lines are `PingReply`, then `PingDone`."""

    volume: str
    device: str  # its name, or the beginning of its id
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 4
    interval_s: Annotated[float, Meta(ge=0.01, le=3600)] = 1.0
    patience_s: Annotated[float, Meta(gt=0, le=60)] = 2.0  # so long each answer is waited for


class PingReply(Struct, frozen=True, tag="reply"):
    """What became of one question. `round_trip_s` is null: no answer in time, or not connected."""

    number: int  # from 1
    round_trip_s: float | None
    path: str = ""  # how the device is connected, as `MemberStatus` has it


class PingDone(Struct, frozen=True, tag="done"):
    """The last line."""

    device: str
    id: str
    sent: int
    received: int


class SyncRequest(Struct, frozen=True):
    """Wait until what is here is safe on other devices, as `SyncResult` says."""

    volume: str
    timeout_s: Seconds | None = None  # None: as long as it goes on


class SyncProgress(Struct, frozen=True, tag="progress"):
    """How far it is; sent at least every second."""

    files: int  # still to be sent
    bytes: int
    bytes_total: int  # to be sent when it began, and since
    step: str = ""  # "saving", "connecting", "counting", "names", "contents"


class SyncResult(Struct, frozen=True, tag="done"):
    """The last line. `is_safe`: every connected device has every change, and every content has its copies."""

    volume: str
    is_safe: bool
    is_alone: bool = False  # the volume has no other device
    reason: str = ""  # why it is not safe, or what is to be known
    files: int = 0  # that are on fewer devices than the policy asks
    bytes: int = 0
    connected: tuple[str, ...] = ()
    offline: tuple[str, ...] = ()
    copies: str = ""
    unseen: int = 0  # files not here, whose other copies may be on devices that cannot be asked from here
    unseen_bytes: int = 0
    copies_rules: int = 0  # how many files and directories have another number of copies


class RemoveRequest(Struct, frozen=True):
    """Take a device out of a volume."""

    volume: str
    device: str  # its name, or the beginning of its id
    is_forced: bool = False  # although it holds files that nobody else has


class RemoveResult(Struct, frozen=True):
    """The device is refused by all that know of it, and cannot read what is stored from now on."""

    volume: str
    device: str
    id: str
    invited: tuple[str, ...] = ()  # members whom it had let in, and who stay


class RenameRequest(Struct, frozen=True):
    """Call a device otherwise, on all devices of the volume."""

    volume: str
    device: str  # its name, or the beginning of its id
    name: str


class RenameResult(Struct, frozen=True):
    """The name is signed and durable here; who is connected has heard of it, or will at once."""

    volume: str
    device: str  # its name now
    id: str
    was: str


class LeaveRequest(Struct, frozen=True):
    """End this device's membership; unmount the volume and take it out of the list."""

    volume: str
    force: bool = False  # although content is only here, programs use it, or it is the last owner


class LeaveResult(Struct, frozen=True):
    volume: str
    place: str  # the directory in which keys and data are left
    is_resigned: bool  # the others know, or will, that this device is no member
    unmounted: tuple[Unmounted, ...] = ()
    was_member: bool = True  # False: the others had ended its membership before


class RecoveryRequest(Struct, frozen=True):
    """Show the recovery words; with two typed back erase the owner key; with all of them take it up."""

    volume: str
    places: tuple[int, ...] = ()  # counted from 1
    typed: tuple[str, ...] = ()
    words: str = ""  # all of them, with spaces between


class RecoveryResult(Struct, frozen=True):
    """`state`: "here", the words are shown; "erased" or "taken", just now; "absent", no owner key is here."""

    volume: str
    state: Literal["here", "erased", "taken", "absent"]
    words: tuple[str, ...] = ()
    places: tuple[int, ...] = ()  # whose words are to be typed back


class CopiesRequest(Struct, frozen=True):
    """Show how many devices hold each content, or set it for all devices of the volume."""

    volume: str
    copies: str = ""  # "all", "on-demand", a number from 2, of a path also "inherit"; empty: show it
    path: str = ""  # a file, or all below a directory; empty: whatever no path has a number of its own for
    path_raw: bytes = b""


class CopiesRule(Struct, frozen=True):
    """A path with a number of its own."""

    path: str
    copies: str
    path_raw: bytes = b""


class CopiesResult(Struct, frozen=True):
    """What holds at the path; `rules`: what else is said of paths at and below it, in their order."""

    volume: str
    copies: str
    devices: int  # that there are
    was: str = ""  # the policy before, if it was set
    path: str = ""
    path_raw: bytes = b""
    is_inherited: bool = False  # of a path that has no number of its own
    inherited_from: str = ""  # the directory whose number holds; empty: the volume's
    rules: tuple[CopiesRule, ...] = ()
    is_file: bool = False  # the number is the file's, not that of another one that takes its name


ShareItem = Invitation | ShareWaiting | ShareEnded
JoinItem = JoinProgress | JoinResult
SyncItem = SyncProgress | SyncResult
PingItem = PingReply | PingDone
SharingItem = ShareItem | JoinItem | SyncItem | PingItem
