"""Member and generation records: their bytes, their signatures, and what each kind may say (wire.md)."""

import enum
from dataclasses import dataclass
from itertools import pairwise

import blake3
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dittofs.errors import FormatError
from dittofs.identity.genesis import GENERATION_NAME_BYTES, SIGNATURE_BYTES
from dittofs.identity.publics import Publics, parse_publics
from dittofs.ids import VolumeId

RECORD_BYTES_MAX = 64 << 10
PARENTS_MAX = 1024
WRAPS_MAX = 128
PREVIOUS_MAX = 64
WRAP_BYTES_MAX = 256
ID_BYTES = 32
NAME_BYTES_MAX = 255
NUMBER_MAX = (1 << 32) - 1

_VERSION = 1
_SIGNED_PREFIX = b"dittofs/1 member\0"
_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


class Role(enum.IntEnum):
    """What a device may do in a volume; each role may do all that those below it may."""

    NONE = 0
    STORE = 1
    """Keeps sealed bytes it cannot open."""
    READER = 2
    WRITER = 3
    OWNER = 4


INHERITED = (Role.NONE, Role.READER, Role.WRITER)
"""What users, groups and the default can be given: an owner is a device."""


class Kind(enum.IntEnum):
    """What a record is about."""

    MEMBER = 1
    """One device's role."""
    GENERATION = 2
    """A generation secret, wrapped to who may read."""
    WRAPS = 3
    """More wraps of generations that other records began."""
    NAME = 4
    """What a device is called from now on."""
    STANDING = 5
    """What a user or a group may do, or whoever was given nothing else."""
    USER = 6
    """Whose a device is."""
    GROUP = 7
    """Whether a user is in a group."""


class Wrap(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """V and one G, sealed to one recipient."""

    generation: bytes
    """8-byte name; empty: the generation that this very record begins."""
    recipient: bytes
    """Device id; the volume id stands for the root."""
    sealed: bytes


class Previous(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The G of an earlier generation, sealed under the one that the record begins."""

    generation: bytes
    sealed: bytes


class PublicsFields(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`Publics`, as they cross a wire."""

    certificate: bytes
    wrapping: bytes
    proof: bytes


class Body(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is signed: a msgpack map in this order, without the fields that have their default.

    With more than fifteen fields msgspec would begin every record with another byte.
    """

    v: int
    volume: bytes
    kind: int
    signer: bytes
    """Device id; the volume id stands for the root."""
    parents: list[bytes]
    """Ids of the last records the signer knew, ascending."""
    subject: bytes = b""
    publics: PublicsFields | None = None
    role: int = 0
    name: str = ""
    """Of the subject; of kinds standing, user and group of a user."""
    wraps: list[Wrap] = []
    previous: list[Previous] = []
    check: bytes = b""
    """D("generation check", V ‖ G), by which a wrap of something else is known."""
    number: int = 0
    """Of a name: the highest counts."""
    group: str = ""
    inherits: bool = False
    """Of a device let in: its role is what its user, its groups or the default say. Of a standing: none is
    given. Of a user in a group: it is in it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the right form. Whether its signature holds is said by `verify`."""

    id: bytes
    """BLAKE3 of the body."""
    signed: bytes
    """The body, then the signature: what is kept and sent."""
    body: Body
    kind: Kind
    role: Role
    publics: Publics | None
    """The keys of the subject, in every record that gives it a role."""

    @property
    def is_grant(self) -> bool:
        return self.kind == Kind.MEMBER and self.role > Role.NONE

    @property
    def is_resignation(self) -> bool:
        return self.kind == Kind.MEMBER and self.role == Role.NONE and self.body.signer == self.body.subject

    @property
    def generation(self) -> bytes:
        """The name of the generation that this record begins, or empty."""
        return self.id[:GENERATION_NAME_BYTES] if self.kind == Kind.GENERATION else b""

    def verify(self, key: Ed25519PublicKey) -> None:
        """Return if `key` signed this record. Otherwise `FormatError`."""
        body, signature = self.signed[:-SIGNATURE_BYTES], self.signed[-SIGNATURE_BYTES:]
        try:
            key.verify(signature, _SIGNED_PREFIX + body)
        except InvalidSignature as error:
            raise FormatError("the signature of a member record does not hold") from error


def sign_record(body: Body, key: Ed25519PrivateKey) -> bytes:
    """The record that says `body`, signed."""
    data = msgspec.msgpack.encode(body)
    return data + key.sign(_SIGNED_PREFIX + data)


def parse_record(signed: bytes, volume: VolumeId) -> Record:
    """The record in `signed`, its signature not yet checked.

    `FormatError` unless it is one of `volume`, in the one form it may have: a field that is not understood
    could make two replicas judge differently, and many forms of one record would fill the set.
    """
    if len(signed) > RECORD_BYTES_MAX:
        raise FormatError(f"a member record has at most {RECORD_BYTES_MAX} bytes, not {len(signed)}")
    data = signed[:-SIGNATURE_BYTES]
    try:
        body = msgspec.msgpack.decode(data, type=Body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"not a member record: {error}") from error
    if body.v != _VERSION:
        raise FormatError(f"a member record of version {body.v}, not {_VERSION}")
    if body.volume != volume:
        raise FormatError("a member record of another volume")
    _check_common(body)
    if msgspec.msgpack.encode(body) != data:
        raise FormatError("a member record that is not in the one form it may have")
    try:
        kind, role = Kind(body.kind), Role(body.role)
    except ValueError as error:
        raise FormatError(f"a member record says: {error}") from error
    publics = _publics(body)
    match kind:
        case Kind.MEMBER:
            _check_member(body, role, publics)
        case Kind.NAME:
            _check_name(body)
        case Kind.STANDING | Kind.USER | Kind.GROUP:
            _check_label(kind, body, role, publics)
        case Kind.GENERATION | Kind.WRAPS if body.subject or publics or role or body.name:
            raise FormatError(f"a record of kind {kind.name.lower()} about one device")
        case Kind.GENERATION if len(body.check) != ID_BYTES or any(wrap.generation for wrap in body.wraps):
            raise FormatError("a generation without its check, or with wraps of another one")
    if kind < Kind.STANDING and (body.group or (body.inherits and kind != Kind.MEMBER)):
        raise FormatError(f"a record of kind {kind.name.lower()} about a user or a group")
    if kind != Kind.NAME and body.number:
        raise FormatError("a number in a record that is no name")
    if kind != Kind.GENERATION and (
        body.previous or body.check or not all(wrap.generation for wrap in body.wraps)
    ):
        raise FormatError("a record that begins no generation and speaks of one")
    return Record(blake3.blake3(data).digest(), signed, body, kind, role, publics)


def require_name(name: str) -> None:
    """Return if `name` can be the name of a device or a volume. Otherwise `FormatError`.

    No property of Unicode is asked for: a name must be good on every device or on none.
    """
    if not 1 <= len(_utf8(name)) <= NAME_BYTES_MAX or not _CONTROLS.isdisjoint(name):
        raise FormatError(f"a name has 1 to {NAME_BYTES_MAX} bytes and no control characters")


def _utf8(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise FormatError("a name that is not text") from error


def _check_common(body: Body) -> None:
    if len(body.signer) != ID_BYTES or any(len(parent) != ID_BYTES for parent in body.parents):
        raise FormatError("a signer or a parent of a member record of a wrong length")
    if len(body.parents) > PARENTS_MAX or any(a >= b for a, b in pairwise(body.parents)):
        raise FormatError("the parents of a member record are too many or out of order")
    if len(body.wraps) > WRAPS_MAX or len(body.previous) > PREVIOUS_MAX:
        raise FormatError("a member record with too many wraps")
    for wrap in body.wraps:
        lengths = (len(wrap.generation), len(wrap.recipient))
        if lengths not in ((0, ID_BYTES), (GENERATION_NAME_BYTES, ID_BYTES)):
            raise FormatError("a wrap with names of a wrong length")
        if not 1 <= len(wrap.sealed) <= WRAP_BYTES_MAX:
            raise FormatError("a wrap of a wrong length")
    for previous in body.previous:
        if len(previous.generation) != GENERATION_NAME_BYTES or len(previous.sealed) > WRAP_BYTES_MAX:
            raise FormatError("an earlier generation of a wrong length")


def _publics(body: Body) -> Publics | None:
    if body.publics is None:
        return None
    return parse_publics(body.publics.certificate, body.publics.wrapping, body.publics.proof)


def _check_member(body: Body, role: Role, publics: Publics | None) -> None:
    if len(body.subject) != ID_BYTES or body.subject == body.volume:
        raise FormatError("a member record about no device")
    if role == Role.NONE:
        if publics is not None or body.name or body.wraps or body.inherits:
            raise FormatError("a record that takes a role away gives something else")
        return
    if body.inherits and role != Role.READER:
        raise FormatError("a device whose role others say, and one of its own")
    if publics is None or publics.device != body.subject:
        raise FormatError("a member record without the keys of its device")
    require_name(body.name)


def _check_name(body: Body) -> None:
    if len(body.subject) != ID_BYTES or body.subject == body.volume:
        raise FormatError("a name of no device")
    if body.parents or body.publics or body.role or body.wraps:
        raise FormatError("a name that says more than a name")
    if not 1 <= body.number <= NUMBER_MAX:
        raise FormatError(f"the number of a name is from 1 to {NUMBER_MAX}, not {body.number}")
    require_name(body.name)


def _check_label(kind: Kind, body: Body, role: Role, publics: Publics | None) -> None:
    if publics or body.wraps:
        raise FormatError(f"a record of kind {kind.name.lower()} that says more than that")
    for label in (body.name, body.group):
        if label:
            require_name(label)
    match kind:
        case Kind.STANDING if body.subject or (body.name and body.group):
            raise FormatError("a standing of several at once")
        case Kind.STANDING if role not in ((Role.NONE,) if body.inherits else INHERITED):
            raise FormatError("a standing of a role that only devices have")
        case Kind.USER if len(body.subject) != ID_BYTES or body.subject == body.volume:
            raise FormatError("a user of no device")
        case Kind.GROUP if body.subject or not body.name or not body.group:
            raise FormatError("a place in a group without a user or without a group")
    if kind == Kind.USER and (body.group or body.inherits):
        raise FormatError("a user of a device that says more than whose it is")
    if kind != Kind.STANDING and role:
        raise FormatError(f"a record of kind {kind.name.lower()} that gives a role")
