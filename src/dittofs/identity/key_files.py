"""Secrets as files that only their owner may read (disk.md, Key files)."""

import enum
import os
import pwd
import shlex
import stat
import struct
from pathlib import Path
from typing import Protocol

import blake3

from dittofs.disk import Disk, replace_whole
from dittofs.errors import ConfigError, Damaged, FormatError

FILE_BYTES_MAX = 1 << 20

_MAGIC = b"DittoKey"
_VERSION = 1
_UNPROTECTED = 0
_HEADER = struct.Struct(">8sBBBBI")  # magic, version, kind, protection, zero, bytes of the payload
_SUM_BYTES = 8
_OTHERS = 0o077


class Kind(enum.IntEnum):
    """What a key file holds."""

    DEVICE = 1
    VOLUME = 2


def pack(kind: Kind, payload: bytes) -> bytes:
    """The bytes of a key file."""
    body = _HEADER.pack(_MAGIC, _VERSION, kind, _UNPROTECTED, 0, len(payload)) + payload
    return body + blake3.blake3(body).digest(length=_SUM_BYTES)


def unpack(kind: Kind, data: bytes) -> bytes:
    """The payload of a key file of this kind. `FormatError` unless every byte is as `pack` wrote it."""
    if len(data) < _HEADER.size + _SUM_BYTES:
        raise FormatError(f"a key file cut short: {len(data)} bytes")
    magic, version, found, protection, zero, size = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise FormatError("not a key file of DittoFS")
    if version != _VERSION:
        raise FormatError(f"a key file of version {version}; this program knows {_VERSION}")
    if blake3.blake3(data[:-_SUM_BYTES]).digest(length=_SUM_BYTES) != data[-_SUM_BYTES:]:
        raise FormatError("the checksum does not match: the file was damaged or changed")
    if protection != _UNPROTECTED:
        raise FormatError(f"a key file under protection {protection}, which this program does not know")
    if found != kind or zero or size != len(data) - _HEADER.size - _SUM_BYTES:
        raise FormatError(f"not a key file of kind {kind.name.lower()}")
    return data[_HEADER.size : -_SUM_BYTES]


class Guard(Protocol):
    """Knows whether others could have read or changed a key file."""

    def check(self, name: str) -> None:
        """Return if only this user could; `name` need not exist yet. Otherwise `ConfigError`."""

    def place(self, name: str) -> str:
        """What a person calls the file."""


class OwnerOnly:
    """Keys lie in directory `state` (0700), in files (0600), all of the user who runs this."""

    def __init__(self, state: Path, uid: int | None = None) -> None:
        self._state = state
        self._uid = os.geteuid() if uid is None else uid

    def check(self, name: str) -> None:
        self._check_one(self._state, self._state.stat(), "directory", 0o700)
        path = self._state / name
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path} is not a regular file: put the key file itself there")
        self._check_one(path, found, "file", 0o600)

    def place(self, name: str) -> str:
        return str(self._state / name)

    def _check_one(self, path: Path, found: os.stat_result, what: str, mode: int) -> None:
        quoted = shlex.quote(str(path))
        if found.st_uid != self._uid:
            raise ConfigError(
                f"{path} belongs to {_user(found.st_uid)}, not to {_user(self._uid)}: not used. "
                f"If this {what} is yours, run: sudo chown {self._uid} {quoted}"
            )
        if found.st_mode & _OTHERS:
            raise ConfigError(
                f"{path} holds keys and is open to other users: its mode is "
                f"{stat.S_IMODE(found.st_mode):04o}, not {mode:04o}: not used. Run: chmod {mode:o} {quoted}"
            )


class KeyFiles:
    """The key files on a disk, behind a guard. All methods block. One process at a time."""

    def __init__(self, disk: Disk, guard: Guard) -> None:
        self._disk = disk
        self._guard = guard

    def place(self, name: str) -> str:
        """What a person calls the file."""
        return self._guard.place(name)

    def exists(self, name: str) -> bool:
        """Whether the file is there, readable or not."""
        return self._disk.exists(name)

    def read(self, name: str, kind: Kind) -> bytes:
        """The payload, durable when this returns.

        `ConfigError` if the file is absent or open to others, `Damaged` if it is not sound.
        """
        self._guard.check(name)
        try:
            file = self._disk.open(name, read_only=True)
        except FileNotFoundError as error:
            raise ConfigError(f"{self.place(name)} is missing: restore it from a backup") from error
        try:
            data = file.read(0, FILE_BYTES_MAX + 1)
        finally:
            file.close()
        try:
            payload = unpack(kind, data)
        except FormatError as error:
            raise Damaged(self.place(name), f"{error}; restore it from a backup") from error
        # Whoever made the file may have died before its name was durable, and what is sealed
        # under a key must not outlive it.
        directory, _, _ = name.rpartition("/")
        self._disk.make_directory(directory)
        self._disk.sync_directory(directory)
        return payload

    def create(self, name: str, kind: Kind, payload: bytes) -> None:
        """Write a key file, durable and whole when this returns; absent or whole after a crash.

        Never replaces a key: `ConfigError` if the file exists, or if others could read it.
        """
        self._guard.check(name)
        if self.exists(name):
            raise ConfigError(f"{self.place(name)} exists already and is kept as it is")
        self._write(name, kind, payload)

    def replace(self, name: str, kind: Kind, payload: bytes) -> None:
        """Write a key file in place of the one that is there, durable when this returns.

        After a crash it is the one or the other, whole. The bytes that were replaced may stay in free blocks
        of the disk. `ConfigError` if there is none to replace, or if others could read it.
        """
        self._guard.check(name)
        if not self.exists(name):
            raise ConfigError(f"{self.place(name)} is missing: restore it from a backup")
        self._write(name, kind, payload)

    def _write(self, name: str, kind: Kind, payload: bytes) -> None:
        directory, _, _ = name.rpartition("/")
        self._disk.make_directory(directory)
        replace_whole(self._disk, name, pack(kind, payload))


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"
