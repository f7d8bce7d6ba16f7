"""`dittofs devices`"""

import argparse
import shlex
import time
from typing import Final

from dittofs.cli.asking import client, which_volume
from dittofs.cli.guess import did_you_mean
from dittofs.cli.limit import bounds
from dittofs.cli.output import counted, duration, escaped, human_size, say, say_json, when
from dittofs.cli.people import by_what
from dittofs.cli.revoke import say_removed
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.protocol import DeviceStatus, MemberStatus, VolumeStatus
from dittofs.control.sharing import RemoveRequest, RenameRequest
from dittofs.control.storage import RetireRequest

DESCRIPTION = """\
Show the devices that share a volume, remove one, or call it otherwise. A removed device is refused by every
other that has heard of it, and cannot read what is stored from then on; what it has already it keeps. A new
name is shown on all devices, also for what the device wrote before; owners give it, or the device itself. A
retired one stays a member, but nobody waits for it before garbage is swept; when it comes back it is asked
to rejoin."""
EXAMPLE = """\
  dittofs devices
  dittofs devices remove phone
  dittofs devices remove phone Photos      of one volume among several
  dittofs devices rename phone "Ada's phone"
  dittofs devices retire tablet            it may never come back
  dittofs devices rejoin                   on the tablet, if it does"""

ACTIONS: Final = ("remove", "rename", "retire", "rejoin")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        metavar="[remove|retire NAME | rename NAME NEW | rejoin] [VOLUME]",
        nargs="*",
        help="as in the examples",
    )
    parser.add_argument(
        "--force", action="store_true", help="remove or retire it, whatever it alone may hold"
    )
    parser.add_argument(
        "-v", action="store_true", dest="verbose", help="ids, bytes sent and received, and rates"
    )


def run(arguments: argparse.Namespace) -> int:
    words: list[str] = arguments.words
    if words[:1] == ["remove"]:
        if not 2 <= len(words) <= 3:
            text = "devices remove takes the name of a device, and perhaps a volume"
            raise Refusal("usage", text, "dittofs devices -v")
        word = words[2] if len(words) == 3 else None
        return _remove(words[1], word, is_forced=arguments.force, as_json=arguments.json)
    if words[:1] == ["rename"]:
        if not 3 <= len(words) <= 4:
            text = "devices rename takes the name of a device, another one for it, and perhaps a volume"
            raise Refusal("usage", text, "dittofs devices -v")
        return _rename(words[1], words[2], words[3] if len(words) == 4 else None, as_json=arguments.json)
    if words[:1] in (["retire"], ["rejoin"]):
        return _retire(words, is_forced=arguments.force, as_json=arguments.json)
    if len(words) > 1:
        text = f"devices takes at most one volume{did_you_mean(words[0], ACTIONS)}"
        raise Refusal("usage", text, "To remove one:  dittofs devices remove NAME")
    report = client().status()
    volumes = report.volumes
    if words or not volumes:
        name = which_volume(words[0] if words else None, volumes, "dittofs devices VOLUME", instead=ACTIONS)
        volumes = tuple(volume for volume in volumes if volume.name == name)
    if arguments.json:
        say_json([{"volume": volume.name, "devices": volume.members} for volume in volumes])
        return EXIT_FINE
    for volume in volumes:
        say(f"{escaped(volume.name)}   copies {volume.copies or '?'}")
        for line in lines(volume, time.time_ns(), verbose=arguments.verbose):
            say(line)
    if arguments.verbose and (limited := bounds(report.limit_up, report.limit_down)):
        say(f"All together {limited}.   dittofs limit")
    if all(len(volume.members) < 2 for volume in volumes):
        say("No other device yet. To add one:  dittofs share")
    return EXIT_FINE


def lines(volume: VolumeStatus, now_ns: int, *, verbose: bool) -> list[str]:
    """The devices of a volume for people, this one first."""
    found = []
    for member in volume.members:
        line = f"  {escaped(member.name):<16} {member.role:<7} {standing(member, now_ns)}"
        if member.user:
            line += f"   of {escaped(member.user)}"
        if member.is_retired:
            line += "   retired" + (
                "; to be one of them again:  dittofs devices rejoin" if member.is_this else ""
            )
        if verbose:
            if member.role_by in ("group", "default"):
                line += f"   {by_what(member.role, member.role_by, member.role_group)}"
            line += f"   {member.id}"
            if member.is_online and not member.is_this:
                sent, got = (
                    _moved(member.bytes_sent, member.rate_sent),
                    _moved(member.bytes_received, member.rate_received),
                )
                line += f"   sent {sent}, got {got}"
            if limited := bounds(member.limit_up, member.limit_down):
                line += f"   {limited}"
        found.append(line.rstrip())
    return found


def _moved(count: int, rate: float) -> str:
    """So much, and how fast it went while it went fast enough to say so."""
    return human_size(count) + (f" at {human_size(round(rate))}/s" if rate else "")


def standing(member: MemberStatus, now_ns: int) -> str:
    """Whether it is there, how, and whether it has everything."""
    if member.is_this:
        return "this device"
    if not member.is_online:
        seen = f"   last seen {when(member.last_seen_ns, now_ns)}" if member.last_seen_ns else ""
        return f"offline{seen}"
    return connection(member)


def connection(device: MemberStatus | DeviceStatus) -> str:
    """How a device that is online is connected, and whether it has everything."""
    trip_s = device.round_trip_s
    trip = f"   {max(1, round(trip_s * 1000))} ms" if 0 < trip_s < 1 else ""
    state = "up to date" if device.is_up_to_date else "catching up"
    return f"online   {escaped(device.path)}{trip or (f'   {duration(trip_s)}' if trip_s else '')}   {state}"


def _retire(words: list[str], *, is_forced: bool, as_json: bool) -> int:
    is_rejoin = words[0] == "rejoin"
    names = words[1:] if is_rejoin else words[2:]
    if len(names) > 1 or (not is_rejoin and len(words) < 2):
        text = "retire takes the name of a device, rejoin none; after that a volume may be named"
        raise Refusal("usage", text, "dittofs devices -v")
    asked = client()
    command = f"dittofs devices {shlex.join(words[:1] if is_rejoin else words[:2])} VOLUME"
    volume = which_volume(names[0] if names else None, asked.status().volumes, command)
    if is_rejoin:
        result = asked.retire(RetireRequest(volume, "rejoin"))
    else:
        result = asked.retire(RetireRequest(volume, "retire", words[1], is_forced))
    if as_json:
        say_json(result)
    elif is_rejoin:
        says = "is a device of" if result.is_changed else "was never retired from"
        say(f'{escaped(result.device)} {says} "{escaped(volume)}".')
        say("Who is there:  dittofs devices")
    else:
        seen = f", last seen {when(result.last_seen_ns, time.time_ns())}" if result.last_seen_ns else ""
        was = "Retired" if result.is_changed else "Already retired:"
        say(f"{was} {escaped(result.device)}{seen}.")
        say(f'It stays a member of "{escaped(volume)}"; nobody waits for it.')
        if result.only_there:
            count = f"{counted(result.only_there, 'file')}, {human_size(result.only_there_bytes)},"
            say(f"{count} may be there alone. They come back if it does.")
        say("What becomes of garbage:  dittofs cache stats")
    return EXIT_FINE


def _rename(device: str, name: str, word: str | None, *, as_json: bool) -> int:
    asked = client()
    command = f"dittofs devices rename {shlex.quote(device)} {shlex.quote(name)} VOLUME"
    volume = which_volume(word, asked.status().volumes, command)
    result = asked.rename(RenameRequest(volume, device, name))
    if as_json:
        say_json(result)
        return EXIT_FINE
    now = escaped(result.device)
    if result.was == result.device:
        say(f'{now} was called that in "{escaped(volume)}" already.')
        return EXIT_FINE
    say(f'{escaped(result.was)} is called {now} in "{escaped(volume)}" from now on.')
    say("Who is there:  dittofs devices")
    return EXIT_FINE


def _remove(device: str, word: str | None, *, is_forced: bool, as_json: bool) -> int:
    asked = client()
    command = f"dittofs devices remove {shlex.quote(device)} VOLUME"
    volume = which_volume(word, asked.status().volumes, command)
    result = asked.remove(RemoveRequest(volume, device, is_forced))
    if as_json:
        say_json(result)
        return EXIT_FINE
    say_removed(result.device, volume, result.invited)
    return EXIT_FINE
