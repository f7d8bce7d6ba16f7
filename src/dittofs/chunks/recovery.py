"""From what lies on the disk after a crash, or after damage, to an index that is true."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dittofs.chunks.index import RECENT_ENTRIES_MAX, PackIndex
from dittofs.chunks.index_run import Location
from dittofs.chunks.pack import (
    PACK_BYTES_MAX,
    PACK_HEADER_BYTES,
    Gap,
    check_pack_header,
    pack_name,
    scan,
)
from dittofs.chunks.pack_files import PackFiles
from dittofs.errors import DiskError, DiskFull, FormatError


@dataclass(slots=True)
class Recovered:
    """What is known of the packs."""

    durable: dict[int, int] = field(default_factory=dict)
    """pack -> bytes that are on the platter and whose frames the index holds."""
    appendable: int | None = None
    """The last pack, if it is sound to its last byte."""


def recover(files: PackFiles, index: PackIndex, note: Callable[[str], None]) -> Recovered:
    """Add to the index every sound frame that lies beyond what it covers, and make it durable.

    Says through `note` what is lost or damaged. Removes nothing but packs without a frame that counts.
    May raise DiskError and IndexDamaged.
    """
    for number in index.leaving & files.sizes.keys():
        files.remove(number)  # it was left empty, and a crash came before its removal
    recovered = Recovered(dict(index.covered))
    listing = files.listing()
    for number in sorted(index.covered.keys() - listing.keys()):
        note(f"{pack_name(number)} is gone, and with it every chunk it held")
    last = max([*index.covered, *listing], default=0)
    for number, size in listing.items():
        known = index.covered.get(number, 0)
        if size < PACK_HEADER_BYTES and not known:
            files.remove(number)
            continue
        is_sound = True
        try:
            check_pack_header(files.read(number, 0, PACK_HEADER_BYTES), number, files.volume_id)
        except FormatError as error:
            note(f"{pack_name(number)}: {error}; its frames are read all the same")
            is_sound = False
        if size < known:
            note(f"{pack_name(number)} is {known - size} bytes shorter than it was: its last chunks are lost")
            continue
        if size > known:
            is_sound &= _scan_pack(files, number, size, index, recovered, note)
        if is_sound and number == last and size < PACK_BYTES_MAX:
            recovered.appendable = number
    return recovered


def _scan_pack(
    files: PackFiles,
    number: int,
    size: int,
    index: PackIndex,
    recovered: Recovered,
    note: Callable[[str], None],
) -> bool:
    """Index the frames of a pack beyond what is covered; whether there was nothing else."""
    start = recovered.durable.setdefault(number, PACK_HEADER_BYTES)
    # What is read here may have come from the cache alone. All packs but the last were synced by who made it.
    if number == files.last:
        files.secure(number, start)
    else:
        files.sync(number)
    is_sound = True
    for item in scan(lambda offset, length: files.read(number, offset, length), start, size):
        if isinstance(item, Gap):
            is_sound = False
            what = "an unfinished write" if item.torn else "damaged"
            whose = f" (chunk {item.chunk.hex()})" if item.chunk else ""
            note(f"{pack_name(number)} at {item.offset}: {item.length} bytes are {what}{whose}")
            continue
        index.add(item.chunk, Location(number, item.offset, item.length, item.kind))
        recovered.durable[number] = item.offset + item.length
        if index.recent_count % RECENT_ENTRIES_MAX == 0:
            _save(index, recovered.durable)
    return is_sound


def _save(index: PackIndex, durable: dict[int, int]) -> None:
    index.leave(durable)
    try:
        index.save(durable)
    except (DiskFull, DiskError):
        index.stay()  # the chunks are found all the same; the index is saved when there is room
