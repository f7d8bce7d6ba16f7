"""`dittofs status`"""

import argparse
import shlex
import time

from dittofs.cli.asking import client, shown_directory
from dittofs.cli.devices import connection
from dittofs.cli.held import held_line
from dittofs.cli.limit import bounds
from dittofs.cli.output import counted, duration, escaped, human_size, listed, say, say_json, when
from dittofs.control.faults import EXIT_ATTENTION, EXIT_CONFLICTS, EXIT_FINE, EXIT_UNSENT
from dittofs.control.paths import path_bytes
from dittofs.control.protocol import DeviceStatus, Finding, StatusReport, VolumeStatus

DESCRIPTION = """\
Show every volume of this device: where it is mounted, what it holds, on how many devices that is as they
have confirmed it, and whether all is well; and the other devices."""
EXAMPLE = """\
  dittofs status
  dittofs status --json | jq '.volumes[] | {name, state, conflicts}'"""

_FINDINGS_SHOWN = 5


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", action="store_true", dest="verbose", help="ids, options, and the daemon itself")


def run(arguments: argparse.Namespace) -> int:
    report = client().status()
    if arguments.json:
        say_json(report)
    else:
        for line in lines(report, verbose=arguments.verbose):
            say(line)
    return exit_code(report)


def exit_code(report: StatusReport) -> int:
    """5 if a volume is damaged, read-only, failed, not this device's any more, or the brake holds something.

    Otherwise 3 if something is only here that should be sent, 4 if a volume has conflicts, else 0.
    """
    if any(
        volume.damage
        or is_lost(volume)
        or volume.read_only
        or volume.held
        or volume.state == "failed"
        or is_outside(volume)
        for volume in report.volumes
    ):
        return EXIT_ATTENTION
    if any(is_unsent(volume) for volume in report.volumes):
        return EXIT_UNSENT
    return EXIT_CONFLICTS if any(volume.conflicts for volume in report.volumes) else EXIT_FINE


def is_outside(volume: VolumeStatus) -> bool:
    """Whether this device was removed, or has another identity than the one that was a member."""
    return any(member.is_this and member.role == "none" for member in volume.members)


def is_lost(volume: VolumeStatus) -> bool:
    """Whether content is missing that no other device can have."""
    return volume.custody.missing > 0 and all(one.is_this or one.is_retired for one in volume.members)


def is_unsent(volume: VolumeStatus) -> bool:
    """Whether something is on this device alone although there are others that should have it."""
    has_others = any(not member.is_this and not member.is_retired for member in volume.members)
    custody = volume.custody
    is_only_here = custody.only_here > custody.on_demand or custody.past > 0
    return has_others and (is_only_here or volume.has_untaken)


def lines(report: StatusReport, *, verbose: bool) -> list[str]:
    """The report for people."""
    found: list[str] = []
    for volume in report.volumes:
        found += _volume_lines(volume, verbose=verbose)
    if not report.volumes:
        found.append("No volume on this device yet. Make one:  dittofs mount ~/Shared")
    if report.devices:
        found.append("Devices")
    for volume in report.volumes:
        if any(member.is_this and member.is_retired for member in volume.members):
            found.append(f"  RETIRED     from {escaped(volume.name)} while away    dittofs devices rejoin")
    for device in report.devices:
        line = _device_line(device)
        if not device.is_this and (whence := _retired_from(report, device)):
            line += f"   retired from {listed(whence)}: its copies do not count"
        found.append(f"  {line}" + (f"   {device.id}" if verbose else ""))
    found += _limit_lines(report)
    if report.network is not None and report.network.problem:
        found.append(f"  NO NETWORK  {escaped(report.network.problem)}    dittofs doctor")
    if verbose and report.network is not None and report.network.bluetooth is not None:
        used = report.network.bluetooth
        state = escaped(used.problem) or f"{used.controller}   {used.address}"
        found.append(f"Bluetooth   {state}")
    if verbose:
        found.append(
            f"Daemon {report.version}   process {report.pid}   up {duration(report.uptime_s)}   "
            f"{human_size(report.memory_bytes)} of memory"
        )
    return found


def _limit_lines(report: StatusReport) -> list[str]:
    """What is sent and received no faster than its user wants, now."""
    found = []
    if limited := bounds(report.limit_up, report.limit_down):
        found.append(f"  LIMIT       {limited}    dittofs limit")
    others = {
        member.id: member
        for volume in report.volumes
        for member in volume.members
        if member.is_online and (member.limit_up or member.limit_down)
    }
    for member in others.values():
        limited = bounds(member.limit_up, member.limit_down)
        found.append(f"  LIMIT       {escaped(member.name)}: {limited}    dittofs limit")
    found += [f"  LIMIT       {escaped(problem)}    dittofs limit" for problem in report.limit_problems]
    return found


def _retired_from(report: StatusReport, device: DeviceStatus) -> list[str]:
    return [
        escaped(volume.name)
        for volume in report.volumes
        if any(member.id == device.id and member.is_retired for member in volume.members)
    ]


def _device_line(device: DeviceStatus) -> str:
    name = escaped(device.name)
    if device.is_this:
        return f"{name}   this device"
    if not device.is_online:
        seen = f"   last seen {when(device.last_seen_ns, time.time_ns())}" if device.last_seen_ns else ""
        return f"{name}   offline{seen}"
    return f"{name}   {connection(device)}"


def _custody_lines(volume: VolumeStatus) -> list[str]:
    """On how many devices the files are, as those have confirmed."""
    custody = volume.custody
    if not any(not member.is_this for member in volume.members):
        here = volume.files - custody.missing
        alone = f"  ONLY HERE   {counted(here, 'file')}: no other device is a member of this volume"
        return [*([alone] if here else []), *_missing_lines(volume)]
    is_left = all(member.is_this or member.is_retired for member in volume.members)
    found = []
    if custody.is_counting:
        found.append("  COUNTING    not everything was looked at yet: there may be more of what follows")
    if custody.safe and not (custody.is_counting or volume.has_untaken):
        found.append(f"  SAFE        {counted(custody.safe, 'file')} on 2 or more devices")
    on_demand, on_demand_bytes = (0, 0) if is_left else (custody.on_demand, custody.on_demand_bytes)
    if too_few := custody.only_here - on_demand:
        what = f"{counted(too_few, 'file')}, {human_size(custody.only_here_bytes - on_demand_bytes)}"
        found.append(
            f"  ONLY HERE   {what}{': all other devices are retired' if is_left else _sending(volume)}"
        )
    if custody.past:
        what = f"{counted(custody.past, 'content')}, {human_size(custody.past_bytes)}, kept by snapshots"
        found.append(f"  ONLY HERE   {what}{'' if is_left else _sending(volume)}")
    if on_demand:
        what = f"{counted(on_demand, 'file')}, {human_size(on_demand_bytes)}"
        found.append(f"  ONLY HERE   {what}, as copies = on-demand has it    dittofs copies")
    if custody.only_elsewhere:
        what = f"{counted(custody.only_elsewhere, 'file')}, {human_size(custody.only_elsewhere_bytes)}"
        found.append(f"  ONE COPY    {what} on one other device, and not here")
    found += _missing_lines(volume)
    if custody.to_fetch_bytes:
        found.append(f"  FETCHING    {human_size(custody.to_fetch_bytes)} to be kept here too")
    return found


def _missing_lines(volume: VolumeStatus) -> list[str]:
    custody = volume.custody
    if not custody.missing:
        return []
    what = f"{counted(custody.missing, 'file')}, {human_size(custody.missing_bytes)}"
    if is_lost(volume):
        return [f"  MISSING     {what} not on this device, and no other has them    dittofs check"]
    return [f"  MISSING     {what} on no device that has said so    dittofs list --missing"]


def _sending(volume: VolumeStatus) -> str:
    custody = volume.custody
    if is_outside(volume):
        return ": cannot be sent: this device has no role"
    if not custody.sending_to:
        return ": no connected device has room" if volume.disk_low else ": no other device is connected"
    left = f", {duration(custody.time_left_s)} left" if custody.time_left_s >= 0 else ""
    return f" -> sending to {listed(custody.sending_to)}{left}"


def _volume_lines(volume: VolumeStatus, *, verbose: bool) -> list[str]:
    where = f"   {shown_directory(path_bytes(volume))}" if volume.path else ""
    head = f"{escaped(volume.name)}{where}   {volume.state}"
    failed = []
    if volume.state == "failed":
        if not volume.members:
            return [head, f"  FAILED      {escaped(volume.failure)}    dittofs doctor"]
        mount = f"dittofs mount {shown_directory(path_bytes(volume))}"  # it is open, and not mounted
        failed = [f"  FAILED      {escaped(volume.failure)}    {mount}"]
    sizes = human_size(volume.bytes)
    if volume.bytes_here is None:
        sizes += " (counting what is here)"
    elif (here := human_size(volume.bytes_here)) != sizes:
        sizes += f" ({here} here)"
    found = [f"{head}   {counted(volume.files, 'file')}, {sizes}", *failed]
    if is_outside(volume):
        word, mend = why_outside(volume)
        found.append(f"  {word:<9}   this device keeps what it has: {mend}")
    elif volume.role == "reader":
        found.append("  READER      this device may read the volume, and not change it")
    if volume.has_untaken:
        this = shlex.quote(next((one.name for one in volume.members if one.is_this), "DEVICE"))
        found.append(
            "  UNTAKEN     what this device wrote before it could only read is on it alone"
            f"    on an owner: dittofs grant {this} writer"
        )
    if volume.read_only:
        found.append(f"  READ-ONLY   {volume.read_only}    dittofs check")
    found += _finding_lines("DAMAGE", [one for one in volume.damage if one.severity == "damage"])
    found += _finding_lines("NOTICE", [one for one in volume.damage if one.severity == "warning"])
    for batch in volume.held:
        found.append(f"  BRAKE       {held_line(batch)}; shown here as before    dittofs brake")
    if volume.conflicts:
        found.append(f"  CONFLICTS   {counted(volume.conflicts, 'conflict')}    dittofs conflicts")
    if volume.pending.files:
        found.append(
            f"  SAVING      {counted(volume.pending.files, 'file')}, {human_size(volume.pending.bytes)} "
            "not yet safe from a power cut"
        )
    found += _custody_lines(volume)
    found += _placement_lines(volume)
    if volume.history_bytes:
        found.append(f"  HISTORY     {human_size(volume.history_bytes)} on disk for what was    dittofs log")
    if volume.has_owner_key:
        found.append("  RECOVERY    words not written down yet    dittofs recovery")
    if verbose:
        found.append(f"  id          {volume.id}")
        found.append(f"  role        {volume.role}, copies {volume.copies}")
        found.append(f"  on disk     {human_size(volume.stored_bytes)}")
        found.append(f"  names in    {counted(volume.directories, 'directory', 'directories')}")
        if volume.untold:
            found.append(f"  watchers    did not hear of {counted(volume.untold, 'change')} elsewhere")
        if volume.options:
            found.append(f"  options     {escaped(','.join(volume.options))}")
    return found


def _placement_lines(volume: VolumeStatus) -> list[str]:
    """What is kept here by its user's word, and what is too much."""
    found = []
    if volume.pins:
        left = f"; {human_size(volume.pins_missing_bytes)} still to be fetched" if volume.pins_missing else ""
        why = f": {volume.pins_problem}" if volume.pins_problem else ""
        found.append(f"  PINNED      {counted(volume.pins, 'name')} kept here{left}{why}    dittofs list")
    if volume.copies_rules:
        paths = counted(volume.copies_rules, "path")
        found.append(f"  COPIES      {volume.copies}, and another number for {paths}    dittofs copies")
    if volume.disk_low:
        found.append(f"  DISK LOW    {listed(volume.disk_low)}: nearly full, and nothing more is sent there")
    if volume.cache_over_bytes:
        over = human_size(volume.cache_over_bytes)
        found.append(
            f"  CACHE       {over} above the limit: pinned, in use, or on too few other devices"
            "    dittofs copies"
        )
    return found


def _finding_lines(label: str, findings: list[Finding]) -> list[str]:
    if not findings:
        return []
    found = [f"  {label:<9}   {counted(len(findings), 'finding')}    {findings[0].mend or 'dittofs check'}"]
    for one in findings[:_FINDINGS_SHOWN]:
        place = f"{escaped(path_bytes(one))}: " if one.path else ""
        found.append(f"              {place}{escaped(one.detail)}")
    return found


def why_outside(volume: VolumeStatus) -> tuple[str, str]:
    """What a device is that may do nothing with a volume, and how that is ended."""
    this = next((one for one in volume.members if one.is_this), None)
    if this is not None and this.role_by in ("user", "group", "default"):  # it was let in all the same
        whom = shlex.quote(this.user or "default")
        again = "or  dittofs share  and here  dittofs join"
        return "NO ROLE", f"an owner runs  dittofs grant {whom} writer, {again}"
    return "NO MEMBER", "an owner runs  dittofs share, it runs  dittofs join"
