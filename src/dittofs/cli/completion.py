"""`dittofs completion`: what a shell runs once, and what it asks at each Tab."""

import argparse
import importlib
import shlex
import sys
from typing import Final, cast

from dittofs.cli.main import ALIASES, VERBS, Command, module_of
from dittofs.cli.output import say
from dittofs.control.faults import EXIT_FINE

DESCRIPTION = """\
Print what makes a shell finish words of `dittofs` at the Tab key: commands, options, words of codes, and the
names of devices, users and groups."""
EXAMPLE = """\
  echo 'eval "$(dittofs completion bash)"' >> ~/.bashrc
  echo 'eval "$(dittofs completion zsh)"' >> ~/.zshrc           after compinit
  dittofs completion fish > ~/.config/fish/completions/dittofs.fish"""

SCRIPTS: Final = {
    "bash": """\
_dittofs() {
    local IFS=$'\\n'
    COMPREPLY=($(printf '%s\\n' "${COMP_WORDS[@]:1:COMP_CWORD}" | dittofs completion words 2>/dev/null))
}
complete -o default -o nospace -F _dittofs dittofs""",
    "zsh": """\
_dittofs() {
    local -a found
    found=("${(@f)$(print -rl -- "${(@)words[2,CURRENT]}" | dittofs completion words 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -Q -S '' -a found; else _files; fi
}
compdef _dittofs dittofs""",
    "fish": """\
function _dittofs
    printf '%s\\n' (commandline -opc)[2..] "$(commandline -ct)" | dittofs completion words 2>/dev/null
end
complete -c dittofs -a '(_dittofs)'""",
}
WORDS_MAX: Final = 256
CHARACTERS_MAX: Final = 65_536
_JOINING: Final = ("join", "connect")
_PEOPLE: Final = ("grant", "revoke", "user", "group", "ping", "devices")
_OPTIONS: Final = {
    ("limit", "--device"): "devices",
    ("undo", "--device"): "devices",
    ("share", "--user"): "users",
}
PATIENCE_S: Final = 0.5
"""So long a daemon is waited for at a Tab."""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=(*SCRIPTS, "words"), help="words: what may follow those on stdin, one a line"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.shell in SCRIPTS:
        say(SCRIPTS[arguments.shell])
        return EXIT_FINE
    for word in candidates(sys.stdin.read(CHARACTERS_MAX).split("\n")[:-1][:WORDS_MAX]):
        say(word)
    return EXIT_FINE


def candidates(typed: list[str]) -> list[str]:
    """What the last of the words after `dittofs` may become. None: a file, or anything."""
    *before, last = typed or [""]
    if not before:
        verbs = sorted({verb.name for verb in VERBS} | {name for name in ALIASES if name.isalpha()})
        return [f"{verb} " for verb in verbs if verb.startswith(last)]
    name = ALIASES.get(before[0], before[0])
    if name not in {verb.name for verb in VERBS}:
        return []
    if last.startswith("-"):
        return [f"{option} " for option in _options(name) if option.startswith(last)]
    if before[0] in _JOINING and all(word.startswith("-") for word in before[1:]):
        from dittofs.identity.codes import completions

        return completions(last)
    if (name, before[-1]) in _OPTIONS:
        devices, users, _ = _names()
        return _finished(devices if _OPTIONS[name, before[-1]] == "devices" else users, last)
    if before == ["limit"]:
        from dittofs.cli.limit import WORDS

        return [f"{word} " for word in WORDS if word.startswith(last)]
    if name in _PEOPLE:
        return _finished(_people(before), last)
    return []


def _finished(names: list[str], last: str) -> list[str]:
    return [f"{shlex.quote(name)} " for name in names if name.startswith(last) and name.isprintable()]


def _people(before: list[str]) -> list[str]:
    """What may follow these words: an action, a role, or a device, a user or a group."""
    name, *words = [word for word in before if not word.startswith("-")]
    match name, words:
        case (("user" | "group"), []):
            from dittofs.cli.group import ACTIONS as OF_GROUPS
            from dittofs.cli.user import ACTIONS as OF_USERS

            return sorted(OF_USERS if name == "user" else OF_GROUPS)
        case "devices", []:
            from dittofs.cli.devices import ACTIONS as OF_DEVICES

            return sorted(OF_DEVICES)
        case "grant", [_]:
            from dittofs.cli.grant import ROLES

            return list(ROLES)
    devices, users, groups = _names()
    match name, words:
        case (("grant" | "revoke"), []):
            return sorted({*devices, *users, *groups, "default", "guest"})
        case ("ping", []) | ("devices", [("remove" | "rename" | "retire")]):
            return devices
        case "user", [_]:
            return users
        case "group", [_]:
            return groups
        case "user", [("add" | "leave"), _, *_]:
            return devices
        case "group", [("add" | "join" | "leave"), _, *_]:
            return users
    return []


def _names() -> tuple[list[str], list[str], list[str]]:
    """The devices, users and groups of all volumes; none if no daemon says so at once."""
    from dittofs.config import Paths
    from dittofs.control.client import Client
    from dittofs.control.people import PeopleRequest
    from dittofs.errors import DittoError

    devices: set[str] = set()
    users: set[str] = set()
    groups: set[str] = set()
    try:
        asked = Client(Paths.find().socket)
        for volume in asked.status(PATIENCE_S).volumes:
            if volume.members:
                report = asked.people(PeopleRequest(volume.name), PATIENCE_S)
                devices |= {one.name for one in volume.members}
                users |= {one.name for one in report.users}
                groups |= {one.name for one in report.groups}
    except DittoError:
        return [], [], []
    return sorted(devices), sorted(users), sorted(groups)


def _options(name: str) -> list[str]:
    command = cast(Command, importlib.import_module(f"dittofs.cli.{module_of(name)}"))
    parser = argparse.ArgumentParser(add_help=False)
    command.define(parser)
    told = {option for action in parser._actions for option in action.option_strings}
    return sorted(told | {"--help", "--json"})
