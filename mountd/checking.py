"""`dittofs check`: everything read and verified while the volume is in use."""

from collections.abc import AsyncGenerator, Sequence

import trio

from dittofs.chunks.check import Problem
from dittofs.control.paths import path_fields
from dittofs.control.protocol import CheckDone, CheckItem, CheckProgress, Finding
from dittofs.errors import ChunkMissing, Damaged, FormatError
from dittofs.tree.record import Kind
from dittofs.volume.browsing import Browsing
from dittofs.volume.contents import Published
from dittofs.volume.volume import Volume

PROGRESS_INTERVAL_S = 0.5


async def check(volume: Volume, names: Sequence[bytes]) -> AsyncGenerator[CheckItem, None]:
    """Verify the journal and every pack frame (without a path), then that each file reads back whole."""
    findings = 0
    if not names:
        async for item in _check_store(volume):
            findings += isinstance(item, Finding)
            yield item
    files = chunks = verified = 0
    last = trio.current_time()
    browsing = Browsing(volume)
    for seen in browsing.walk(names, recursive=True):
        if seen.stat.kind is not Kind.FILE:
            continue
        files += 1
        count, problem = await trio.to_thread.run_sync(_verify, browsing, seen.shown)
        chunks += count
        verified += seen.shown.size
        if problem:
            findings += 1
            mend = "restore the file from another copy; the bytes are not on this device"
            yield Finding("damage", "file", problem, mend=mend, **path_fields(seen.path))
        if trio.current_time() - last >= PROGRESS_INTERVAL_S:
            last = trio.current_time()
            yield CheckProgress(verified, volume.summary().content_bytes, "files")
    yield CheckDone(files=files, chunks=chunks, bytes=verified, findings=findings)


async def _check_store(volume: Volume) -> AsyncGenerator[CheckItem, None]:
    yield CheckProgress(0, 0, "journal")
    for damage in await trio.to_thread.run_sync(lambda: list(volume.replica.journal.check())):
        yield Finding("damage", "journal", f"{damage.what}: {damage.detail}")
    steps = volume.replica.chunks.verify()
    while (step := await trio.to_thread.run_sync(lambda: next(steps, None))) is not None:
        if isinstance(step, Problem):
            yield Finding("warning" if step.is_harmless else "damage", "pack", f"{step.what}: {step.detail}")
        else:
            yield CheckProgress(step.done_bytes, step.total_bytes, "packs")


def _verify(browsing: Browsing, shown: Published) -> tuple[int, str]:
    """Blocking: read every chunk of a published content. How many there are, and what is wrong."""
    count = 0
    try:
        for _, _, identity in browsing.chunks(shown):
            count += identity is not None
        for _ in browsing.read_version(shown):
            pass
    except (ChunkMissing, Damaged, FormatError) as error:
        return count, str(error)
    return count, ""
