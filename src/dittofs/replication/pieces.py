"""What of a content is here, cut into pieces that can be proven, and the proofs. Blocking: for threads."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from blake3 import blake3

from dittofs.chunks.content import ContentReader
from dittofs.chunks.leaving import Leaving
from dittofs.chunks.manifest import decode_node
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkMissing, Damaged, DiskError, FormatError
from dittofs.ids import ChunkId, InodeId
from dittofs.replication.wholeness import whole
from dittofs.sync.proofs import Piece, Refusal

PIECE_BYTES: Final = 16 << 20


class Present(NamedTuple):
    """What of a stretch of a content is here."""

    pieces: list[Piece]
    chunks: dict[ChunkId, int]
    """With the bytes of each."""


def present(store: ChunkStore, inode: InodeId, root: bytes, size: int, start: int, end: int) -> Present:
    """The chunks of a content that begin in a range and are here. FormatError for a root that is none."""
    stretches: list[list[int]] = []
    chunks: dict[ChunkId, int] = {}
    for part in ContentReader(store, root, size).presence(start, end):
        if part.kind is not ChunkKind.DATA or part.chunk is None or not part.is_here or part.offset < start:
            continue
        chunks[part.chunk] = part.length
        last = stretches[-1] if stretches else None
        if last is not None and sum(last) == part.offset and last[1] + part.length <= PIECE_BYTES:
            last[1] += part.length
        else:
            stretches.append([part.offset, part.length])
    pieces = [
        Piece(inode, root, size, offset, length, number == len(stretches))
        for number, (offset, length) in enumerate(stretches, 1)
    ]
    return Present(pieces, chunks)


def proof(store: ChunkStore, nonce: bytes, piece: Piece) -> bytes:
    """Of the bytes as they lie in the packs. Raises ChunkMissing, Damaged, FormatError, DiskError."""
    hasher = blake3(key=nonce)
    reader = ContentReader(store, piece.root, piece.size)
    for _, _, chunk in reader.chunks(piece.start, piece.start + piece.length):
        if chunk is not None:
            hasher.update(store.get_stored(ChunkKind.DATA, chunk))
    return hasher.digest()


def proofs(store: ChunkStore, nonce: bytes, pieces: Sequence[Piece]) -> list[bytes | int]:
    """Of each piece the proof, or why there is none: all of a content is here when its last is proven."""
    found: list[bytes | int] = []
    for piece in pieces:
        try:
            if piece.is_last and not whole(store, [(piece.root, piece.size)])[0]:
                found.append(Refusal.ABSENT)
            else:
                found.append(proof(store, nonce, piece))
        except (ChunkMissing, Damaged, FormatError):
            found.append(Refusal.ABSENT)
        except DiskError:
            found.append(Refusal.FAILED)
    return found


def children(store: ChunkStore, manifest: ChunkId) -> Iterator[ChunkId]:
    """The data chunks that a manifest lists, as far as it is here."""
    waiting = [manifest]
    while waiting:
        try:
            node = decode_node(store.get(ChunkKind.MANIFEST, waiting.pop()))
        except (ChunkMissing, Damaged, FormatError):
            continue
        named = (one for at in range(len(node.ends)) if (one := node.id_of(at)) is not None)
        if node.level:
            waiting += named
        else:
            yield from named


def keep_children(store: ChunkStore, manifests: Sequence[ChunkId], leaving: Leaving) -> None:
    """What these consist of stays."""
    for manifest in manifests:
        for chunk in children(store, manifest):
            leaving.keep(chunk)


def sharing(store: ChunkStore, roots: Sequence[bytes], leaving: Leaving) -> list[bytes]:
    """Which of these contents of several chunks have one that is to go."""
    return [root for root in roots if any(one in leaving for one in children(store, ChunkId(root[1:])))]
