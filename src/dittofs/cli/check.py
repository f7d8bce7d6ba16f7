"""`dittofs check`"""

import argparse

from dittofs.cli.asking import client, locate
from dittofs.cli.output import Progress, counted, escaped, human_size, say, say_json
from dittofs.control.faults import EXIT_ATTENTION, EXIT_FINE, Refusal
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.protocol import CheckDone, CheckProgress, CheckRequest, Finding

DESCRIPTION = """\
Read what a volume has stored and verify every hash: journal, index, packs and the content of each file. It
may run while the volume is in use. Without PATH every volume of this device is checked whole. Without
--repair it changes nothing; with it, what is damaged is fetched from other devices and indexes are made
anew. What no device has is said, file by file. --repair also works on a volume that cannot be opened:
its journal is made anew of all that can be read in it, and the damaged one is kept."""
EXAMPLE = """\
  dittofs check
  dittofs check ~/Shared/photos
  dittofs check --repair
  dittofs check Shared: --json     one JSON object a line"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", nargs="?", help="a path below a mount, or VOLUME:PATH")
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volumes = asked.status().volumes
    if arguments.path is None and len(volumes) > 1:
        requests = [CheckRequest(volume=volume.name, repair=arguments.repair) for volume in volumes]
    else:
        place = locate(arguments.path, volumes)
        path = place.path if arguments.path is not None else b""
        requests = [CheckRequest(volume=place.volume, repair=arguments.repair, **path_fields(path))]
    codes = [_check(request, as_json=arguments.json) for request in requests]
    return max(codes)


def _check(request: CheckRequest, *, as_json: bool) -> int:
    ended: CheckDone | None = None
    findings = 0
    with Progress(f"Checking {escaped(request.volume)}") as progress:
        for item in client().check(request):
            if as_json:
                say_json(item)
            match item:
                case CheckProgress():
                    progress.update(item.bytes_done, item.bytes_total, item.step)
                case Finding():
                    findings += item.severity == "damage"  # to be on other devices only is nothing wrong
                    if not as_json:
                        say(finding_line(item))
                case CheckDone():
                    ended = item
    if ended is None:
        raise Refusal(
            "failed", f'the check of "{request.volume}" ended before its end: it proves nothing', "Try again."
        )
    if not as_json:
        read = f"{counted(ended.files, 'file')}, {counted(ended.chunks, 'chunk')}, {human_size(ended.bytes)}"
        verdict = f"{counted(findings, 'finding')}" if findings else "everything is as it was written"
        if ended.mended:
            verdict = f"{counted(findings, 'finding')}, {ended.mended} mended"
        if not findings and not ended.chunks:
            verdict = "nothing of a content is on this device, so there was nothing to verify"
        say(f"{escaped(request.volume)}: {read} read; {verdict}.")
    return EXIT_ATTENTION if findings > ended.mended else EXIT_FINE


def finding_line(finding: Finding) -> str:
    """A finding for people."""
    place = f" {escaped(path_bytes(finding))}" if finding.path else ""
    mend = f"   ({escaped(finding.mend)})" if finding.mend else ""
    return f"{finding.severity.upper():<8} {escaped(finding.what)}{place}: {escaped(finding.detail)}{mend}"
