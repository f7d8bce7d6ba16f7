"""Reads everything a store holds and says what is wrong with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dittofs.chunks.index import PackIndex
from dittofs.chunks.index_run import IndexDamaged, Location
from dittofs.chunks.pack import (
    FRAME_HEADER_BYTES,
    PACK_HEADER_BYTES,
    Frame,
    Gap,
    check_pack_header,
    pack_name,
    parse_frame_header,
    scan,
)
from dittofs.chunks.pack_files import PackFiles
from dittofs.chunks.seal import ChunkKind, Sealer
from dittofs.errors import Damaged, FormatError
from dittofs.ids import ChunkId

_PROGRESS_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be."""

    what: str
    """The file and place."""
    detail: str
    chunk: ChunkId | None = None
    """The chunk that cannot be read because of it, if that is known."""
    kind: int | None = None
    """What it is, if it is known."""
    is_harmless: bool = False
    """Nothing that was ever acknowledged is affected."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the reading is."""

    done_bytes: int
    total_bytes: int


Finding: TypeAlias = Problem | Progress


def check(files: PackFiles, index: PackIndex, sealer: Sealer) -> Iterator[Finding]:
    """Open and hash every chunk in every pack, then hold the index against the packs.

    What is appended meanwhile may be left out. Holds about 10 MiB. Raises DiskError.
    """
    listing = files.listing()
    total = sum(listing.values())
    done = 0
    for number, size in listing.items():
        try:
            check_pack_header(files.read(number, 0, PACK_HEADER_BYTES), number, files.volume_id)
        except FormatError as error:
            if number not in files.sizes:
                continue
            yield Problem(pack_name(number), str(error), is_harmless=size < PACK_HEADER_BYTES)
        reported = 0
        for item in scan(_reader(files, number), PACK_HEADER_BYTES, size):
            if number not in files.sizes:
                break  # it was compacted meanwhile; what counted lies in a pack behind
            problem = check_item(item, number, index, sealer)
            if problem is not None:
                yield problem
            if item.offset - reported >= _PROGRESS_BYTES:
                reported = item.offset
                yield Progress(done + reported, total)
        done += size
        yield Progress(done, total)
    yield from _check_index(files, index, sealer)


def _reader(files: PackFiles, number: int) -> Callable[[int, int], bytes]:
    return lambda offset, size: files.read(number, offset, size)


def check_item(item: Frame | Gap, number: int, index: PackIndex, sealer: Sealer) -> Problem | None:
    """What is wrong with a part of a pack, if anything."""
    where = f"{pack_name(number)} at {item.offset}"
    try:
        location = index.find(item.chunk) if item.chunk else None
    except IndexDamaged:
        return None  # said once, by _check_index
    is_here = location is not None and (location.pack, location.offset) == (number, item.offset)
    lost = item.chunk if is_here else None
    kind = location.kind if location is not None else None
    if isinstance(item, Gap) and location is not None and not is_here:
        detail = f"{item.length} bytes are no sound frame; the chunk that lay there was stored again since"
        return Problem(where, detail, is_harmless=True)
    if isinstance(item, Gap):
        is_unfinished = item.torn and item.offset >= index.covered.get(number, 0) and lost is None
        what = "an unfinished write" if is_unfinished else "no sound frame"
        return Problem(where, f"{item.length} bytes are {what}", lost, kind, is_harmless=is_unfinished)
    if location is None and item.offset < index.covered.get(number, 0):
        return None  # it was swept, and the pack is not worth compacting yet
    if location is None:
        return Problem(where, f"chunk {item.chunk.hex()} is not in the index: rebuild it")
    if item.kind not in ChunkKind._value2member_map_:
        return Problem(where, f"a chunk of unknown kind {item.kind}", lost)
    try:
        sealer.open(ChunkKind(item.kind), item.chunk, item.sealed)
    except (Damaged, FormatError) as error:
        return Problem(where, str(error), lost, kind)
    return None


def _check_index(files: PackFiles, index: PackIndex, sealer: Sealer) -> Iterator[Problem]:
    """Whether there is a frame wherever the index points."""
    try:
        for chunk, location in index.entries():
            size = files.sizes.get(location.pack)
            header = parse_frame_header(files.read(location.pack, location.offset, FRAME_HEADER_BYTES))
            if size is None:
                detail = "the pack is gone"
            elif location.offset + location.length > size:
                detail = f"the pack ends at {size}"
            elif header is None or header[:2] != (chunk, location.length - FRAME_HEADER_BYTES):
                detail = "its frame is not there"
            else:
                continue  # what is in the frame was looked at before
            if index.find(chunk) != location:
                continue  # it was moved, or swept, meanwhile
            where = f"{pack_name(location.pack)} at {location.offset}"
            if size is not None and opens(files, chunk, location, sealer):
                yield Problem(where, f"the header of chunk {chunk.hex()} is damaged, the chunk is whole")
            else:
                yield Problem(where, f"chunk {chunk.hex()} is lost: {detail}", chunk, location.kind)
    except IndexDamaged as error:
        yield Problem("index", f"{error}: rebuild it")


def opens(files: PackFiles, chunk: ChunkId, location: Location, sealer: Sealer) -> bool:
    """Whether the chunk that the index says lies there can be read."""
    frame = files.read(location.pack, location.offset, location.length)
    try:
        sealer.open(ChunkKind(location.kind), chunk, frame[FRAME_HEADER_BYTES:])
    except (Damaged, FormatError, ValueError):  # ValueError: a kind this program does not know
        return False
    return True
