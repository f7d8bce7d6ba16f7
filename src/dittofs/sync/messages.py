"""What two replicas of a volume say to each other, as data (docs/reference/wire.md, "Session").

A message is a struct here, its frame's header, and for some a body: bytes whose layout the struct tells. The
numbers are the tags on the wire. A reader refuses a message it does not know: versions are agreed in Hello.
"""

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from dittofs.errors import FormatError
from dittofs.sync.frame import HEADER_BYTES_MAX

Value = TypeVar("Value")

VERSION: Final = 3
WANTS_MAX: Final = 64
"""Chunks in one `Get`."""
REQUESTS_MAX: Final = 256
"""Chunks asked for and not yet answered, on one link."""
ROOTS_MAX: Final = 512
"""Contents in the body of one `Ask`, `Holds`, `Released` or `Keep`."""
ROOT_BYTES_MAX: Final = 64
LEAVES_MAX: Final = 64
"""Have-sets in the body of one `Having`."""
LEAF_CHUNKS_MAX: Final = 1024
PARTS_MAX: Final = 40
"""Updates and chunks that one `Group` describes; a group that needs more is sent as several messages."""
LABEL_BYTES_MAX: Final = 64
DOCUMENTS: Final = 257
DIGEST_BYTES: Final = 8

Id = Annotated[bytes, Meta(min_length=32, max_length=32)]
Nonce = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Length = Annotated[int, Meta(ge=0, le=64 << 20)]
Document = Annotated[int, Meta(ge=0, lt=DOCUMENTS)]
EpochDigest = Annotated[bytes, Meta(max_length=32)]
KindNumber = Annotated[int, Meta(ge=1, le=255)]
Text = Annotated[str, Meta(max_length=200)]


class Message(Struct, frozen=True, array_like=True, tag_field="type"):
    """Anything that is sent."""


class Hello(Message, frozen=True, tag=1):
    """The first message of both sides, the dialler's first. Nothing else is said before it."""

    version: int
    volume: Id
    instance: Nonce
    """Of this process: two live ones with one device key are told apart by it."""
    custody: Nonce
    """Of this store: what it was known to hold is forgotten when it changes."""
    told: Count
    """`Holds` that this store has sent. Fewer than were heard: it was set back to an earlier state."""
    members: Id
    """Digest of the member records."""
    label: Annotated[str, Meta(max_length=LABEL_BYTES_MAX)]
    port: Annotated[int, Meta(ge=0, le=65535)]
    """Where this device listens, at the address it dials from; 0: nowhere."""
    is_beside: bool = False
    """The dialler's: this link is for chunks alone, beside the one that is used."""


class Refuse(Message, frozen=True, tag=2):
    """The last message: why the sender will not go on."""

    code: Annotated[str, Meta(max_length=32)]
    text: Text


class Members(Message, frozen=True, tag=3):
    """Member and generation records: a msgpack list of them is the body."""


class Ready(Message, frozen=True, tag=4):
    """The sender has judged the member records; `root` is the digest of its documents now."""

    root: Id


class Digest(Message, frozen=True, tag=5):
    """The digest of all documents, sent when the sender has been idle: a difference begins a round."""

    root: Id
    sequence: Count
    """Groups sent before it."""


class Pull(Message, frozen=True, tag=6):
    """Begin a round: the body is the sender's 257 document digests of 8 bytes."""

    round: Count


class States(Message, frozen=True, tag=7):
    """The answer to `Pull`: the body tells (document, epoch, vector) of the documents that differ."""

    round: Count


class Want(Message, frozen=True, tag=8):
    """The answer to `States`: the body tells the puller's own states of the documents it wants."""

    round: Count


class Part(Message, frozen=True, tag=9):
    """What one document lacks; the body is the update."""

    round: Count
    document: Document
    epoch: Count
    digest: EpochDigest
    is_whole: bool


class RoundEnd(Message, frozen=True, tag=10):
    """All parts were sent. They hold the groups up to `through`, and make one state with those sent since."""

    round: Count
    through: Count
    lacks: Annotated[tuple[Document, ...], Meta(max_length=DOCUMENTS)]
    """Documents that the sender lost and awaits itself: what it gives of them is not all there was."""


class Update(NamedTuple):
    """One update in the body of a `Group`."""

    document: Document
    epoch: Count
    digest: EpochDigest
    length: Length


class Riding(NamedTuple):
    """One sealed chunk in the body of a `Group`, behind the updates."""

    kind: KindNumber
    chunk: Id
    length: Length


class Group(Message, frozen=True, tag=11):
    """What one transaction changed. `sequence` counts from 1 on a link; with `more` the group goes on."""

    sequence: Count
    updates: tuple[Update, ...]
    chunks: tuple[Riding, ...]
    more: bool = False


class Stale(Message, frozen=True, tag=12):
    """In place of a group: the documents changed in another way, pull them."""

    sequence: Count


class Ack(Message, frozen=True, tag=13):
    """Every group up to `sequence` is durable here."""

    sequence: Count


class Wanted(NamedTuple):
    """One chunk that is asked for."""

    request: Count
    kind: KindNumber
    chunk: Id


class Get(Message, frozen=True, tag=14):
    """Send these chunks. `is_bulk`: nobody waits for them."""

    wants: Annotated[tuple[Wanted, ...], Meta(min_length=1, max_length=WANTS_MAX)]
    is_bulk: bool


class Chunks(Message, frozen=True, tag=15):
    """Sealed chunks: (request, length) of each, in the order of the body."""

    sizes: Annotated[tuple[tuple[Count, Length], ...], Meta(min_length=1, max_length=WANTS_MAX)]


class Absent(Message, frozen=True, tag=16):
    """These requests ask for what is not here."""

    requests: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=WANTS_MAX)]


class Ask(Message, frozen=True, tag=17):
    """Which of these contents do you hold? The body: roots."""


class Keep(Message, frozen=True, tag=18):
    """Please fetch and hold these contents. The body: roots and sizes."""


class Holds(Message, frozen=True, tag=19):
    """All chunks of these contents are durable here. The body: roots."""

    number: Count
    """Counts what this store has ever told, from 1."""


class Released(Message, frozen=True, tag=20):
    """These contents are not, or not any more, whole here. The body: roots."""

    number: Count = 0
    """Not 0: to be answered by `Forgotten`, once the receiver counts on them no more."""
    is_full: bool = False
    """In answer to `Keep`: the sender's disk is nearly full, and it takes nothing."""


class Ping(Message, frozen=True, tag=21):
    number: Count


class Pong(Message, frozen=True, tag=22):
    number: Count


class Prove(Message, frozen=True, tag=23):
    """Prove that these pieces of contents are with you now, and keep them: the sender's are to go.

    The body: pieces (`proofs`).
    """

    request: Count
    nonce: Id
    """Fresh."""


class Proof(Message, frozen=True, tag=24):
    """The answer to `Prove`. The body: proofs (`proofs`)."""

    request: Count


class Forgotten(Message, frozen=True, tag=25):
    """What a `Released` with this number says is so here, durably."""

    number: Count


class Having(Message, frozen=True, tag=26):
    """What of some leaves of manifests is here. The body: have-sets."""

    is_fetching: bool
    """The sender fetches them: it is to be told what the receiver has of them, now and as that grows."""


class Hurry(Message, frozen=True, tag=27):
    """Somebody waits now for what was asked for as bulk."""

    requests: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=WANTS_MAX)]


class Addresses(Message, frozen=True, tag=28):
    """Where other members are, to the sender's knowledge; all of it, in place of what it said before.

    The body: list of (device id, addresses).
    """


AnyMessage: TypeAlias = (
    Hello
    | Refuse
    | Members
    | Ready
    | Digest
    | Pull
    | States
    | Want
    | Part
    | RoundEnd
    | Group
    | Stale
    | Ack
    | Get
    | Chunks
    | Absent
    | Ask
    | Keep
    | Holds
    | Released
    | Ping
    | Pong
    | Prove
    | Proof
    | Forgotten
    | Having
    | Hurry
    | Addresses
)
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)

DocumentEntry = tuple[Document, Count, EpochDigest, Annotated[bytes, Meta(max_length=1 << 20)]]
_STATES = msgspec.msgpack.Decoder(Annotated[list[DocumentEntry], Meta(max_length=DOCUMENTS)])
Root = Annotated[bytes, Meta(min_length=1, max_length=ROOT_BYTES_MAX)]
_ROOTS = msgspec.msgpack.Decoder(Annotated[list[Root], Meta(max_length=ROOTS_MAX)])
_SIZED = msgspec.msgpack.Decoder(
    Annotated[list[tuple[Root, Annotated[int, Meta(ge=1, le=2**63 - 1)]]], Meta(max_length=ROOTS_MAX)]
)
HaveSet = tuple[Id, Annotated[bytes, Meta(min_length=1, max_length=LEAF_CHUNKS_MAX // 8)]]
_HAVE_SETS = msgspec.msgpack.Decoder(Annotated[list[HaveSet], Meta(max_length=LEAVES_MAX)])
TOLD_DEVICES_MAX: Final = 50
TOLD_ADDRESSES_MAX: Final = 4
TOLD_BYTES_MAX: Final = 32 << 10
_TOLD = msgspec.msgpack.Decoder(
    Annotated[
        list[
            tuple[
                Id,
                Annotated[
                    list[Annotated[str, Meta(min_length=1, max_length=64)]],
                    Meta(max_length=TOLD_ADDRESSES_MAX),
                ],
            ]
        ],
        Meta(max_length=TOLD_DEVICES_MAX),
    ]
)
RECORD_BYTES_MAX: Final = 64 << 10
_RECORDS = msgspec.msgpack.Decoder(
    Annotated[list[Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]], Meta(max_length=4096)]
)


def encode_header(message: Message) -> bytes:
    """The header of a message's first frame."""
    header = _ENCODER.encode(message)
    assert len(header) <= HEADER_BYTES_MAX, f"the header of a {type(message).__name__} is too long"
    return header


def decode_header(header: bytes) -> AnyMessage:
    """The message in a header. FormatError if there is no such message or a field is out of bounds."""
    try:
        return _DECODER.decode(header)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"a message that is none: {error}") from error


def encode_states(states: Sequence[tuple[int, int, bytes, bytes]]) -> bytes:
    """The body of `States` and `Want`: (document, epoch number, epoch digest, state vector)."""
    return _ENCODER.encode(states)


def decode_states(body: bytes) -> list[tuple[int, int, bytes, bytes]]:
    """What `encode_states` made; a document twice is an error."""
    states: list[tuple[int, int, bytes, bytes]] = _decoded(_STATES, body)
    if len({state[0] for state in states}) != len(states):
        raise FormatError("a document's state is told twice")
    return states


def encode_roots(roots: Sequence[bytes]) -> bytes:
    """The body of `Ask`, `Holds` and `Released`."""
    return _ENCODER.encode(roots)


def decode_roots(body: bytes) -> list[bytes]:
    return _decoded(_ROOTS, body)


def encode_sized_roots(roots: Sequence[tuple[bytes, int]]) -> bytes:
    """The body of `Keep`."""
    return _ENCODER.encode(roots)


def decode_sized_roots(body: bytes) -> list[tuple[bytes, int]]:
    return _decoded(_SIZED, body)


def encode_have_sets(sets: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The body of `Having`: (leaf of a manifest, a bit for each of its entries)."""
    return _ENCODER.encode(sets)


def decode_have_sets(body: bytes) -> list[tuple[bytes, bytes]]:
    return _decoded(_HAVE_SETS, body)


def encode_records(records: Sequence[bytes]) -> bytes:
    """The body of `Members`."""
    return _ENCODER.encode(records)


def decode_records(body: bytes) -> list[bytes]:
    return _decoded(_RECORDS, body)


def encode_whereabouts(told: Sequence[tuple[bytes, Sequence[str]]]) -> bytes:
    """The body of `Addresses`."""
    return _ENCODER.encode(told)


def decode_whereabouts(body: bytes) -> list[tuple[bytes, list[str]]]:
    if len(body) > TOLD_BYTES_MAX:
        raise FormatError(f"{len(body)} bytes of addresses")
    return _decoded(_TOLD, body)


def split_body(body: bytes, lengths: Sequence[int]) -> list[bytes]:
    """The pieces of a body. FormatError unless they are all of it."""
    if sum(lengths) != len(body):
        raise FormatError(f"a body of {len(body)} bytes where {sum(lengths)} are announced")
    pieces, at = [], 0
    for length in lengths:
        pieces.append(body[at : at + length])
        at += length
    return pieces


def _decoded(decoder: "msgspec.msgpack.Decoder[Value]", body: bytes) -> Value:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"a body that is not what its message promises: {error}") from error
