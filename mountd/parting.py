"""Before devices are given up: what they alone hold is not lost without a word."""

import shlex
from collections.abc import Callable, Sequence
from typing import Final

from dittofs.cli.output import counted, human_size, listed
from dittofs.control.faults import Refusal
from dittofs.identity.authoring import Draft
from dittofs.identity.membership import Member
from dittofs.identity.records import Role
from dittofs.replication.parting import Alone, alone_on
from dittofs.shared_volume import SharedVolume

COUNT_S: Final = 10.0
STOLEN: Final = "A device that was stolen is taken out with  --force"


async def require_read_elsewhere(
    opened: SharedVolume, members: Sequence[Member], mend: str, *, is_forced: bool
) -> Alone:
    """What is on these devices alone, as far as is known. Refuses ("unsent") if that is anything.

    `mend`: how it is done all the same. With `is_forced` nothing is waited for, and nothing refused.
    """
    if not members:
        return Alone()
    alone = await alone_on(opened.peers, [one.device for one in members], 0.0 if is_forced else COUNT_S)
    if is_forced or (alone.is_counted and not alone.files):
        return alone
    names = listed([one.name for one in members])
    if alone.files:
        verb = "is" if alone.files == 1 else "are"
        text = (
            f"{counted(alone.files, 'file')} ({human_size(alone.bytes)}) {verb} on {names} alone, "
            "as far as is known, and could be read nowhere else; nothing was changed"
        )
    else:
        text = f"it is not known yet which files are on {names} alone; nothing was changed"
    name = shlex.quote(f"{opened.name}:")
    raise Refusal("unsent", text, f"Have them here first:  dittofs pin {name}\n{mend}")


async def take_out(opened: SharedVolume, member: Member, *, is_forced: bool) -> list[Member]:
    """Remove a member; return whom it had invited. NotAllowed says why not, Refusal what it alone holds."""
    if opened.role is Role.OWNER:  # who may not do it is told so first
        await require_read_elsewhere(opened, [member], STOLEN, is_forced=is_forced)
    return await opened.remove_member(member.device)


async def decide(opened: SharedVolume, write: Callable[[Draft], None], *, is_forced: bool) -> None:
    """As `SharedVolume.decide`. Refuses while those whom it takes reading from hold anything alone."""
    await require_read_elsewhere(opened, opened.would_end(write), STOLEN, is_forced=is_forced)
    await opened.decide(write)
