"""Generations: the secrets a member can open from the records, and the records an owner owes the others."""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.identity.authoring import Author, Draft
from dittofs.identity.keys import GENERATIONS_MAX, SECRET_BYTES, Device, DeviceId, VolumeSecrets
from dittofs.identity.membership import Membership
from dittofs.identity.publics import Publics
from dittofs.identity.records import PREVIOUS_MAX, WRAPS_MAX, Kind, Previous, Record, Role, Wrap
from dittofs.identity.wraps import Wrapped, open_previous, open_wrap, seal_previous, seal_wrap


def unwrap(membership: Membership, holder: Author, known: VolumeSecrets | None = None) -> VolumeSecrets:
    """The secrets that `holder`, a member or the root, can open, in addition to those it has already.

    `current` is the volume's current generation if it can be opened, else the one nearest to it. What is
    `known` is never replaced. `FormatError` if nothing is known and nothing opens.
    """
    volume = membership.genesis.volume_id
    recipient = holder.id if isinstance(holder, Device) else volume
    key = holder.wrapping if isinstance(holder, Device) else holder.wrapping()
    secret = known.secret if known else None
    generations = dict(known.generations) if known else {}
    # Whoever lost its say may have begun a generation that others sealed under before they heard.
    begun = {record.generation: record for record in membership.parsed() if record.kind == Kind.GENERATION}
    for record in sorted(membership.parsed(), key=lambda record: not membership.counts(record.id)):
        for wrap in record.body.wraps:
            name = wrap.generation or record.generation
            if wrap.recipient != recipient or name in generations:
                continue
            wrapped = open_wrap(wrap.sealed, recipient, key, volume)
            if wrapped is None or secret not in (None, wrapped.secret):
                continue
            if _is_of(name, wrapped, begun, membership):
                secret = wrapped.secret
                generations[name] = wrapped.generation
    if secret is None:
        raise FormatError("no member record holds the volume's secrets for this device")
    _open_previous(secret, generations, begun, membership)
    root = known.root if known else None
    current = next((one.name for one in membership.generations() if one.name in generations), None)
    if current is None or len(generations) > GENERATIONS_MAX:
        raise FormatError("no generation of the volume can be opened, or they are too many")
    return VolumeSecrets(membership.genesis, secret, generations, current, root)


def is_stale(membership: Membership) -> bool:
    """Whether somebody who may no longer read could have the current generation: an owner owes another."""
    current = membership.current
    readers = {member.device for member in membership.readers()}
    may_have = {*readers, membership.genesis.volume_id}
    for record in membership.counted():
        if record.is_grant and record.role >= Role.READER and record.body.subject not in readers:
            lost = membership.deciding(DeviceId(record.body.subject))
            assert lost is not None
            is_known = current.record is not None and membership.knew(current.record.id, lost.id)
            if not lost.is_grant and not is_known:
                return True
        for wrap in record.body.wraps:  # what a device may do hangs on more records than those about it
            name = wrap.generation or record.generation
            if name == current.name and wrap.recipient not in may_have:
                return True
    return False


def mend(
    membership: Membership, secrets: VolumeSecrets, author: Author, entropy: Entropy
) -> tuple[list[bytes], VolumeSecrets]:
    """What an owner owes the others: a generation if somebody left, and wraps for who has none.

    Returns the signed records, none if nothing is owed, and the secrets with the generation they begin.
    To be called by every owner after each change of the membership; that several do it does no harm.
    """
    draft = Draft(membership, author)
    if is_stale(membership):
        secrets = begin_generation(draft, secrets, entropy)
    add_missing_wraps(draft, secrets)
    return draft.signed, secrets


def begin_generation(draft: Draft, secrets: VolumeSecrets, entropy: Entropy) -> VolumeSecrets:
    """Begin a generation for who may read now; return the secrets with it as the current one."""
    volume = secrets.volume_id
    fresh = Wrapped(secrets.secret, entropy(SECRET_BYTES))
    sealed = [
        Previous(name, seal_previous(secrets.generations[name], name, fresh.generation, volume, entropy))
        for name in head_generations(draft.membership)[:PREVIOUS_MAX]
        if name in secrets.generations
    ]
    recipients = _recipients(draft.membership)[:WRAPS_MAX]  # the others get theirs as missing wraps
    wraps = [Wrap(b"", to, seal_wrap(fresh, to, key, volume)) for to, key in recipients]
    name = draft.generation(wraps, sealed, fresh.check())
    generations = {**secrets.generations, name: fresh.generation}
    return VolumeSecrets(secrets.genesis, secrets.secret, generations, name, secrets.root)


def add_missing_wraps(draft: Draft, secrets: VolumeSecrets) -> None:
    """Wrap each head generation that `secrets` has to everybody who may read and lacks it."""
    membership = draft.membership
    has = {
        (wrap.generation or record.generation, wrap.recipient)
        for record in membership.counted()
        for wrap in record.body.wraps
    }
    lacking = [
        _wrap(secrets, name, to, key)
        for name in head_generations(membership)
        if name in secrets.generations
        for to, key in _recipients(membership)
        if (name, to) not in has
    ]
    for start in range(0, len(lacking), WRAPS_MAX):
        draft.wraps(lacking[start : start + WRAPS_MAX])


def wraps_for(membership: Membership, secrets: VolumeSecrets, publics: Publics) -> list[Wrap]:
    """The wraps a device needs to open all that `secrets` opens."""
    key = publics.wrapping_key()
    return [
        _wrap(secrets, name, publics.device, key)
        for name in head_generations(membership)[:WRAPS_MAX]
        if name in secrets.generations
    ]


def head_generations(membership: Membership) -> list[bytes]:
    """Names of the generations that no younger one leads to, the current one first. Usually one."""
    generations = membership.generations()
    led_to = {
        previous.generation
        for one in generations
        if one.record is not None
        for previous in one.record.body.previous
    }
    return [one.name for one in generations if one.name not in led_to]


def _wrap(secrets: VolumeSecrets, name: bytes, recipient: bytes, key: X25519PublicKey) -> Wrap:
    wrapped = Wrapped(secrets.secret, secrets.generations[name])
    return Wrap(name, recipient, seal_wrap(wrapped, recipient, key, secrets.volume_id))


def _recipients(membership: Membership) -> list[tuple[bytes, X25519PublicKey]]:
    root = X25519PublicKey.from_public_bytes(membership.genesis.root_wrap)
    readers = [(member.device, member.publics.wrapping_key()) for member in membership.readers()]
    return [(membership.genesis.volume_id, root), *readers]


def _open_previous(
    secret: bytes, generations: dict[bytes, bytes], begun: Mapping[bytes, Record], membership: Membership
) -> None:
    """Add to `generations` what those in it lead to."""
    unread = list(generations)
    while unread:
        name = unread.pop()
        if name not in begun:
            continue
        for previous in begun[name].body.previous:
            older = previous.generation
            if older in generations:
                continue
            opened = open_previous(previous.sealed, older, generations[name], membership.genesis.volume_id)
            if opened is not None and _is_of(older, Wrapped(secret, opened), begun, membership):
                generations[older] = opened
                unread.append(older)


def _is_of(name: bytes, wrapped: Wrapped, begun: Mapping[bytes, Record], membership: Membership) -> bool:
    """Whether `wrapped` is what `name` was begun with. The first generation has no check to hold it to."""
    if name in begun:
        return begun[name].body.check == wrapped.check()
    return name == membership.genesis.generation
