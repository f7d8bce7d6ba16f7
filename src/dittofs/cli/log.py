"""`dittofs log`"""

import argparse
import shlex
import time

from dittofs.cli.asking import Place, client, locate
from dittofs.cli.held import name_of
from dittofs.cli.output import counted, escaped, human_size, say, say_json, when
from dittofs.control.faults import EXIT_FINE
from dittofs.control.history import LogEvent, LogRequest
from dittofs.control.paths import path_bytes, path_fields

DESCRIPTION = """\
What happened to a file, or in a directory and below it, the latest first: who did it, when, and the
versions that can be had again. PATH may be of something that was removed. Devices are labels that they
gave themselves. Every close of a file that was written is a version; its time (UTC) or its id names it."""
EXAMPLE = """\
  dittofs log ~/Shared/letter.odt
  dittofs log Shared:photos --device phone
  dittofs log --limit 0 --json | jq -r .path       all of it, one JSON object a line"""

_WORDS = {
    "created": "created",
    "back": "back",
    "written": "written",
    "removed": "removed",
    "linked": "linked",
    "unlinked": "unlinked",
    "mode": "mode changed",
    "owner": "owner changed",
    "times": "time changed",
    "xattr": "attribute changed",
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", nargs="?", help="a path below a mount, or VOLUME:PATH")
    parser.add_argument("--device", metavar="D", default="", help="only what this device did")
    parser.add_argument("--limit", metavar="N", type=limit_of, default=50, help="so many at most; 0: all")


def limit_of(text: str) -> int:
    """What `--limit` says."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 (0: all)")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    place = locate(arguments.path, asked.status().volumes)
    request = LogRequest(
        volume=place.volume,
        **path_fields(place.path),
        device=arguments.device,
        limit=arguments.limit,
    )
    now_ns, shown, newest = time.time_ns(), 0, ""
    for event in asked.log(request):
        shown += 1
        if not newest and event.version and event.kind == "file" and not event.is_shown:
            newest = f"{Place(place.volume, path_bytes(event))}@{event.version}"
        if arguments.json:
            say_json(event)
        else:
            say(event_line(event, now_ns))
    if arguments.json:
        return EXIT_FINE
    if not shown:
        say(f"Nothing is known to have happened in {escaped(str(place))}")
    elif shown == arguments.limit:
        say(f"{counted(shown, 'event')}; more with  --limit {arguments.limit * 10}")
    if newest:
        say(f"Have one back:  dittofs restore {escaped(shlex.quote(newest))}")
    return EXIT_FINE


def event_line(event: LogEvent, now_ns: int) -> str:
    """One event for people."""
    what = _WORDS.get(event.what, "moved here from " + escaped(event.was_raw or event.was or "another place"))
    notes = []
    if event.what in ("created", "back", "written", "removed") and event.kind == "file":
        notes.append(human_size(event.size))
        if event.missing_bytes:
            notes.append(f"{human_size(event.missing_bytes)} not here")
    if event.is_shown:
        notes.append("shown now")
    detail = f" ({', '.join(notes)})" if notes else ""
    named = f"{event.version}  {event.id}" if event.version else ""
    sign = "/" if event.kind == "directory" else ""
    return (
        f"{when(event.made_ns, now_ns):>12}  {escaped(name_of(event.device, event.known_as)):<12}  "
        f"{named:<30}  {escaped(path_bytes(event))}{sign}  {what}{detail}"
    ).rstrip()
