"""`dittofs status`"""

import argparse

from dittofs.cli.asking import client, shown_directory
from dittofs.cli.output import counted, duration, escaped, human_size, say, say_json
from dittofs.control.faults import EXIT_ATTENTION, EXIT_CONFLICTS, EXIT_FINE
from dittofs.control.paths import path_bytes
from dittofs.control.protocol import Finding, StatusReport, VolumeStatus

DESCRIPTION = "Show every volume of this device: where it is mounted, what it holds, and whether it is well."
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
    """5 if a volume is damaged, read-only or failed, 4 if one has conflicts, else 0."""
    if any(volume.damage or volume.read_only or volume.state == "failed" for volume in report.volumes):
        return EXIT_ATTENTION
    return EXIT_CONFLICTS if any(volume.conflicts for volume in report.volumes) else EXIT_FINE


def lines(report: StatusReport, *, verbose: bool) -> list[str]:
    """The report for people."""
    found: list[str] = []
    for volume in report.volumes:
        found += _volume_lines(volume, is_alone=len(report.devices) == 1, verbose=verbose)
    if not report.volumes:
        found.append("No volume on this device yet. Make one:  dittofs mount ~/Shared")
    if report.devices:
        found.append("Devices")
    for device in report.devices:
        state = "this device" if device.is_this else "online" if device.is_online else "offline"
        found.append(f"  {escaped(device.name)}   {state}" + (f"   {device.id}" if verbose else ""))
    if verbose:
        found.append(
            f"Daemon {report.version}   process {report.pid}   up {duration(report.uptime_s)}   "
            f"{human_size(report.memory_bytes)} of memory"
        )
    return found


def _volume_lines(volume: VolumeStatus, *, is_alone: bool, verbose: bool) -> list[str]:
    where = f"   {shown_directory(path_bytes(volume))}" if volume.path else ""
    head = f"{escaped(volume.name)}{where}   {volume.state}"
    if volume.state == "failed":
        return [head, f"  FAILED      {volume.failure}    dittofs doctor"]
    sizes = human_size(volume.bytes)
    if volume.bytes_here is None:
        sizes += " (counting what is here)"
    elif volume.bytes_here != volume.bytes:
        sizes += f" ({human_size(volume.bytes_here)} here)"
    found = [f"{head}   {counted(volume.files, 'file')}, {sizes}"]
    if volume.read_only:
        found.append(f"  READ-ONLY   {volume.read_only}    dittofs check")
    found += _finding_lines("DAMAGE", [one for one in volume.damage if one.severity == "damage"])
    found += _finding_lines("NOTICE", [one for one in volume.damage if one.severity == "warning"])
    if volume.conflicts:
        found.append(f"  CONFLICTS   {counted(volume.conflicts, 'conflict')}")
    if volume.pending.files:
        found.append(
            f"  SAVING      {counted(volume.pending.files, 'file')}, {human_size(volume.pending.bytes)} "
            "not yet safe from a power cut"
        )
    if is_alone and volume.files:
        found.append(f"  ONLY HERE   {counted(volume.files, 'file')}: no other device has this volume yet")
    if verbose:
        found.append(f"  id          {volume.id}")
        found.append(f"  on disk     {human_size(volume.stored_bytes)}")
        found.append(f"  names in    {counted(volume.directories, 'directory', 'directories')}")
        if volume.options:
            found.append(f"  options     {escaped(','.join(volume.options))}")
    return found


def _finding_lines(label: str, findings: list[Finding]) -> list[str]:
    if not findings:
        return []
    found = [f"  {label:<9}   {counted(len(findings), 'finding')}    {findings[0].mend or 'dittofs check'}"]
    for one in findings[:_FINDINGS_SHOWN]:
        place = f"{escaped(path_bytes(one))}: " if one.path else ""
        found.append(f"              {place}{escaped(one.detail)}")
    return found
