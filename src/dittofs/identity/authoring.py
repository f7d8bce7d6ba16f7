"""An author: whoever signs records of a volume, each with all that is known here as its past."""

import errno
from collections.abc import Sequence
from typing import TypeAlias

from dittofs.errors import DittoError
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.membership import Membership
from dittofs.identity.publics import Publics
from dittofs.identity.records import (
    PARENTS_MAX,
    Body,
    Kind,
    Previous,
    PublicsFields,
    Role,
    Wrap,
    require_name,
    sign_record,
)
from dittofs.identity.root import RootKey

Author: TypeAlias = Device | RootKey
"""An owner's device, or the root key itself."""


class NotAllowed(DittoError):
    """This device may not do that in this volume; the message says who may."""

    errno = errno.EPERM


def require_owner(membership: Membership, device: DeviceId, wish: str = "invite") -> None:
    """Return if `device` may do what only owners may. Otherwise `NotAllowed`, which names `wish` and them."""
    role = membership.role(device)
    if role == Role.OWNER:
        return
    owners = ", ".join(owner.name for owner in membership.owners())
    standing = (
        "is no member of this volume" if role == Role.NONE else f"is a {role.name.lower()} of this volume"
    )
    who = f"its owners: {owners}" if owners else "it has none left: the recovery words are needed"
    raise NotAllowed(f"only an owner can {wish}, and this device {standing}; {who}")


class Draft:
    """Records signed one after another on top of what is known, seen as if they were known already."""

    def __init__(self, membership: Membership, author: Author) -> None:
        self.membership = membership.copy()
        self.signed: list[bytes] = []
        self.author = author

    def member(
        self, subject: bytes, role: Role | None, publics: Publics | None, name: str, wraps: Sequence[Wrap]
    ) -> None:
        """Give `subject` a role, or take it out. `FormatError` for a name that is none.

        Role None: let it in, and its user, its groups or the default say what it may do.
        """
        inherits = role is None
        if inherits or role:
            require_name(name)
        self._sign(
            Kind.MEMBER,
            subject=subject,
            role=Role.READER if role is None else role,
            publics=_fields(publics),
            name=name,
            wraps=wraps,
            inherits=inherits,
        )

    def standing(self, role: Role | None, *, user: str = "", group: str = "") -> None:
        """Say what a user, a group, or with neither the default may do; None: nothing is said."""
        self._sign(Kind.STANDING, name=user, group=group, role=role or Role.NONE, inherits=role is None)

    def user(self, device: bytes, user: str) -> None:
        """Say whose `device` is; empty: nobody's."""
        self._sign(Kind.USER, subject=device, name=user)

    def group(self, user: str, group: str, *, is_in: bool) -> None:
        """Put `user` into `group`, or take them out."""
        self._sign(Kind.GROUP, name=user, group=group, inherits=is_in)

    def generation(self, wraps: Sequence[Wrap], previous: Sequence[Previous], check: bytes) -> bytes:
        """Begin a generation; return its name."""
        identity = self._sign(Kind.GENERATION, wraps=wraps, previous=previous, check=check)
        return self.membership.record(identity).generation

    def wraps(self, wraps: Sequence[Wrap]) -> None:
        """Wrap generations that are there to who lacks them."""
        self._sign(Kind.WRAPS, wraps=wraps)

    def resignation(self, grant: bytes | None) -> None:
        """Take the author's own role away, which the record `grant` gave; None: the author is an owner."""
        assert isinstance(self.author, Device)
        parents = None if grant is None else [grant]
        self._sign(Kind.MEMBER, parents=parents, subject=self.author.id)

    def _sign(
        self,
        kind: Kind,
        *,
        parents: Sequence[bytes] | None = None,
        subject: bytes = b"",
        publics: PublicsFields | None = None,
        role: Role = Role.NONE,
        name: str = "",
        wraps: Sequence[Wrap] = (),
        previous: Sequence[Previous] = (),
        check: bytes = b"",
        group: str = "",
        inherits: bool = False,
    ) -> bytes:
        volume = self.membership.genesis.volume_id
        signer: bytes
        match self.author:
            case Device(id=signer, signing=key):
                pass
            case RootKey() as root:
                signer, key = volume, root.signing()
        # Heads beyond the bound are left out: what their signers did counts as not known, which is the
        # careful side. It takes a thousand members who left since an owner last signed.
        known = self.membership.heads()[:PARENTS_MAX] if parents is None else parents
        body = Body(
            v=1,
            volume=volume,
            kind=int(kind),
            signer=signer,
            parents=list(known),
            subject=subject,
            publics=publics,
            role=int(role),
            name=name,
            wraps=list(wraps),
            previous=list(previous),
            check=check,
            group=group,
            inherits=inherits,
        )
        signed = sign_record(body, key)
        identity = self.membership.add([signed])[0]
        if not self.membership.counts(identity):
            raise NotAllowed(
                "this device does not outrank that one, or is no owner any more: an owner who invited both, "
                "or the recovery words, can do it"
            )
        self.signed.append(signed)
        return identity


def _fields(publics: Publics | None) -> PublicsFields | None:
    if publics is None:
        return None
    return PublicsFields(publics.certificate, publics.wrapping, publics.proof)
