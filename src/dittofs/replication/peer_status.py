"""How another device of a volume stands to this one."""

from collections.abc import Sequence
from dataclasses import dataclass

from dittofs.identity.keys import DeviceId
from dittofs.identity.membership import Member
from dittofs.identity.records import Role
from dittofs.replication.session import Session


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One other device of the volume, as `status` shows it."""

    device: DeviceId
    name: str
    role: Role
    is_connected: bool
    path: str = ""
    round_trip_s: float = 0.0
    """0: not measured yet."""
    is_in_step: bool = False
    """It has every change made here, durably, and none of its own is being pulled."""
    bytes_sent: int = 0
    bytes_received: int = 0
    rate_sent: float = 0.0
    """Bytes a second, of the busy seconds; 0: there were none yet."""
    rate_received: float = 0.0


def status_of(member: Member, session: Session | None, beside: Sequence[Session] = ()) -> PeerStatus:
    """Of a member, the open session with it if there is one, and those for chunks alone beside it."""
    if session is None:
        return PeerStatus(member.device, member.name, member.role, is_connected=False)
    return PeerStatus(
        member.device,
        member.name,
        member.role,
        is_connected=True,
        path=" + ".join(one.link.description for one in (session, *beside)),
        round_trip_s=session.liveness.round_trip_s if session.liveness.is_measured else 0.0,
        is_in_step=session.live.is_in_step and not session.rounds.is_pulling,
        bytes_sent=sum(one.outbox.total_bytes for one in (session, *beside)),
        bytes_received=sum(one.bytes_received for one in (session, *beside)),
        rate_sent=sum(one.sent.rate for one in (session, *beside)),
        rate_received=sum(one.received.rate for one in (session, *beside)),
    )
