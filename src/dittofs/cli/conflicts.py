"""`dittofs conflicts`"""

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from dittofs.cli.add import file_parts
from dittofs.cli.asking import Place, client, locate, which_volume
from dittofs.cli.guess import did_you_mean
from dittofs.cli.output import Progress, counted, escaped, human_size, listed, say, say_json, when
from dittofs.control.client import Client
from dittofs.control.conflicts import (
    POLICIES,
    Conflict,
    ConflictSide,
    ConflictsRequest,
    Difference,
    PolicyRequest,
    PolicyResult,
    ResolveRequest,
    ResolveResult,
)
from dittofs.control.faults import EXIT_CONFLICTS, EXIT_FINE, Refusal
from dittofs.control.files import AddRequest
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.protocol import VolumeStatus

DESCRIPTION = """\
Versions of a file that were written apart, and things that were given one name: see them, compare them, and
decide. Nothing is lost by that: the version that goes stays in the history. rm and mv decide just as well.

  dittofs conflicts [list] [PATH]...
  dittofs conflicts show PATH...
  dittofs conflicts diff PATH...
  dittofs conflicts resolve PATH... --keep mine|theirs|both|merged|shown|beside|DEVICE [--file F] [--dry-run]
  dittofs conflicts policy [list | set PATTERN merge|both|newest|mine | remove PATTERN] [--volume V]"""
EXAMPLE = """\
  dittofs conflicts                                      all of them, in all volumes
  dittofs conflicts diff Shared:notes.txt
  dittofs conflicts resolve ~/Shared/notes.txt --keep theirs
  dittofs conflicts resolve notes.txt --keep merged --file my-own-merge.txt
  dittofs conflicts policy set '*.csv' both              never merge these by themselves"""

ACTIONS: Final = ("list", "show", "diff", "resolve", "policy")
_POLICY_ACTIONS: Final = ("list", "set", "remove")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="ACTION|PATH", nargs="*", help="what to do, and about what")
    parser.add_argument(
        "--keep", metavar="WHICH", help="mine, theirs, both, merged, shown, beside, or a device"
    )
    parser.add_argument("--file", metavar="F", help="with --keep merged: the content that it is to have")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--volume", metavar="V", help="of policy: whose rules; default: the only volume")


def run(arguments: argparse.Namespace) -> int:
    words: list[str] = arguments.words
    action = words[0] if words and words[0] in ACTIONS else "list"
    words = words[1:] if words and words[0] in ACTIONS else words
    if action != "resolve" and (arguments.keep or arguments.file or arguments.dry_run):
        raise Refusal("usage", "--keep, --file and --dry-run belong to resolve", "dittofs conflicts --help")
    asked = client()
    volumes = asked.status().volumes
    if action == "list" and words:
        _require_path(asked, words[0], volumes)
    if action == "policy":
        return _policy(asked, volumes, words, arguments)
    if not words and action != "list":
        raise Refusal("usage", f"{action} takes the path of a conflict", f"dittofs conflicts {action} PATH")
    if action == "resolve":
        return _resolve(asked, [locate(word, volumes) for word in words], arguments)
    places = [locate(word, volumes) for word in words]
    places = places or [Place(volume.name, b"") for volume in volumes if _is_open(volume)]
    if action == "diff":
        return _diff(asked, places, as_json=arguments.json)
    return _list(asked, places, as_json=arguments.json, judge=action == "show", is_asked=bool(words))


def _require_path(asked: Client, word: str, volumes: Sequence[VolumeStatus]) -> None:
    """Refuse what is nearer to an action than to a path: no conflict is there, and no file here."""
    guess = did_you_mean(word, ACTIONS)
    if not guess or word in ACTIONS or "/" in word or ":" in word or os.path.lexists(word):
        return
    is_there = False
    with suppress(Refusal):  # no such path, or it is not said in which volume
        is_there = any(True for _ in asked.list_conflicts(_request(locate(word, volumes))))
    if not is_there:
        text = f"{escaped(word)} is none of {', '.join(ACTIONS)}, and the path of no conflict{guess}"
        raise Refusal("usage", text, "dittofs conflicts --help")


def _is_open(volume: VolumeStatus) -> bool:
    return bool(volume.members)


def _request(place: Place, *, judge: bool = False) -> ConflictsRequest:
    return ConflictsRequest(volume=place.volume, judge=judge, **path_fields(place.path))


def _list(asked: Client, places: Sequence[Place], *, as_json: bool, judge: bool, is_asked: bool) -> int:
    now_ns = time.time_ns()
    count, last, keep = 0, "", ""
    for place in places:
        for conflict in asked.list_conflicts(_request(place, judge=judge)):
            count += 1
            last = shlex.quote(str(Place(place.volume, path_bytes(conflict))))
            keep = "|".join(choices(conflict))
            if as_json:
                say_json(conflict)
            else:
                for line in lines(place.volume, conflict, now_ns, judged=judge):
                    say(line)
    if not as_json:
        if count:
            say(f"{counted(count, 'conflict')}.  Compare: dittofs conflicts diff {last}")
            say(f"Decide:  dittofs conflicts resolve {last} --keep {keep}")
        else:
            say("No conflict there." if is_asked else "No conflicts.")
    return EXIT_CONFLICTS if count else EXIT_FINE


def lines(volume: str, conflict: Conflict, now_ns: int, *, judged: bool = False) -> list[str]:
    """One conflict for people."""
    found = [str(Place(volume, path_bytes(conflict)))]
    for side in conflict.sides:
        place = "shown " if side.is_shown else "beside"
        name = "" if side.is_shown else "   " + escaped(path_bytes(side).rpartition(b"/")[2])
        found.append(f"  {place}   {_about(side, now_ns)}{name}")
    if not conflict.are_versions:
        found.append("  These are different things that were given one name.")
    if judged and conflict.are_versions:
        base = "not known" if not conflict.base_ns else f"the version of {when(conflict.base_ns, now_ns)}"
        found.append(f"  They come from: {base}")
        merge = "clean: --keep merged" if conflict.can_merge else f"no: {escaped(conflict.reason)}"
        found.append(f"  Merge of both: {merge}")
    return found


def choices(conflict: Conflict) -> list[str]:
    """What `resolve` takes for this one, the plainest words for it; `merged` only once it was judged."""
    sides = conflict.sides
    sets = {
        "mine": [side for side in sides if side.is_mine],
        "theirs": [side for side in sides if not side.is_mine],
        "shown": [side for side in sides if side.is_shown],
        "beside": [side for side in sides if not side.is_shown],
    }
    main = next(iter(sets["shown"]), None)
    # A directory keeps its name against all else.
    is_fixed = main is not None and "directory" in {side.kind for side in sides}
    taken = [word for word, found in sets.items() if len(found) == 1 and (not is_fixed or found == [main])]
    plain = [word for word in taken if word in ("mine", "theirs")] or taken
    can_merge = conflict.are_versions and main is not None and conflict.can_merge
    return [*plain, "both", *(["merged"] if can_merge else [])]


def _about(side: ConflictSide, now_ns: int) -> str:
    device = escaped(side.device) or "?"
    device += " (this device)" if side.is_mine else ""
    size = human_size(side.size) if side.kind == "file" else side.kind
    missing = side.size - side.bytes_here if side.kind == "file" else 0
    away = f"   [{human_size(missing)} not here]" if missing > 0 else ""
    return f"{device}, {when(side.written_ns, now_ns)}, {size}{away}"


def _diff(asked: Client, places: Sequence[Place], *, as_json: bool) -> int:
    has_conflict = False
    for place in places:
        request = _request(place)
        is_compared = not any(True for _ in asked.list_conflicts(request))
        has_conflict = has_conflict or not is_compared
        for difference in asked.differences(request):
            is_compared = True
            if as_json:
                say_json(difference)
            else:
                _say_difference(difference)
        if not is_compared and not as_json:
            say(f"No two files to compare.  What they are:  dittofs conflicts show {shlex.quote(str(place))}")
    if not has_conflict and not as_json:
        say("No conflict there.")
    return EXIT_CONFLICTS if has_conflict else EXIT_FINE


def _say_difference(difference: Difference) -> None:
    if difference.is_text and difference.lines:
        for line in difference.lines.split("\n"):
            say(_plain(line))
        return
    sizes = f"{difference.old_size:,} and {difference.new_size:,} bytes"
    say(f"--- {escaped(difference.old)}")
    say(f"+++ {escaped(difference.new)}")
    at = f"first different at byte {difference.first:,}" if difference.first >= 0 else "they are equal"
    say(f"{'Text' if difference.is_text else 'No text'}: {sizes}, {at}")


def _plain(line: str) -> str:
    return "\t".join(escaped(part) for part in line.split("\t")).replace("\\\\", "\\")


def _resolve(asked: Client, places: Sequence[Place], arguments: argparse.Namespace) -> int:
    keep: str = arguments.keep or ""
    if not keep:
        mend = "dittofs conflicts resolve PATH --keep mine|theirs|both|merged|shown|beside|DEVICE"
        raise Refusal("usage", "it is not said what to keep", mend)
    if arguments.file and (keep != "merged" or len(places) != 1):
        raise Refusal("usage", "--file goes with --keep merged and one path", "dittofs conflicts --help")
    for place in places:
        result = _resolve_one(asked, place, keep, arguments)
        if arguments.json:
            say_json(result)
        else:
            for line in outcome(place, result, dry_run=arguments.dry_run):
                say(line)
    return EXIT_FINE


def _resolve_one(asked: Client, place: Place, keep: str, arguments: argparse.Namespace) -> ResolveResult:
    if arguments.file:
        place = _with_content(asked, place, arguments.file, dry_run=arguments.dry_run)
        keep = "shown"
    return asked.resolve(
        ResolveRequest(volume=place.volume, keep=keep, dry_run=arguments.dry_run, **path_fields(place.path))
    )


def _with_content(asked: Client, place: Place, name: str, *, dry_run: bool) -> Place:
    """Give the name of a conflict the content of a local file. The versions stay until that is done."""
    found = list(asked.list_conflicts(_request(place)))
    if len(found) != 1:
        text = f"{place} has no conflict; nothing was done" if not found else f"{place} has several conflicts"
        raise Refusal("not_found", text, "dittofs conflicts")
    target = Place(place.volume, path_bytes(found[0]))
    if dry_run:
        return target
    with open(name, "rb", buffering=0) as file, Progress(escaped(name)) as progress:
        size = file.seek(0, 2)
        file.seek(0)
        request = AddRequest(volume=target.volume, size=size, replace=True, **path_fields(target.path))
        asked.add(request, file_parts(file, name, size, progress))
    return target


def outcome(place: Place, result: ResolveResult, *, dry_run: bool) -> list[str]:
    """What was done, for people."""
    name = str(Place(place.volume, path_bytes(result)))
    found = []
    would = "would " if dry_run else ""
    for one in result.kept:
        call = f"{would}be" if dry_run else "is"
        found.append(f"{escaped(path_bytes(one.side))} {call} {escaped(path_bytes(one))}")
    if result.is_merged:
        did = "Would merge" if dry_run else "Merged"
        found.append(f"{did} {counted(len(result.gone), 'version')} of {name}; each stays in the history.")
    elif result.gone:
        size = sum(side.size for side in result.gone)
        whose = listed([side.device or "?" for side in result.gone])
        what = f"{counted(len(result.gone), 'version')} ({human_size(size)}, of {whose})"
        goes = "would go, and stay" if dry_run else "went, and stay" + ("s" if len(result.gone) == 1 else "")
        found.append(f"{name}: {what} {goes} in the history.")
    if not found:
        found.append(f"{name}: no version had to go.")
    if dry_run:
        return [*found, "Nothing was done. Without --dry-run it will be."]
    rest = (
        f"{counted(result.left, 'conflict')} left:  dittofs conflicts"
        if result.left
        else "No conflicts left."
    )
    return [*found, rest]


def _policy(
    asked: Client, volumes: Sequence[VolumeStatus], words: list[str], arguments: argparse.Namespace
) -> int:
    volume = which_volume(arguments.volume, volumes, "dittofs conflicts policy --volume VOLUME")
    match words:
        case [] | ["list"]:
            request = PolicyRequest(volume)
        case ["set", pattern, policy] if policy in POLICIES:
            request = PolicyRequest(volume, pattern, policy)
        case ["remove", pattern]:
            request = PolicyRequest(volume, pattern)
        case _:
            guess = ""
            if words[0] not in _POLICY_ACTIONS:
                guess = did_you_mean(words[0], _POLICY_ACTIONS)
            elif words[0] == "set" and len(words) == 3:
                guess = did_you_mean(words[2], POLICIES)
            text = f"policy takes: list, set PATTERN merge|both|newest|mine, or remove PATTERN{guess}"
            raise Refusal("usage", text, "dittofs conflicts policy set '*.csv' both")
    result = asked.conflict_policy(request)
    if arguments.json:
        say_json(result)
    else:
        for line in policy_lines(result):
            say(line)
    return EXIT_FINE


def policy_lines(result: PolicyResult) -> list[str]:
    """The rules for people, the last that matches first to be read."""
    found = []
    for rule in result.rules:
        whose = f" (what {escaped(rule.device)} wrote)" if rule.device else ""
        found.append(f"{escaped(rule.pattern):<24}   {rule.policy}{whose}")
    found.append(f"{'text':<24}   merge, where that is clean")
    found.append(f"{'everything else':<24}   both")
    found.append(f"Both, unless a rule says otherwise: {' '.join(result.built_in)}")
    found.append(f"Both, whatever a rule says: {' '.join(result.never)}")
    how = "dittofs conflicts policy set PATTERN merge|both|newest|mine"
    found.append(f"The last rule that matches counts.  Set one:  {how}")
    return found
