"""Founding a volume, inviting, removing and resigning, as signed records to keep and to send."""

from dittofs.clock import Entropy
from dittofs.identity.authoring import Author, Draft, NotAllowed, require_owner
from dittofs.identity.generations import add_missing_wraps, mend, wraps_for
from dittofs.identity.keys import Device, DeviceId, VolumeSecrets
from dittofs.identity.membership import Membership
from dittofs.identity.publics import Publics, make_publics
from dittofs.identity.records import Role


def found_volume(secrets: VolumeSecrets, device: Device, name: str) -> list[bytes]:
    """The first records of a volume: its root makes `device`, called `name`, an owner.

    The root's own wrap is among them, so that the recovery words alone open what is stored. The root key
    must still be in `secrets`. Founding twice gives `device` the same role.
    """
    assert secrets.root is not None, "the root key founds a volume"
    membership = Membership(secrets.genesis)
    draft = Draft(membership, secrets.root)
    publics = make_publics(device)
    draft.member(device.id, Role.OWNER, publics, name, wraps_for(membership, secrets, publics))
    add_missing_wraps(draft, secrets)
    return draft.signed


def grant(
    membership: Membership,
    secrets: VolumeSecrets,
    author: Author,
    publics: Publics,
    role: Role | None,
    name: str,
) -> bytes:
    """The record that gives the device of `publics` a role and, from reader up, the volume's secrets.

    Role None: the one that its user, its groups or the default say. `NotAllowed` if `author` is no owner, or
    the device is an owner whom it does not outrank. Taking rights away brings a generation: use `remove`, or
    `mend` after giving less.
    """
    assert role is None or role > Role.NONE
    if isinstance(author, Device):
        require_owner(membership, author.id, "give roles")
    draft = Draft(membership, author)
    people = membership.people
    may_read = people.would(role, people.user_of(publics.device)).role >= Role.READER
    wraps = wraps_for(membership, secrets, publics) if may_read else []
    draft.member(publics.device, role, publics, name, wraps)
    return draft.signed[0]


def let_in(
    membership: Membership,
    secrets: VolumeSecrets,
    author: Author,
    publics: Publics,
    role: Role | None,
    name: str,
    user: str = "",
) -> list[bytes]:
    """As `grant`, of a device that is to be the user's: none if it is that, and may do as much already.

    With `user` it does what that user may from then on, an owner excepted; without, a role it has is not
    lessened, and whose it is, it stays, unless it could do nothing as that user's.
    """
    if isinstance(author, Device):
        require_owner(membership, author.id)
    device = publics.device
    draft = Draft(membership, author)
    people, owned_by = membership.people, membership.people.user_of(device)
    is_freed = not user and bool(owned_by) and people.standing(device).role < Role.READER
    is_freed = is_freed and people.would(role, owned_by).role < Role.READER
    if is_freed or (user and owned_by != user):
        draft.user(device, user)
    people = draft.membership.people
    wanted = people.would(role, people.user_of(device)).role
    if wanted < Role.READER:
        raise NotAllowed("whom that lets in may do nothing: give a role to the user, a group or the default")
    deciding = membership.deciding(device)
    is_own = deciding is not None and deciding.is_grant and not deciding.body.inherits
    is_to_follow = bool(user) and role is None and is_own and people.standing(device).role != Role.OWNER
    if people.standing(device).role >= wanted and not is_to_follow and not is_freed:
        return draft.signed
    return [*draft.signed, grant(draft.membership, secrets, author, publics, role, name)]


def remove(
    membership: Membership, secrets: VolumeSecrets, author: Author, device: DeviceId, entropy: Entropy
) -> tuple[list[bytes], VolumeSecrets]:
    """The records that take `device` out and begin a generation it cannot open; the secrets with that one.

    `NotAllowed` if `author` is no owner, does not outrank `device`, or is `device` itself, or if `device` is
    no member. Whom it invited stays: see `Membership.granted_by`.
    """
    if isinstance(author, Device):
        require_owner(membership, author.id, "remove devices")
        if author.id == device:
            raise NotAllowed("a device does not remove itself: it leaves")
    _require_admitted(membership, device)
    draft = Draft(membership, author)
    draft.member(device, Role.NONE, None, "", ())
    records, secrets = mend(draft.membership, secrets, author, entropy)
    return [*draft.signed, *records], secrets


def resign(membership: Membership, device: Device) -> bytes:
    """The record by which `device` leaves. `NotAllowed` if it is no member. No other device can undo it."""
    _require_admitted(membership, device.id)
    given = membership.deciding(device.id)
    assert given is not None
    draft = Draft(membership, device)
    draft.resignation(None if given.role == Role.OWNER else given.id)
    return draft.signed[0]


def _require_admitted(membership: Membership, device: DeviceId) -> None:
    if membership.admitted(device) is None:
        raise NotAllowed("that device is no member of this volume")
