"""`dittofs daemon`"""

import argparse
import os
import select
import sys
from collections.abc import Sequence

from dittofs.address import Address
from dittofs.cli.asking import shown_directory
from dittofs.cli.output import counted, escaped, human_size, say, say_json, warn
from dittofs.cli.starting import daemon_command
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.paths import path_bytes
from dittofs.control.protocol import StatusReport, StopResult, VolumeStatus
from dittofs.errors import FormatError
from dittofs.local_disk import require_writable

DESCRIPTION = """\
Run the daemon in the foreground until SIGTERM or Ctrl-C; then it unmounts, makes everything durable
and ends. `dittofs mount` starts one by itself: this is for service managers and for watching it.
Its log is daemon.log in the state directory."""
EXAMPLE = """\
  dittofs daemon
  dittofs daemon --bind 192.168.1.7 --port 7347 --peer nas.local:7347
  dittofs daemon --stop     end the one that runs, and wait until it has; fine if none does"""

STOP_S = 120.0


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bind", metavar="ADDRESS", help="listen on this address of this machine alone")
    parser.add_argument("--port", type=int, metavar="P", help="listen on this port; 0 is any that is free")
    parser.add_argument(
        "--peer", metavar="HOST:PORT", action="append", default=[], help="look for other devices there too"
    )
    parser.add_argument("--stop", action="store_true", help="stop the daemon that runs")


def run(arguments: argparse.Namespace) -> int:
    paths = Paths.find()
    client = Client(paths.socket)
    if arguments.stop:
        return _stop(client, as_json=arguments.json)
    try:
        pid = client.health().pid
    except Refusal as refusal:
        if refusal.code != "no_daemon":
            raise
    else:
        raise Refusal("refused", f"a daemon runs already (process {pid})", "dittofs daemon --stop")
    require_writable(paths.state)
    command = [*daemon_command(), *daemon_options(arguments.bind, arguments.port, arguments.peer)]
    sys.stdout.flush()
    # The daemon takes this process's place, where signals and service managers find it.
    return os.execv(command[0], command)


def daemon_options(bind: str | None, port: int | None, peers: Sequence[str]) -> list[str]:
    """What the daemon is given. Refuses ("usage") what it would not understand."""
    given = [*(["--bind", bind] if bind else []), *(["--port", str(port)] if port is not None else [])]
    try:
        if bind:
            Address.of(bind, 1)
        if port:
            Address.of("localhost", port)
        for peer in peers:
            given += ["--peer", str(Address.parse(peer))]
    except FormatError as error:
        raise Refusal("usage", f"{error}; no daemon was started", "dittofs daemon --help") from error
    return given


def _stop(client: Client, *, as_json: bool) -> int:
    """Ask it to stop and wait for the process to end."""
    try:
        report = client.status()
        process = os.pidfd_open(report.pid)  # before it is asked, so that no other process is meant
    except ProcessLookupError:
        report = None
    except Refusal as refusal:
        if refusal.code != "no_daemon":
            raise
        report = None
    if report is None:
        if as_json:
            say_json(StopResult(pid=0))
        else:
            say("No daemon is running: there is nothing to stop.")
        return EXIT_FINE
    for volume in report.volumes:
        if alone := only_here(volume):
            warn(f"{alone}, until the daemon runs again.")
    try:
        result: StopResult = client.stop()
        ending = select.poll()  # takes any descriptor, where select(2) ends at 1,023
        ending.register(process, select.POLLIN)
        if not ending.poll(STOP_S * 1000):
            text = (
                f"the daemon (process {result.pid}) has not ended after {STOP_S:g} s; it may be saving much"
            )
            raise Refusal("failed", text, "dittofs status")
    finally:
        os.close(process)
    if as_json:
        say_json(result)
    else:
        say(f"The daemon has stopped.{come_back(report)}")
    return EXIT_FINE


def only_here(volume: VolumeStatus) -> str:
    """What is on this device alone and should be sent, for people; empty: nothing."""
    has_others = any(not member.is_this for member in volume.members)
    custody = volume.custody
    files = custody.only_here + custody.past + volume.pending.files
    if not has_others or volume.copies == "on-demand" or not files:
        return ""
    size = human_size(custody.only_here_bytes + custody.past_bytes + volume.pending.bytes)
    what = f"{counted(files, 'file')}, {size}"
    return f'Only on this device: {what} of "{escaped(volume.name)}"'


def come_back(report: StatusReport) -> str:
    """How what was mounted is mounted again; empty if nothing was."""
    paths = [path_bytes(volume) for volume in report.volumes if volume.state == "mounted"]
    if not paths:
        return ""
    they = "Its mount comes" if len(paths) == 1 else "Its mounts come"
    return f" {they} back when the daemon runs again:  dittofs mount {shown_directory(paths[0])}"
