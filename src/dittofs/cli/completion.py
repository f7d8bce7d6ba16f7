"""`dittofs completion`: what a shell runs once, and what it asks at each Tab."""

import argparse
import importlib
import sys
from typing import Final, cast

from dittofs.cli.main import ALIASES, VERBS, Command, module_of
from dittofs.cli.output import say
from dittofs.control.faults import EXIT_FINE

DESCRIPTION = """\
Print what makes a shell finish words of `dittofs` at the Tab key: commands, options, words of codes."""
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
    if before == ["limit"]:
        from dittofs.cli.limit import WORDS

        return [f"{word} " for word in WORDS if word.startswith(last)]
    return []


def _options(name: str) -> list[str]:
    command = cast(Command, importlib.import_module(f"dittofs.cli.{module_of(name)}"))
    parser = argparse.ArgumentParser(add_help=False)
    command.define(parser)
    told = {option for action in parser._actions for option in action.option_strings}
    return sorted(told | {"--help", "--json"})
