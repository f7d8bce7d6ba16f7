"""`dittofs snapshot`"""

import argparse
import shlex
import time

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import counted, escaped, human_size, say, say_json, when
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.history import SnapshotsRequest, SnapshotStatus

DESCRIPTION = """\
Keep what a volume shows now under a name, for all devices, until it is deleted. A snapshot costs what
has changed since the one before: bytes are not copied. Look at it in .dittofs/at/NAME, or write it out
with `dittofs checkout`."""
EXAMPLE = """\
  dittofs snapshot create before-the-move
  dittofs snapshot list
  ls ~/Shared/.dittofs/at/before-the-move
  dittofs snapshot delete before-the-move"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("create", "list", "delete"), nargs="?", default="list")
    parser.add_argument("name", metavar="NAME", nargs="?", help="small letters, digits, dots, - and _")
    parser.add_argument("--volume", metavar="V", help="needed only if there are several")


def run(arguments: argparse.Namespace) -> int:
    if (arguments.name is None) != (arguments.action == "list"):
        text = f"snapshot {arguments.action} takes {'no' if arguments.name else 'a'} name"
        mends = {"create": "dittofs snapshot create before-the-move", "list": "dittofs snapshot list"}
        mend = mends.get(arguments.action, "Which there are:  dittofs snapshot list")
        raise Refusal("usage", text, mend)
    asked = client()
    volumes = asked.status().volumes
    volume = which_volume(arguments.volume, volumes, "--volume VOLUME")
    result = asked.snapshots(SnapshotsRequest(volume, arguments.action, arguments.name or ""))
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    if result.done is not None:
        what = _what(result.done)
        if arguments.action == "create":
            say(f"Created snapshot {escaped(result.done.name)} of {escaped(volume)}: {what}.")
            name = escaped(result.done.name)
            say(f"Write it out:  dittofs checkout {name} DIR --volume {shlex.quote(volume)}")
        else:
            say(f"Deleted snapshot {escaped(result.done.name)} of {escaped(volume)} on all devices ({what}).")
            say("What nothing else names is gone with the next collection:  dittofs cache gc")
        return EXIT_FINE
    now_ns = time.time_ns()
    for one in result.snapshots:
        say(f"{when(one.at_ns, now_ns):>12}   {escaped(one.device):<12}   {escaped(one.name)}   {_what(one)}")
    for bad in result.unreadable:
        say(f"UNREADABLE     {escaped(bad.name)}   {escaped(bad.reason)}")
    say(f"{counted(len(result.snapshots), 'snapshot')} of {escaped(volume)}")
    return EXIT_FINE


def _what(one: SnapshotStatus) -> str:
    return f"{counted(one.files, 'file')}, {human_size(one.bytes)}"
