"""`dittofs`: which command is meant, and how its end is told. A command is a module, imported when named."""

import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol, cast

from dittofs.cli.guess import did_you_mean

if TYPE_CHECKING:
    from dittofs.control.faults import Refusal


class Verb(NamedTuple):
    """A command: the module of its name in `dittofs.cli`."""

    role: str
    name: str
    says: str


VERBS: Final = (
    Verb("Everyday", "mount", "make a folder a volume, or show one again"),
    Verb("Everyday", "unmount", "take a mount away; nothing is lost"),
    Verb("Everyday", "status", "what is mounted, where, and whether it is well"),
    Verb("Everyday", "list", "files, sizes, times, and what is not on this device"),
    Verb("Everyday", "add", "copy files into a volume, with or without a mount"),
    Verb("Everyday", "get", "copy a file out of a volume, with or without a mount"),
    Verb("Everyday", "conflicts", "versions that were written apart: see, compare, decide"),
    Verb("Sharing", "share", "invite another device to a volume"),
    Verb("Sharing", "join", "use an invitation: mount what another device shares"),
    Verb("Sharing", "devices", "who shares a volume, and remove one"),
    Verb("Sharing", "user", "people: which devices are whose"),
    Verb("Sharing", "group", "users that are given roles together"),
    Verb("Sharing", "grant", "give a device, a user or a group a role"),
    Verb("Sharing", "revoke", "take away what a device, a user or a group may do"),
    Verb("Sharing", "ping", "whether another device answers, how fast, and which way"),
    Verb("Sharing", "limit", "how fast this device sends and receives, and when"),
    Verb("Sharing", "sync", "wait until everything here is on other devices too"),
    Verb("Sharing", "leave", "end this device's part in a volume"),
    Verb("Sharing", "recovery", "write down the words that own a volume for ever"),
    Verb("History", "log", "what happened to a file or in a folder, and its versions"),
    Verb("History", "restore", "set a file or a folder back to what it was"),
    Verb("History", "trash", "removed files: have them back, or forget them"),
    Verb("History", "snapshot", "keep what a volume shows under a name"),
    Verb("History", "checkout", "write a volume as it was into a directory"),
    Verb("History", "undo", "take back what one device did since a time"),
    Verb("History", "brake", "what a device removed in a mass: accept or refuse it"),
    Verb("Storage", "import", "add a filled directory to a volume; nothing is overwritten"),
    Verb("Storage", "copies", "on how many devices each content is"),
    Verb("Storage", "pin", "keep files or folders on this device, whole"),
    Verb("Storage", "unpin", "keep them here no more than others"),
    Verb("Storage", "evict", "free the room of what other devices have"),
    Verb("Storage", "cache", "what is stored here, and giving garbage's room back"),
    Verb("Storage", "check", "read everything again and verify it"),
    Verb("Service", "daemon", "run the daemon in the foreground, or stop it"),
    Verb("Service", "signal", "a server by which devices behind routers meet"),
    Verb("Service", "device", "give this device a fresh identity"),
    Verb("Service", "demo", "several devices on this machine, to try things with"),
    Verb("Service", "doctor", "look for what stands in the way, and say how to mend it"),
    Verb("Service", "completion", "let a shell finish words: commands, options, codes"),
    Verb("Service", "version", "versions of command and daemon"),
)
ALIASES: Final = {"--version": "version", "connect": "join"}
EXIT_CODES: Final = """\
exit codes: 0 fine, 1 failed, 2 usage, 3 unsent data, 4 conflicts, 5 needs attention"""
DEBUG: Final = "DITTOFS_DEBUG"
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
CLOSED_EARLY: Final = 141  # 128 + SIGPIPE


class Command(Protocol):
    """What a module of a command offers."""

    DESCRIPTION: str
    EXAMPLE: str

    def define(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def overview() -> str:
    """The help of `dittofs` itself."""
    lines = [
        "usage: dittofs COMMAND [ARGUMENTS]      dittofs COMMAND --help",
        "",
        "A folder that is the same on all of your machines.",
    ]
    role = ""
    for verb in VERBS:
        if verb.role != role:
            role = verb.role
            lines += ["", role]
        lines.append(f"  {verb.name:<10} {verb.says}")
    return "\n".join([*lines, "", "example:  dittofs mount ~/Shared", EXIT_CODES])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. No exception leaves it."""
    words = list(sys.argv[1:] if argv is None else argv)
    _require_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        return _closed_early()
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    return code


def _require_streams() -> None:
    """What the caller closed leads to nowhere: the next file that is opened would get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else 2
    name = ALIASES.get(words[0], words[0])
    if name not in {verb.name for verb in VERBS}:
        text = f"there is no command {name!r}{did_you_mean(name, (verb.name for verb in VERBS))}"
        return _refuse_usage(text, "All of them: dittofs --help", words)
    command = cast(Command, importlib.import_module(f"dittofs.cli.{module_of(name)}"))
    parser = _Parser(
        prog=f"dittofs {name}",
        description=command.DESCRIPTION,
        epilog=f"example:\n{command.EXAMPLE}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.define(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    try:
        # Options stand anywhere, but after `--` words are what they are, which the other parse would forget.
        parse = parser.parse_args if "--" in words else parser.parse_intermixed_args
        arguments = parse(words[1:])
    except SystemExit as end:  # argparse has printed usage or help
        return end.code if isinstance(end.code, int) else 2
    except _Usage as usage:
        parser.print_usage(sys.stderr)
        return _refuse_usage(str(usage), f"dittofs {name} --help", words)
    return _guarded(command.run, arguments)


class _Usage(Exception):
    """The words of a command are not understood."""


class _Parser(argparse.ArgumentParser):
    """Raises `_Usage` where its base ends the process, and guesses which of a few words was meant."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            words = [str(one) for one in action.choices]
            text = f"{value!r} is none of {', '.join(words)}{did_you_mean(str(value), words)}"
            raise argparse.ArgumentError(action, text)

    def error(self, message: str) -> NoReturn:
        raise _Usage(message)


def _refuse_usage(text: str, mend: str, words: Sequence[str]) -> int:
    from dittofs.control.faults import Refusal

    return _tell(Refusal("usage", text, mend), as_json="--json" in words)


def _guarded(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    from dittofs.control.faults import Refusal, refusal_of
    from dittofs.errors import DittoError

    try:
        return run(arguments)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except DittoError as error:
        return _tell(refusal_of(error), as_json=arguments.json)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return _tell(Refusal("failed", f"{what}{error.strerror or error}"), as_json=arguments.json)
    except UnicodeEncodeError as error:  # only paths are bytes; the daemon is told all else as text
        text = f"{error.object} is no text (UTF-8), and only a path may be that; nothing was done"
        return _tell(Refusal("usage", text, "Write that word in UTF-8"), as_json=arguments.json)
    except Exception as error:  # the edge: no traceback reaches a user who did not ask for it
        if os.environ.get(DEBUG):
            raise
        text = f"a bug in this command ended it ({type(error).__name__}: {error}); the daemon goes on"
        return _tell(
            Refusal("internal", text, f"See it whole: {DEBUG}=1 dittofs ..."), as_json=arguments.json
        )


def _tell(refusal: "Refusal", *, as_json: bool) -> int:
    from dittofs.cli.output import harmless, say_json
    from dittofs.control.protocol import failure_of

    sys.stdout.flush()
    print(f"dittofs: {harmless(refusal.message)}", file=sys.stderr)
    if refusal.mend:
        print(harmless(refusal.mend), file=sys.stderr)
    if as_json:
        say_json(failure_of(refusal))
    return refusal.fault.exit_code


def module_of(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _closed_early() -> int:
    """Who reads stdout has left, like `head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
    return CLOSED_EARLY


if __name__ == "__main__":
    sys.exit(main())
