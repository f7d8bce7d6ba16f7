"""`dittofs recovery`"""

import argparse
import sys

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import counted, escaped, say, say_json, warn
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FAILED, EXIT_FINE, Refusal
from dittofs.control.sharing import RecoveryRequest, RecoveryResult

DESCRIPTION = """\
Show the recovery words of a volume, to be written on paper, and, once two of them are typed back, erase
the owner key they stand for from this device. Whoever has the words owns the volume, even when every
owning device is lost or stolen. They are shown as long as they are not erased, and never again.
With --enter the words are typed in, on any device that has the volume: it is an owner from then on,
and may invite and remove devices."""
EXAMPLE = """\
  dittofs recovery
  dittofs recovery Photos
  dittofs recovery --json     show them only
  dittofs recovery --enter    no owner is left: become one by the words on paper"""

IN_A_LINE = 6
WORDS = 17
WORDS_CHARACTERS_MAX = 1000


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "volume", metavar="VOLUME", nargs="?", help="a volume, or a directory it is mounted on"
    )
    parser.add_argument("--enter", action="store_true", help="type the words in, on stdin")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volume = which_volume(arguments.volume, asked.status().volumes, "dittofs recovery VOLUME")
    if arguments.enter:
        return _enter(asked, volume, as_json=arguments.json)
    shown = asked.recovery(RecoveryRequest(volume=volume))
    if arguments.json:
        say_json(shown)
        return EXIT_FINE
    if shown.state == "absent":
        say(
            f'This device does not have the owner key of "{escaped(volume)}": its words were written down, '
            "or it was never here. The device that made the volume had it."
        )
        return EXIT_FINE
    for line in lines(shown):
        say(line)
    sys.stdout.flush()
    typed = tuple(_ask(place) for place in shown.places)
    if not all(typed):
        warn("\nNothing was erased. When they are on paper:  dittofs recovery")
        return EXIT_FAILED
    asked.recovery(RecoveryRequest(volume=volume, places=shown.places, typed=typed))
    say("The owner key is erased from this device. Keep the paper where no thief of this device finds it.")
    return EXIT_FINE


def _enter(asked: Client, volume: str, *, as_json: bool) -> int:
    sys.stderr.write(f"The {WORDS} words, in their order: ")
    sys.stderr.flush()
    typed = sys.stdin.readline(WORDS_CHARACTERS_MAX).split()
    if len(typed) != WORDS:
        text = f"that was {counted(len(typed), 'word')}, not {WORDS}; nothing was changed"
        raise Refusal("usage", text, "dittofs recovery --enter")
    taken = asked.recovery(RecoveryRequest(volume=volume, words=" ".join(typed).lower()))
    if as_json:
        say_json(taken)
    else:
        say(f'This device is an owner of "{escaped(volume)}" now, and has the owner key again.')
        say("See who else is a member:  dittofs devices      Erase the key again:  dittofs recovery")
    return EXIT_FINE


def lines(shown: RecoveryResult) -> list[str]:
    """The words, numbered, and what to do with them."""
    numbered = [f"{place:>2} {word:<10}" for place, word in enumerate(shown.words, 1)]
    rows = [numbered[start : start + IN_A_LINE] for start in range(0, len(numbered), IN_A_LINE)]
    return [
        f'Recovery words of "{escaped(shown.volume)}". Write them on paper, in this order:',
        "",
        *("  " + " ".join(row).rstrip() for row in rows),
        "",
        "Then type two of them back; the owner key is then erased from this device. (Nothing: leave it.)",
    ]


def _ask(place: int) -> str:
    sys.stderr.write(f"Word {place}: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if len(line) > 100:
        raise Refusal("usage", "that is no recovery word; nothing was erased", "dittofs recovery")
    return line.strip().lower()
