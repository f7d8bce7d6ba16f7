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


async def check(
    volume: Volume, names: Sequence[bytes], *, is_alone: bool = True
) -> AsyncGenerator[CheckItem, None]:
    """Verify the journal and every pack frame (without a path), then that each file reads back whole.

    `is_alone`: no other device has the volume, so what is not here is lost.
    """
    findings = 0
    if not names:
        async for item in _check_store(volume):
            findings += isinstance(item, Finding)
            yield item
    files = chunks = verified = elsewhere = elsewhere_bytes = 0
    last = trio.current_time()
    browsing = Browsing(volume)
    for seen in browsing.walk(names, recursive=True):
        if seen.stat.kind is not Kind.FILE:
            continue
        files += 1
        count, here, problem = await trio.to_thread.run_sync(_verify, volume, browsing, seen.shown)
        chunks += count
        verified += here
        if here < seen.shown.size and not problem and is_alone:
            problem = f"{seen.shown.size - here} bytes are not on this device, and no other has the volume"
        if here < seen.shown.size and not problem:
            elsewhere += 1
            elsewhere_bytes += seen.shown.size - here
        if problem:
            findings += 1
            mend = "restore the file from another copy, or read it while a device is connected that has it"
            yield Finding("damage", "file", problem, mend=mend, **path_fields(seen.path))
        if trio.current_time() - last >= PROGRESS_INTERVAL_S:
            last = trio.current_time()
            yield CheckProgress(verified, volume.summary().content_bytes, "files")
    if elsewhere:
        detail = f"{elsewhere} files are not whole on this device: {elsewhere_bytes} bytes are on others only"
        yield Finding(
            "warning", "missing", f"{detail}, and were not looked at", mend="dittofs list --missing"
        )
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
