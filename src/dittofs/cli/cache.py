"""`dittofs cache`"""

import argparse
import time
from collections.abc import Iterator
from typing import Final

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import counted, duration, escaped, human_size, say, say_json, when
from dittofs.clock import SECOND_NS
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.storage import Amount, Awaited, CacheReport, CacheRequest, GarbageRound

DESCRIPTION = """\
What lies in the chunk store of a volume on this device (stats), and giving back the room of what nothing
names any more (gc): no file, no version of its history, no snapshot. It goes by itself about once a day, when
every other device has said that it needs none of it; gc does now what can be done now, and says what it waits
for. Nothing that anybody may still need is ever swept."""
EXAMPLE = """\
  dittofs cache stats
  dittofs cache stats Photos --detailed
  dittofs cache gc --dry-run
  dittofs cache gc"""
ACTIONS: Final = ("stats", "gc")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="stats|gc", choices=ACTIONS)
    parser.add_argument("volume", metavar="VOLUME", nargs="?", help="its name, or a path below its mount")
    parser.add_argument("--detailed", action="store_true", help="each pack, deduplication and compression")
    parser.add_argument("--dry-run", action="store_true", help="with gc: say what would go, and do nothing")


def run(arguments: argparse.Namespace) -> int:
    is_gc = arguments.action == "gc"
    if arguments.dry_run and not is_gc:
        raise Refusal("usage", "stats changes nothing: --dry-run goes with gc", "dittofs cache gc --dry-run")
    asked = client()
    volume = which_volume(
        arguments.volume, asked.status().volumes, f"dittofs cache {arguments.action} VOLUME"
    )
    request = CacheRequest(volume, arguments.detailed, is_gc, arguments.dry_run)
    report = asked.cache(request)
    if arguments.json:
        say_json(report)
        return EXIT_FINE
    now = time.time_ns()
    lines = gc_lines(report, now, is_dry=arguments.dry_run) if is_gc else stats_lines(report, now)
    for line in lines:
        say(line)
    return EXIT_FINE


def stats_lines(report: CacheReport, now_ns: int) -> Iterator[str]:
    """What is stored, for people."""
    packs = counted(report.pack_count, "pack")
    yield f"{escaped(report.volume)}   {human_size(report.pack_bytes)} in {packs}"
    yield _line("files", report.live, "named by what the volume shows now")
    yield _line("past", report.past, "named by its history and snapshots alone")
    unsure = f"; {counted(report.unknown, 'content')} not known here may name some" if report.unknown else ""
    yield _line("garbage", report.garbage, f"named by nothing{unsure}")
    yield f"  {'room':<9} {human_size(report.dead_bytes):>9}   in packs, of chunks that were swept"
    yield f"  {'index':<9} {human_size(report.index_bytes):>9}"
    if report.packs:
        yield from _details(report)
    yield from _state(report, now_ns)


def _details(report: CacheReport) -> Iterator[str]:
    if report.here_bytes > 0 and report.live.bytes:
        share = report.live.bytes / report.here_bytes
        yield (
            f"  {human_size(report.here_bytes)} of files are here in {human_size(report.live.bytes)}: "
            f"{share:.2f} bytes stored for each"
        )
    if report.sampled_plain_bytes:
        ratio = report.sampled_sealed_bytes / report.sampled_plain_bytes
        yield f"  sealed and compressed to {ratio:.2f} of their size, in {report.sampled_chunks} chunks"
    for pack in report.packs:
        share = 100 * pack.live_bytes // max(1, pack.bytes)
        yield (
            f"  {pack.name}   {human_size(pack.bytes):>9}   {share:>3} % used by "
            f"{counted(pack.live_chunks, 'chunk')}"
        )


def gc_lines(report: CacheReport, now_ns: int, *, is_dry: bool) -> Iterator[str]:
    """What a collection did or would do."""
    if report.is_swept_now and report.swept is not None:
        gone = report.swept.gone
        yield (
            f"Swept {counted(gone.chunks, 'chunk')}, {human_size(gone.bytes)}; "
            f"{human_size(report.swept.room_bytes)} given back to the disk."
        )
    if report.freed_bytes:
        yield f"The cache was above its limit: {human_size(report.freed_bytes)} given back to the disk."
    if report.over_bytes:
        yield f"{human_size(report.over_bytes)} above the limit stay: pinned, in use, or on too few devices."
    if is_dry and not report.is_swept_now and report.garbage.chunks:
        yield f"Nothing names {counted(report.garbage.chunks, 'chunk')}, {human_size(report.garbage.bytes)}."
        if report.unknown:
            yield f"{counted(report.unknown, 'content')} not known here may name some of it."
    yield from _state(report, now_ns)


def _state(report: CacheReport, now_ns: int) -> Iterator[str]:
    """What it waits for; last, what to do."""
    for reason in report.owed:
        yield f"  another device waits for this one: {escaped(reason)}"
    if report.problem:
        yield f"Nothing is swept now: {escaped(report.problem)}."
    found = report.round
    if found is None:
        if report.garbage.chunks and not report.problem:
            yield "To begin giving it back:  dittofs cache gc"
        elif not report.garbage.chunks:
            yield "No garbage."
        return
    yield from _waiting(found, now_ns)


def _waiting(found: GarbageRound, now_ns: int) -> Iterator[str]:
    yield (
        f"A round is open since {when(found.begun_ns, now_ns)}: "
        f"{counted(found.found.chunks, 'chunk')}, {human_size(found.found.bytes)}, may go"
    )
    left_s = (found.grace_ends_ns - now_ns) / SECOND_NS
    if left_s > 0:
        yield f"  when they have been garbage for long enough: {duration(left_s)} left"
    for one in found.awaited:
        yield f"  when {escaped(one.name)} has answered: {_standing(one, now_ns)}"
    absent = [one for one in found.awaited if not one.is_online]
    if absent:
        yield f"If it never comes back:  dittofs devices retire {escaped(absent[0].name)}"
    else:
        yield "It goes on by itself. How far it is:  dittofs cache stats"


def _standing(one: Awaited, now_ns: int) -> str:
    if one.is_online:
        return "it is connected, and has not yet"
    if one.last_seen_ns:
        return f"last seen {when(one.last_seen_ns, now_ns)}"
    return f"not seen since the round began {when(one.since_ns, now_ns)}"


def _line(label: str, amount: Amount, says: str) -> str:
    return f"  {label:<9} {human_size(amount.bytes):>9}   {counted(amount.chunks, 'chunk')}, {says}"
