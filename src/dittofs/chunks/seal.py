"""Names and seals chunks: keyed BLAKE3 ids, AES-256-GCM with a key for each (disk.md, Sealed chunk)."""

import enum
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import blake3
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dittofs.clock import Entropy
from dittofs.errors import Damaged, FormatError
from dittofs.ids import ChunkId, VolumeId

Buffer: TypeAlias = bytes | bytearray | memoryview

PLAIN_BYTES_MAX = 1 << 20
"""The largest plaintext that is sealed or opened."""
SEALED_BYTES_MAX = 2 << 20  # a chunk that does not compress, with room for padding

_VERSION = 1
_HEADER = struct.Struct(">BB8s12s")
_INNER = struct.Struct(">BII")
_TAG_BYTES = 16
SEALED_BYTES_MIN = _HEADER.size + _INNER.size + _TAG_BYTES
_CODEC_NONE = 0
_CODEC_ZSTD = 1
_ZSTD_LEVEL = 1  # -1 is no faster on text and 5 % worse; 3 is 20 % slower and 1 % better
_ZSTD_SAVES_SHIFT = 4  # keep the compressed form only if it saves 1/16: opening it costs time at every read


class GenerationMissing(FormatError):
    """The chunk is sealed under a generation whose secret this device does not have."""


class ChunkKind(enum.IntEnum):
    """What a chunk is; each kind has its own id key, so that none passes for another."""

    DATA = 1
    MANIFEST = 2
    VERSION = 3


@dataclass(frozen=True, slots=True)
class VolumeKeys:
    """The secrets of a volume: V for life, one G per generation."""

    volume_id: VolumeId
    secret: bytes = field(repr=False)
    """V, 32 bytes."""
    generations: Mapping[bytes, bytes] = field(repr=False)
    """8-byte name of each generation -> G, 32 bytes."""
    current: bytes
    """The generation that seals what is stored now."""


def derive(purpose: str, key: bytes) -> bytes:
    """D(purpose, key): 32 bytes for one purpose from a 32-byte secret."""
    return blake3.blake3(key, derive_key_context=f"dittofs/1 {purpose}").digest()


class Sealer:
    """Seals and opens the chunks of one volume. Thread-safe; hashes and compresses without the GIL."""

    def __init__(self, keys: VolumeKeys, entropy: Entropy) -> None:
        assert len(keys.secret) == 32, "V has 32 bytes"
        assert keys.current in keys.generations, "the current generation has a secret"
        self._id_keys = {kind: derive(f"id {kind.name.lower()}", keys.secret) for kind in ChunkKind}
        self._chunk_keys = {name: derive("chunk", secret) for name, secret in keys.generations.items()}
        self._volume_id = keys.volume_id
        self._current = keys.current
        self._entropy = entropy
        self._codecs = _Codecs()

    def renew(self, keys: VolumeKeys) -> None:
        """Know the generations of `keys`, too, and seal under its current one from now on."""
        for name, secret in keys.generations.items():
            if name not in self._chunk_keys:
                self._chunk_keys[name] = derive("chunk", secret)
        self._current = keys.current

    @property
    def generation(self) -> bytes:
        """Under which chunks are sealed now."""
        return self._current

    def identify(self, kind: ChunkKind, plain: Buffer) -> ChunkId:
        """The id of a plaintext."""
        return ChunkId(blake3.blake3(plain, key=self._id_keys[kind]).digest())

    def seal(self, kind: ChunkKind, chunk: ChunkId, plain: Buffer) -> bytes:
        """Seal the plaintext of `chunk` under the current generation: other bytes at each call."""
        raw = len(plain)
        if raw > PLAIN_BYTES_MAX:
            raise FormatError(f"a chunk has at most {PLAIN_BYTES_MAX} bytes, not {raw}")
        codec, body = _CODEC_NONE, plain
        packed = self._codecs.compressor.compress(plain)
        if len(packed) < raw - (raw >> _ZSTD_SAVES_SHIFT):
            codec, body = _CODEC_ZSTD, packed
        nonce = self._entropy(12)
        header = _HEADER.pack(_VERSION, kind, self._current, nonce)
        inner = b"".join((_INNER.pack(codec, raw, len(body)), body))
        cipher = AESGCM(self._key(self._current, chunk))
        return header + cipher.encrypt(nonce, inner, header + self._volume_id + chunk)

    def open(self, kind: ChunkKind, chunk: ChunkId, sealed: Buffer) -> bytes:
        """The plaintext, which truly has the id `chunk` and the kind. Memory is bounded whatever the bytes.

        Raises FormatError if the bytes are no sealed chunk that this device can open, Damaged if they are
        not what their sealer wrote or not this chunk.
        """
        if not SEALED_BYTES_MIN <= len(sealed) <= SEALED_BYTES_MAX:
            raise FormatError(f"{len(sealed)} bytes are no sealed chunk")
        version, stated_kind, generation, nonce = _HEADER.unpack_from(sealed)
        if version != _VERSION:
            raise FormatError(f"sealed in version {version}; this program knows {_VERSION}")
        if stated_kind != kind:
            raise FormatError(f"a chunk of kind {stated_kind} where kind {int(kind)} belongs")
        if generation not in self._chunk_keys:
            raise GenerationMissing(f"sealed under generation {generation.hex()}, whose key is not here")
        view = memoryview(sealed)
        header = bytes(view[: _HEADER.size])
        cipher = AESGCM(self._key(generation, chunk))
        try:
            inner = cipher.decrypt(nonce, view[_HEADER.size :], header + self._volume_id + chunk)
        except InvalidTag:
            raise Damaged(f"chunk {chunk.hex()}", "its seal is broken") from None
        plain = self._unpack(inner)
        if self.identify(kind, plain) != chunk:
            raise Damaged(f"chunk {chunk.hex()}", "its content has another id")
        return plain

    def _key(self, generation: bytes, chunk: ChunkId) -> bytes:
        return blake3.blake3(chunk, key=self._chunk_keys[generation]).digest()

    def _unpack(self, inner: bytes) -> bytes:
        codec, raw, size = _INNER.unpack_from(inner)
        end = _INNER.size + size
        if raw > PLAIN_BYTES_MAX or end > len(inner):
            raise FormatError(f"a chunk of {raw} bytes in {size} of {len(inner)}")
        if inner.count(0, end) != len(inner) - end:
            raise FormatError("the padding of a chunk is not zero")
        if codec == _CODEC_NONE:
            if size != raw:
                raise FormatError(f"a plain chunk of {raw} bytes in {size}")
            return inner[_INNER.size : end]
        if codec == _CODEC_ZSTD:
            return self._unzip(memoryview(inner)[_INNER.size : end], raw)
        raise FormatError(f"unknown codec {codec}")

    def _unzip(self, body: memoryview, raw: int) -> bytes:
        try:
            # The decompressor allocates what the frame says, so the frame is asked first.
            if zstandard.frame_content_size(body) != raw:
                raise FormatError("the size of a compressed chunk is not the stated one")
            plain = self._codecs.decompressor.decompress(body, max_output_size=raw, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise FormatError(f"a compressed chunk does not unpack: {error}") from error
        if len(plain) != raw:
            raise FormatError(f"a chunk unpacks to {len(plain)} bytes, not {raw}")
        return plain


class _Codecs(threading.local):
    """A compressor and a decompressor for each thread: they cannot be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()
