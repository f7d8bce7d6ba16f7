"""`dittofs sync`"""

import argparse

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import Progress, counted, escaped, human_size, listed, say, say_json, warn
from dittofs.control.faults import EXIT_FINE, EXIT_UNSENT, Refusal
from dittofs.control.sharing import SyncProgress, SyncRequest, SyncResult

DESCRIPTION = """\
Wait until every connected device has every change, and every version that is here has the copies that
`dittofs copies` asks. It ends with 0 only then, and with 3 when that is not so and waiting is of no use."""
EXAMPLE = """\
  dittofs sync
  dittofs sync ~/Shared --timeout 60 && sudo poweroff"""

STEPS = {
    "saving": "publishing what was written here",
    "connecting": "waiting for another device",
    "counting": "counting",
    "names": "waiting for confirmation of every change",
    "contents": "",
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "volume", metavar="VOLUME", nargs="?", help="a volume, or a directory it is mounted on"
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds to wait at most")


def run(arguments: argparse.Namespace) -> int:
    if arguments.timeout is not None and not 0 <= arguments.timeout <= 1e9:
        raise Refusal("usage", "--timeout takes a number of seconds from 0", "dittofs sync --timeout 60")
    asked = client()
    volume = which_volume(arguments.volume, asked.status().volumes, "dittofs sync VOLUME")
    result: SyncResult | None = None
    with Progress(f"Sending {escaped(volume)}") as progress:
        for item in asked.sync(SyncRequest(volume=volume, timeout_s=arguments.timeout)):
            match item:
                case SyncProgress() if item.bytes_total:
                    done = item.bytes_total - item.bytes
                    progress.update(done, item.bytes_total, STEPS.get(item.step, item.step))
                case SyncProgress():
                    progress.note(STEPS.get(item.step, item.step))
                case SyncResult():
                    result = item
    if result is None:
        raise Refusal("cut_short", "the daemon ended before this was known", "dittofs status")
    if arguments.json:
        say_json(result)
    else:
        _tell(result)
    return EXIT_FINE if result.is_safe else EXIT_UNSENT


def _is_unconfirmed(result: SyncResult) -> bool:
    """Nothing of this device's waits to be sent: there is just nobody to say that it has arrived."""
    return not result.files and not result.connected


def _tell(result: SyncResult) -> None:
    name = escaped(result.volume)
    offline = f" {listed(result.offline)} will get it when connected." if result.offline else ""
    if not result.is_safe:
        what = f'"{name}"' if _is_unconfirmed(result) else f"{name} is not safe elsewhere yet"
        warn(f"dittofs: {what}: {escaped(result.reason)}")
        if result.files:
            what = f"{counted(result.files, 'file')}, {human_size(result.bytes)}"
            warn(f"On this device and on too few others: {what}.{offline}")
        warn("See who is there:  dittofs status")
    elif result.is_alone:
        say(f"{name}: everything is on this device's disk. There is no other device; add one:  dittofs share")
    else:
        has = "have" if len(result.connected) > 1 else "has"
        rules = ", but for the paths that `dittofs copies` lists" if result.copies_rules else ""
        contents = (
            f"; contents are sent on demand only{rules}"
            if result.copies == "on-demand"
            else f", and every version its copies ({escaped(result.copies)}{rules})"
        )
        say(f"{name}: {listed(result.connected)} {has} every change{contents}.{offline}")
    if result.unseen:
        what = f"{counted(result.unseen, 'file')}, {human_size(result.unseen_bytes)}"
        verb = "is" if result.unseen == 1 else "are"
        where = f"too few of the devices that could be asked: {listed(result.offline)} may have the rest"
        say(f"{what} {verb} not on this device, and on {where}.")
