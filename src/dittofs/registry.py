"""The volumes that this device has a replica of: a file that is replaced whole."""

import os
from collections.abc import Collection
from typing import Final

import msgspec
import trio

from dittofs.blocking import RunBlocking
from dittofs.disk import Disk, read_whole, replace_whole
from dittofs.errors import ConfigError, Damaged
from dittofs.ids import VolumeId

FILE: Final = "volumes.json"
FORMAT: Final = 1
FILE_BYTES_MAX: Final = 1 << 20
NAME_BYTES_MAX: Final = 100


class VolumeRecord(msgspec.Struct, frozen=True):
    """A volume, as the registry keeps it."""

    name: str
    directory: str
    """Below `volumes/` in the state directory."""
    volume_id: str
    """Hexadecimal."""
    path: str = ""
    """Where it was last mounted. In memory a byte that is not UTF-8 is a surrogate (PEP 383)."""
    path_raw: bytes = b""
    """In the file, where `path` is not UTF-8: its bytes, and `path` is a readable likeness."""
    options: tuple[str, ...] = ()
    is_mounted: bool = False
    """It was mounted when the daemon last knew, and is mounted again when it comes back."""
    is_ephemeral: bool = False
    """This device leaves it with its last mount, and nothing of it stays."""
    signal: str = ""
    """The signalling server by which its devices meet, beside that of the settings."""


class _File(msgspec.Struct, frozen=True):
    format: int
    volumes: tuple[VolumeRecord, ...]


class Registry:
    """Names are unique. A change is durable when its method returns; changes wait for each other."""

    def __init__(self, disk: Disk, place: str, run_blocking: RunBlocking) -> None:
        """Blocking. Damaged, which names `place`, if the file is not what it should be."""
        self._disk = disk
        self._run_blocking = run_blocking
        self._records = read_registry(disk, place)
        self._changing = trio.Lock()  # held from reading the records to having replaced the file

    @property
    def records(self) -> dict[str, VolumeRecord]:
        """By name."""
        return self._records

    async def put(self, record: VolumeRecord) -> None:
        """Add a volume, or replace what is known of it."""
        async with self._changing:
            await self._run_blocking(self._save, {**self._records, record.name: record})

    async def remember(self, name: str, path: str, options: tuple[str, ...], *, is_mounted: bool) -> None:
        """Keep where a volume is mounted, if it is still on this device."""
        async with self._changing:
            known = self._records.get(name)
            if known is None:
                return
            record = msgspec.structs.replace(known, path=path, options=options, is_mounted=is_mounted)
            if record != known:  # what is mounted again is mounted on a full disk, too
                await self._run_blocking(self._save, {**self._records, name: record})

    async def use_signal(self, name: str, url: str) -> None:
        """Keep by which signalling server a volume's devices meet, if it is still on this device."""
        async with self._changing:
            record = self._records.get(name)
            if record is not None and record.signal != url:
                record = msgspec.structs.replace(record, signal=url)
                await self._run_blocking(self._save, {**self._records, name: record})

    async def remove(self, name: str) -> None:
        """Forget a volume."""
        async with self._changing:
            rest = {key: record for key, record in self._records.items() if key != name}
            await self._run_blocking(self._save, rest)

    def drop(self, directories: Collection[str]) -> None:
        """Blocking, before anybody changes anything: forget the volumes that were in these directories."""
        kept = {name: one for name, one in self._records.items() if one.directory not in directories}
        if len(kept) < len(self._records):
            self._save(kept)

    def name_of(self, identity: VolumeId) -> str | None:
        """What this device calls a volume; None if it has none of that id."""
        return next((one.name for one in self._records.values() if one.volume_id == identity.hex()), None)

    def name_at(self, path: str) -> str | None:
        """The volume last mounted on `path`."""
        return next((one.name for one in self._records.values() if one.path == path), None)

    def _save(self, records: dict[str, VolumeRecord]) -> None:
        """Blocking: replace the file, whole or not at all."""
        kept = tuple(map(_as_kept, records.values()))
        data = msgspec.json.format(msgspec.json.encode(_File(FORMAT, kept)))
        replace_whole(self._disk, FILE, data)
        self._records = records


def read_registry(disk: Disk, place: str) -> dict[str, VolumeRecord]:
    """Blocking: the volumes whose device has its state on `disk`, by name. Damaged if that is not known."""
    data = read_whole(disk, FILE, FILE_BYTES_MAX)
    if data is None:
        return {}
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(place, f"not a list of volumes: {error}") from error
    if found.format != FORMAT:
        raise Damaged(place, f"its format is {found.format}, not {FORMAT}")
    return {record.name: _as_known(record) for record in found.volumes}


def _as_kept(record: VolumeRecord) -> VolumeRecord:
    raw = os.fsencode(record.path)
    likeness = raw.decode(errors="replace")
    is_text = likeness.encode() == raw
    return msgspec.structs.replace(record, path=likeness, path_raw=b"" if is_text else raw)


def _as_known(record: VolumeRecord) -> VolumeRecord:
    if not record.path_raw:
        return record
    return msgspec.structs.replace(record, path=os.fsdecode(record.path_raw), path_raw=b"")


def require_volume_name(name: str) -> None:
    """ConfigError unless `name` can be given to a volume. A colon would make VOLUME:PATH mean two things."""
    is_short = len(name.encode(errors="surrogateescape")) <= NAME_BYTES_MAX
    is_plain = name.isprintable() and not {"/", ":"} & set(name) and name.strip() == name
    if not is_short or not is_plain or name in ("", ".", ".."):
        raise ConfigError(
            f"{name!r} cannot name a volume: that takes 1 to {NAME_BYTES_MAX} printable bytes, "
            "no / and no : among them, and no space at the ends"
        )
