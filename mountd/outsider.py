"""What a device is told that is no member of a volume which it has, or may not add to it."""

import shlex

from dittofs.cli.output import counted, human_size
from dittofs.control.faults import Refusal
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.identity.users import DEFAULT
from dittofs.shared_volume import SharedVolume


def outside(opened: SharedVolume, code: str = "unsent") -> Refusal | None:
    """Why nothing is sent from here, and what can be done; None: this device is a member."""
    if opened.role > Role.NONE:
        return None
    device = DeviceId(opened.peers.device)
    was_one = opened.membership.deciding(device) is not None
    summary, tally = opened.volume.summary(), opened.peers.custody.tally()
    files = tally.only_here + summary.pending_files
    size = human_size(tally.only_here_bytes + summary.pending_bytes)
    unsent = f"{counted(files, 'file')} ({size}) that only it has" if files else "what was changed here alone"
    name = shlex.quote(opened.name)
    if opened.membership.admitted(device) is not None:
        user = opened.membership.people.user_of(device)
        whom = f"user {user}" if user else "default permission"
        return Refusal(
            code,
            f'this device may do nothing with "{opened.name}" now, as the {whom} says: what it has stays '
            f"readable here, and {unsent} cannot be sent",
            f"An owner runs  dittofs grant {shlex.quote(user or DEFAULT)} writer {name}",
        )
    return Refusal(
        code,
        f'this device is no member of "{opened.name}"{" any more" if was_one else ""}: what it has stays '
        f"readable here, and {unsent} cannot be sent",
        f"Join again: an owner runs  dittofs share {name}   and this device what that prints\n"
        f"Leave:  dittofs leave --force {name}",
    )


def require_writer(opened: SharedVolume) -> None:
    """Refuse if this device may add nothing to the volume."""
    if gone := outside(opened, "forbidden"):
        raise gone
    if opened.role < Role.WRITER:
        text = f'this device may read "{opened.name}", and not change it; nothing was added'
        share = f"dittofs share {shlex.quote(opened.name)} --role writer"
        raise Refusal("forbidden", text, f"An owner runs  {share}   and this device joins again")
