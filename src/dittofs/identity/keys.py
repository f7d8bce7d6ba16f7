"""What a device keeps secret: its own key, and the secrets of each of its volumes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NewType, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dittofs.clock import Entropy
from dittofs.errors import Damaged, FormatError
from dittofs.identity.certificate import SERIAL_BYTES, check_certificate, make_certificate
from dittofs.identity.genesis import (
    GENERATION_NAME_BYTES,
    RANDOM_BYTES,
    Genesis,
    make_genesis,
    parse_genesis,
)
from dittofs.identity.key_files import KeyFiles, Kind
from dittofs.identity.root import ROOT_BYTES, RootKey
from dittofs.ids import VolumeId

Payload = TypeVar("Payload")

DeviceId = NewType("DeviceId", bytes)
"""SHA-256 of the device's certificate (DER), 32 bytes."""

DEVICE_FILE = "device.key"
SECRETS_FILE = "secrets"
SECRET_BYTES = 32
GENERATIONS_MAX = 4096


def device_id(certificate: bytes) -> DeviceId:
    """The id of the device that shows `certificate` (DER)."""
    return DeviceId(hashlib.sha256(certificate).digest())


@dataclass(frozen=True, slots=True)
class Device:
    """One device: the key it proves itself with, the key that secrets are wrapped to, its certificate."""

    signing: Ed25519PrivateKey = field(repr=False)
    wrapping: X25519PrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)
    """Self-signed X.509 (DER) over the signing key, without expiry. It names nobody."""

    @property
    def id(self) -> DeviceId:
        """What peers know this device by."""
        return device_id(self.certificate)


@dataclass(frozen=True, slots=True)
class VolumeSecrets:
    """All that a member knows of a volume and others must not."""

    genesis: Genesis
    secret: bytes = field(repr=False)
    """V, 32 bytes, for the volume's life."""
    generations: Mapping[bytes, bytes] = field(repr=False)
    """8-byte name of each generation known -> G, 32 bytes."""
    current: bytes
    """The name of the generation that seals what is stored now; one of `generations`."""
    root: RootKey | None
    """The owner key, until its words are written down and it is erased here."""

    @property
    def volume_id(self) -> VolumeId:
        return self.genesis.volume_id

    def without_root(self) -> "VolumeSecrets":
        """The same secrets, the root key erased: from then on only its words can bring it back."""
        return replace(self, root=None)


class _DevicePayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sign: bytes
    wrap: bytes
    certificate: bytes


class _Generation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: bytes
    secret: bytes


class _VolumePayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    genesis: bytes
    signature: bytes
    secret: bytes
    generations: list[_Generation]
    current: bytes
    root: bytes | None


def create_device(files: KeyFiles, entropy: Entropy) -> Device:
    """Make this device's key, durable when this returns. `ConfigError` if there is one. Blocking."""
    signing = Ed25519PrivateKey.from_private_bytes(entropy(SECRET_BYTES))
    wrapping = X25519PrivateKey.from_private_bytes(entropy(SECRET_BYTES))
    device = Device(signing, wrapping, make_certificate(signing, entropy(SERIAL_BYTES)))
    files.create(DEVICE_FILE, Kind.DEVICE, encode_device(device))
    return device


def open_device(files: KeyFiles) -> Device:
    """Read this device's key. `ConfigError` if absent or open to others, `Damaged` if not sound. Blocking."""
    payload = files.read(DEVICE_FILE, Kind.DEVICE)
    try:
        return decode_device(payload)
    except FormatError as error:
        raise Damaged(files.place(DEVICE_FILE), f"{error}; restore it from a backup") from error


def create_volume_secrets(files: KeyFiles, directory: str, entropy: Entropy) -> VolumeSecrets:
    """Make a new volume: root key, genesis, V and the first G, durable in `directory`. Blocking.

    `ConfigError` if `directory` has a secrets file: without it the volume could never be read again.
    """
    secrets = make_volume_secrets(entropy)
    write_volume_secrets(files, directory, secrets)
    return secrets


def open_volume_secrets(files: KeyFiles, directory: str) -> VolumeSecrets:
    """Read the secrets of the volume in `directory`; errors as `open_device`. Blocking."""
    name = f"{directory}/{SECRETS_FILE}"
    payload = files.read(name, Kind.VOLUME)
    try:
        return decode_volume_secrets(payload)
    except FormatError as error:
        raise Damaged(files.place(name), f"{error}; restore it from a backup") from error


def write_volume_secrets(files: KeyFiles, directory: str, secrets: VolumeSecrets) -> None:
    """Keep the secrets of a volume that is new here, durable in `directory`. Blocking.

    `ConfigError` if `directory` has a secrets file.
    """
    files.create(f"{directory}/{SECRETS_FILE}", Kind.VOLUME, encode_volume_secrets(secrets))


def replace_volume_secrets(files: KeyFiles, directory: str, secrets: VolumeSecrets) -> None:
    """Keep `secrets` in place of those in `directory`: another generation, or no root key. Blocking.

    Durable when this returns, and after a crash the old or the new ones, whole. `ConfigError` if there are
    none. What is sealed under a generation comes after this, never before.
    """
    files.replace(f"{directory}/{SECRETS_FILE}", Kind.VOLUME, encode_volume_secrets(secrets))


def make_volume_secrets(entropy: Entropy) -> VolumeSecrets:
    """The secrets of a volume that did not exist before."""
    root = RootKey.make(entropy)
    genesis = make_genesis(root, entropy(RANDOM_BYTES))
    secret = entropy(SECRET_BYTES)
    generations = {genesis.generation: entropy(SECRET_BYTES)}
    return VolumeSecrets(genesis, secret, generations, genesis.generation, root)


def encode_device(device: Device) -> bytes:
    """The payload of `device.key`."""
    return msgspec.msgpack.encode(
        _DevicePayload(
            sign=device.signing.private_bytes_raw(),
            wrap=device.wrapping.private_bytes_raw(),
            certificate=device.certificate,
        )
    )


def decode_device(payload: bytes) -> Device:
    """The device in a payload. `FormatError` unless the certificate is this key's own."""
    fields = _decoded(payload, _DevicePayload)
    if len(fields.sign) != SECRET_BYTES or len(fields.wrap) != SECRET_BYTES:
        raise FormatError("a device key of a wrong length")
    signing = Ed25519PrivateKey.from_private_bytes(fields.sign)
    check_certificate(fields.certificate, signing)
    return Device(signing, X25519PrivateKey.from_private_bytes(fields.wrap), fields.certificate)


def encode_volume_secrets(secrets: VolumeSecrets) -> bytes:
    """The payload of a `secrets` file."""
    return msgspec.msgpack.encode(
        _VolumePayload(
            genesis=secrets.genesis.record,
            signature=secrets.genesis.signature,
            secret=secrets.secret,
            generations=[_Generation(*item) for item in sorted(secrets.generations.items())],
            current=secrets.current,
            root=secrets.root.secret if secrets.root else None,
        )
    )


def decode_volume_secrets(payload: bytes) -> VolumeSecrets:
    """The secrets in a payload. `FormatError` unless they belong together."""
    fields = _decoded(payload, _VolumePayload)
    genesis = parse_genesis(fields.genesis, fields.signature)
    generations = {generation.name: generation.secret for generation in fields.generations}
    if not len(generations) == len(fields.generations) <= GENERATIONS_MAX:
        raise FormatError("a generation is named twice, or there are too many")
    if any(len(name) != GENERATION_NAME_BYTES for name in generations):
        raise FormatError("a generation name of a wrong length")
    if any(len(secret) != SECRET_BYTES for secret in (fields.secret, *generations.values())):
        raise FormatError("a volume secret of a wrong length")
    if fields.current not in generations:
        raise FormatError("the secret of the current generation is missing")
    root = open_root(fields.root, genesis) if fields.root is not None else None
    return VolumeSecrets(genesis, fields.secret, generations, fields.current, root)


def open_root(secret: bytes, genesis: Genesis) -> RootKey:
    """The root key of the volume that `genesis` began. `FormatError` if `secret` is not that."""
    if len(secret) != ROOT_BYTES:
        raise FormatError("a root key of a wrong length")
    root = RootKey(secret)
    publics = (
        root.signing().public_key().public_bytes_raw(),
        root.wrapping().public_key().public_bytes_raw(),
    )
    if publics != (genesis.root_sign, genesis.root_wrap):
        raise FormatError("the root key belongs to another volume")
    return root


def _decoded(payload: bytes, kind: type[Payload]) -> Payload:
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"not what a key file holds: {error}") from error
