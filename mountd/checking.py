"""`dittofs check`: everything read and verified while the volume is in use, and mended where that can be."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, Literal

import trio
from msgspec.structs import replace

from dittofs.chunks.check import Problem
from dittofs.chunks.content import ContentReader
from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.marking import Marker
from dittofs.chunks.seal import ChunkKind
from dittofs.cli.output import counted
from dittofs.control.paths import path_fields
from dittofs.control.protocol import CheckDone, CheckItem, CheckProgress, Finding
from dittofs.errors import ChunkMissing, ChunkUnavailable, Damaged, FormatError
from dittofs.history.snapshots import unreadable_snapshots
from dittofs.ids import ChunkId
from dittofs.journal.damage import Damage
from dittofs.tree.record import DOCUMENTS, META_SHARD, Kind
from dittofs.volume.browsing import Browsing, Seen
from dittofs.volume.opening import suspect
from dittofs.volume.published import Published
from dittofs.volume.retained import Retained
from dittofs.volume.source import Wanted
from dittofs.volume.volume import Volume

PROGRESS_INTERVAL_S = 0.5
FETCHED_AT_ONCE: Final = 64
REPAIR: Final = "dittofs check --repair"
STOPPED: Final = f"dittofs daemon --stop, then {REPAIR}"
DOCUMENTS_S: Final = 15.0  # how long a round with a connected device may take
NAMED_IN_A_ROW: Final = 256
AWAY_NAMED: Final = 3  # of the files that are on others only
UNNEEDED: Final = "nothing that is shown needs it, and it goes with the past that may"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What is known of other devices."""

    is_alone: bool = True
    """There are none."""
    absent: Sequence[str] = ()
    """Those that are not connected."""
    nobody_has: Callable[[bytes], bool] = lambda _root: False
    """Whether no device has said that it holds a content."""
    counted: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    """Returns when it is known who holds what, or after a while."""

    @property
    def who_may(self) -> str:
        """Where to look for what no connected device has."""
        if self.is_alone:
            return "restore the file from another copy: no other device has the volume"
        if self.absent:
            return f"connect {', '.join(self.absent)}, and run {REPAIR} again"
        return (
            "all devices are connected, and none has it: restore an older version (dittofs log), or remove it"
        )


@dataclass(slots=True)
class _Count:
    """What was found so far."""

    findings: int = 0
    mended: int = 0
    lost: list[Wanted] = field(default_factory=list)
    frames: dict[ChunkId, Finding] = field(default_factory=dict)
    """What was found of frames in packs, by the chunk that is lost with each."""
    index: int = 0
    """Findings about the index of the tree."""
    shut: int = 0
    """Findings about the journal that cannot be mended while it is open."""


async def check(
    volume: Volume, names: Sequence[bytes], elsewhere: Elsewhere = Elsewhere(), *, repair: bool = False
) -> AsyncGenerator[CheckItem, None]:
    """Verify journal, index and every pack frame (without a path), then that each file reads back whole.

    With `repair` what is damaged is fetched from other devices, and indexes are made anew. What nobody has
    is said, with its path.
    """
    count = _Count()
    losses = volume.replica.chunks.losses
    if not names:
        async for item in _check_store(volume, count, repair=repair):
            count.findings += isinstance(item, Finding)
            yield item
        if repair:
            async for item in _mend_store(volume, count, elsewhere):
                yield item
        needed = await _needed(volume, set(count.frames))
        for chunk, finding in count.frames.items():
            count.findings += 1
            if chunk not in needed:
                finding = replace(
                    finding, severity="warning", detail=f"{finding.detail}; {UNNEEDED}", mend=""
                )
            yield finding
        for bad in unreadable_snapshots(volume.replica):
            count.findings += 1
            mend = "update DittoFS" if bad.is_later else f"dittofs snapshot delete {bad.name}"
            yield Finding("warning", "snapshot", f"{bad.name}: {bad.reason}", mend=mend)
    await elsewhere.counted()
    files = chunks = verified = away = away_bytes = 0
    away_names: list[str] = []
    last = trio.current_time()
    browsing = Browsing(volume)
    for seen in browsing.walk(names, recursive=True):
        if seen.stat.kind is not Kind.FILE:
            continue
        files += 1
        found, here, problem = await trio.to_thread.run_sync(_verify, volume, browsing, seen.shown)
        is_lost = here < seen.shown.size and (
            elsewhere.is_alone or elsewhere.nobody_has(seen.shown.root) or _has_lost(volume)
        )
        if repair and (problem or is_lost):
            was_hurt = bool(problem)
            await _fetch(volume, seen)
            found, here, problem = await trio.to_thread.run_sync(_verify, volume, browsing, seen.shown)
            if was_hurt and not problem and here == seen.shown.size:
                count.findings += 1
                count.mended += 1
                detail = "it was damaged here, and had from another device"
                yield Finding("warning", "mended", detail, **path_fields(seen.path))
        chunks += found
        verified += here
        missing = seen.shown.size - here
        is_gone = elsewhere.is_alone or elsewhere.nobody_has(seen.shown.root)
        if missing and is_gone and not problem:
            where = "and no other has the volume" if elsewhere.is_alone else "and none is known to hold them"
            problem = f"{missing} bytes are not on this device, {where}"
        if missing and not problem:
            away += 1
            away_bytes += missing
            if len(away_names) < AWAY_NAMED:
                away_names.append(seen.path.decode(errors="replace"))
        if problem:
            count.findings += 1
            mend = elsewhere.who_may if repair or elsewhere.is_alone else REPAIR
            yield Finding("damage", "file", problem, mend=mend, **path_fields(seen.path))
        if trio.current_time() - last >= PROGRESS_INTERVAL_S:
            last = trio.current_time()
            yield CheckProgress(verified, volume.summary().content_bytes, "files")
    if away:
        which = f"{counted(away, 'file')} {'is' if away == 1 else 'are'}"
        detail = f"{which} not whole on this device: {away_bytes} bytes are on others only"
        more = f" and {away - len(away_names):,} more" if away > len(away_names) else ""
        detail = f"{detail}, and were not looked at: {', '.join(away_names)}{more}"
        yield Finding("warning", "missing", detail, mend="dittofs list --missing")
    if volume.replica.chunks.losses != losses:
        await volume.holdings.count()  # `status` says it from now on
    yield CheckDone(files=files, chunks=chunks, bytes=verified, findings=count.findings, mended=count.mended)


async def _check_store(volume: Volume, count: _Count, *, repair: bool) -> AsyncGenerator[CheckItem, None]:
    yield CheckProgress(0, 0, "journal")
    async for item in _check_journal(volume, count, repair=repair):
        yield item
    mend = "" if repair else REPAIR
    for number in range(DOCUMENTS):
        try:
            compared = volume.replica.mended(partial(volume.replica.tree.compare, number))
        except (Damaged, FormatError) as error:
            yield Finding("damage", "index", f"document {number} cannot be read: {error}")
            continue
        if compared.differing:
            count.index += 1
            detail = f"{len(compared.differing)} files are shown otherwise than document {number} has them"
            yield Finding("damage", "index", detail, mend=mend)
        await trio.lowlevel.checkpoint()
        if number % 32 == 0:
            yield CheckProgress(number, DOCUMENTS, "index")
    steps = volume.replica.chunks.verify()
    while (step := await trio.to_thread.run_sync(lambda: next(steps, None))) is not None:
        if isinstance(step, Problem):
            if step.chunk is not None and step.kind is not None and step.kind in ChunkKind._value2member_map_:
                count.lost.append((ChunkKind(step.kind), step.chunk))
            is_mendable = step.chunk is not None or step.what == "index"
            detail = f"{step.what}: {step.detail}"
            severity: Literal["warning", "damage"] = "warning" if step.is_harmless else "damage"
            finding = Finding(severity, "pack", detail, mend=mend if is_mendable else "")
            if step.chunk is None or step.is_harmless:
                yield finding
            else:
                count.frames[step.chunk] = finding  # what it means depends on who names it
        else:
            yield CheckProgress(step.done_bytes, step.total_bytes, "packs")


async def _check_journal(volume: Volume, count: _Count, *, repair: bool) -> AsyncGenerator[CheckItem, None]:
    """What the journal finds wrong with itself. Documents are mended on the way, as whenever they are met."""
    replica = volume.replica
    mend = "" if repair else REPAIR
    for damage in await trio.to_thread.run_sync(lambda: list(replica.journal.check())):
        count.index += _is_of_index(damage)
        detail = f"{damage.what}: {damage.detail}"
        if damage.is_past:
            yield Finding("warning", "journal", detail)
            continue
        count.shut += _is_mended_shut(damage)
        yield Finding("damage", "journal", detail, mend=mend)
        if damage.shard is None:
            continue
        with suppress(Damaged, FormatError):
            replica.mended(partial(replica.tree.compare, damage.shard))
            if damage.shard not in replica.documents.awaited:
                count.mended += 1
                detail = (
                    f"document {damage.shard} was made anew from the index of names: nothing of it is lost"
                )
                yield Finding("warning", "mended", detail)
    for number, reason in replica.documents.awaited.items():
        yield Finding(
            "damage", "journal", f"document {number} is awaited from another device: {reason}", mend=mend
        )


def _is_of_index(damage: Damage) -> bool:
    return ": index" in damage.what or ": entry" in damage.what


def _is_mended_shut(damage: Damage) -> bool:
    """Whether it is of pages or rows that nothing else has: no journal is made anew while it is open."""
    return damage.shard is None and not damage.is_past and not _is_of_index(damage)


async def _mend_shut(volume: Volume, count: _Count) -> AsyncGenerator[CheckItem, None]:
    """What is left of the journal's damage when the rest is mended: before it is opened again."""
    replica = volume.replica
    found = await trio.to_thread.run_sync(lambda: list(replica.journal.check()))
    left = [f"{one.what}: {one.detail}" for one in found if _is_mended_shut(one)]
    count.mended += max(0, count.shut - len(left))
    if left:
        await replica.run_blocking(suspect, replica.disk, left[0])
        detail = "it is made anew of all that can be read in it once it is not open any more"
        yield Finding("warning", "journal", detail, mend=STOPPED)


async def _await_documents(
    volume: Volume, count: _Count, elsewhere: Elsewhere
) -> AsyncGenerator[CheckItem, None]:
    """Documents that are damaged here, from another device; where there is none, what is lost is lost."""
    documents = volume.replica.documents
    wanted = len(documents.awaited)
    if elsewhere.is_alone and META_SHARD not in documents.awaited:
        for reason in documents.give_up():
            detail = (
                f"{reason}: no other device has the volume, so its latest names are lost. What was set aside"
            )
            yield Finding("damage", "journal", f"{detail} stays in journal.db, in the table `damaged`")
        return
    documents.on_awaited()
    with trio.move_on_after(DOCUMENTS_S):
        await documents.all_came()
    count.mended += wanted - len(documents.awaited)
    if len(documents.awaited) < wanted:
        detail = f"{wanted - len(documents.awaited)} documents of the tree were had from another device"
        yield Finding("warning", "mended", detail)


async def _mend_store(volume: Volume, count: _Count, elsewhere: Elsewhere) -> AsyncGenerator[CheckItem, None]:
    """Indexes anew; every chunk that was found to be lost from another device, whoever names it."""
    replica = volume.replica
    if replica.documents.awaited:
        async for item in _await_documents(volume, count, elsewhere):
            yield item
    if count.index:
        replica.rebuild_index()
        count.mended += count.index
        yield Finding("warning", "mended", "the index of names was made anew from the documents")
    if count.shut:
        async for item in _mend_shut(volume, count):
            yield item
    for kind, chunk in dict.fromkeys(count.lost):
        if replica.chunks.has(kind, chunk) or await _get(volume, b"", [(kind, chunk)]):
            count.mended += 1
            yield Finding("warning", "mended", f"chunk {chunk.hex()} was had from another device")
    await replica.run_blocking(replica.chunks.sync)


async def _fetch(volume: Volume, seen: Seen) -> None:
    """Get what a file lacks, as far as connected devices have it."""
    reader = ContentReader(volume.replica.chunks, seen.shown.root, seen.shown.size)
    while wanted := await trio.to_thread.run_sync(reader.absent):
        for start in range(0, len(wanted), FETCHED_AT_ONCE):
            if not await _get(volume, seen.shown.root, wanted[start : start + FETCHED_AT_ONCE]):
                return
    await volume.replica.run_blocking(volume.replica.chunks.sync)


async def _get(volume: Volume, root: bytes, wanted: Sequence[tuple[ChunkKind, ChunkId]]) -> bool:
    try:
        await volume.state.source.fetch(root, wanted)
    except ChunkUnavailable:
        return False
    return True


async def _needed(volume: Volume, lost: set[ChunkId]) -> set[ChunkId]:
    """Which of these chunks what is shown consists of, or may: nobody knows what is below a lost node."""
    if not lost:
        return set()
    chunks = volume.replica.chunks
    marker = Marker(chunks, IdFilter(chunks.statistics().chunks, 0))
    shown = (named for named, is_shown in Retained(volume.state).named() if is_shown)
    while some := list(islice(shown, NAMED_IN_A_ROW)):
        unknown = await trio.to_thread.run_sync(marker.mark, some)
        if any(one.node in lost for one in unknown):
            return lost
    return {chunk for chunk in lost if chunk in marker.marks}


def _has_lost(volume: Volume) -> bool:
    """Whether opening the store found packs cut short or gone: then what is not here may have been."""
    return any("lost" in note or "is gone" in note for note in volume.replica.chunks.notes)


def _verify(volume: Volume, browsing: Browsing, shown: Published) -> tuple[int, int, str]:
    """Blocking: read every chunk of a content that is here. How many, their bytes, what is wrong."""
    count = here = 0
    try:
        for part in browsing.presence(shown):
            if part.is_here and part.chunk is not None:
                count += 1
                if len(volume.replica.chunks.get(part.kind, part.chunk)) != part.length:
                    return count, here, f"chunk {part.chunk.hex()} is not {part.length} bytes long"
            here += part.length * part.is_here
    except (Damaged, FormatError) as error:
        return count, here, str(error)
    except ChunkMissing:  # it was found damaged since
        return count, here, ""
    return count, here, ""
