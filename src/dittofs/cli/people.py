"""What people are told of roles: who has another one now, and what says it."""

import argparse
import shlex
from collections.abc import Sequence
from typing import Final

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import escaped, listed, say
from dittofs.control.client import Client
from dittofs.control.faults import Refusal
from dittofs.control.people import RoleChange

_MAY: Final = {
    "none": "may do nothing with {}",
    "store": "keeps {}, and cannot open it",
    "reader": "may read {}, and not change it",
    "writer": "may read and change {}",
    "owner": "may read and change {}, and invite and remove devices",
}


def may(role: str, what: str = "it") -> str:
    """What a role lets one do with `what`."""
    return _MAY[role].format(what)


def say_changes(changed: Sequence[RoleChange], kept: Sequence[str], owners: Sequence[str] = ()) -> None:
    """Which devices may do something else now, which go by a role of their own, and which are owners."""
    for one in changed:
        say(f"  {escaped(one.device):<16} {one.role} (was {one.was})")
    if kept:
        says = "has a role of its own" if len(kept) == 1 else "have roles of their own"
        say(f"{listed(kept)} {says}. To end that:  dittofs grant {shlex.quote(kept[0])} inherit")
    if owners:
        say(f"{listed(owners)} {'stays an owner' if len(owners) == 1 else 'stay owners'}.")
    if any(one.role == "reader" and one.was in ("writer", "owner") for one in changed):
        say("What it has written and not sent before it hears of this stays there, and only there.")


def by_what(role: str, by: str, group: str) -> str:
    """ "writer", "reader by family", "writer by default"."""
    match by:
        case "group":
            return f"{role} by {escaped(group)}"
        case "default":
            return f"{role} by default"
        case _:
            return role


def asked_volume(
    arguments: argparse.Namespace, verb: str, others: list[str], what: str
) -> tuple[Client, str]:
    """The daemon, and the volume that `dittofs VERB ACTION NAME OTHERS…` is about.

    Refusal ("usage") of words that the action does not take, or lacks.
    """
    _check_words(arguments, verb, others, what)
    asked = client()
    words = [word for word in (arguments.action, arguments.name, *others) if word]
    command = f"dittofs {verb} {shlex.join(words)} --volume VOLUME"
    return asked, which_volume(arguments.volume, asked.status().volumes, command)


def _check_words(arguments: argparse.Namespace, verb: str, others: list[str], what: str) -> None:
    """Refuse ("usage") words that an action does not take, or lacks."""
    action = arguments.action
    mend = f"dittofs {verb} --help"
    if action == "list" and arguments.name:
        raise Refusal("usage", f"{verb} list takes no name; another volume is  --volume V", mend)
    if action != "list" and not arguments.name:
        raise Refusal("usage", f"{verb} {action} takes the name of a {verb}", mend)
    if action in ("leave", "join") and not others:
        raise Refusal("usage", f"{verb} {action} takes a {verb} and {what}", mend)
    if action == "remove" and others:
        raise Refusal("usage", f"{verb} remove takes one {verb}, and no {what}", mend)
    if arguments.role and action != "add":
        raise Refusal(
            "usage", f"--role goes with {verb} add; otherwise  dittofs grant {verb}:NAME ROLE", mend
        )
