"""How another device of a volume stands to this one."""

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


def status_of(member: Member, session: Session | None) -> PeerStatus:
    """Of a member, and the open session with it if there is one."""
    if session is None:
        return PeerStatus(member.device, member.name, member.role, is_connected=False)
    return PeerStatus(
        member.device,
        member.name,
        member.role,
        is_connected=True,
        path=session.link.description,
        round_trip_s=session.liveness.round_trip_s if session.liveness.is_measured else 0.0,
        is_in_step=session.live.is_in_step and not session.rounds.is_pulling,
        bytes_sent=session.outbox.total_bytes,
        bytes_received=session.bytes_received,
        rate_sent=session.sent.rate,
        rate_received=session.received.rate,
    )
