"""Published cases of lost promises on a real mount: the daemon is killed, and nothing is gone."""

import os
import stat
from pathlib import Path

import pytest

from tests.e2e.node import Node
from tests.simulation.crash_cases import CASES, Found, Model, Step, explain


def do(root: Path, step: Step, contents: Model) -> None:
    """One call, as a program makes it."""
    match step:
        case Step("mkdir", (path,)):
            (root / path).mkdir()
        case Step("touch", (path,)):
            (root / path).touch()
        case Step("write", (path, size)):
            (root / path).write_bytes(contents.content(size))
        case Step("append", (path, size)):
            with (root / path).open("ab") as file:
                file.write(contents.content(size))
        case Step("truncate", (path, size)):
            os.truncate(root / path, int(size))
        case Step("symlink", (target, path)):
            (root / path).symlink_to(target)
        case Step("link", (old, new)):
            os.link(root / old, root / new)
        case Step("unlink", (path,)):
            (root / path).unlink()
        case Step("rmdir", (path,)):
            (root / path).rmdir()
        case Step("rename", (old, new)):
            (root / old).rename(root / new)
        case Step("chmod", (path, mode)):
            (root / path).chmod(int(mode, 8))
        case Step("fsync", (path,)):
            synced(root / path)
        case Step("sync", ()):
            synced(root)
        case _:
            raise AssertionError(step)


def synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def seen(root: Path) -> Found:
    """Everything below a directory."""
    out: Found = {}
    numbers: dict[int, int] = {}

    def walk(prefix: str) -> None:
        for name in sorted(os.listdir(root / prefix)):
            path = prefix + name
            found = (root / path).lstat()
            number = numbers.setdefault(found.st_ino, len(numbers))
            if stat.S_ISDIR(found.st_mode):
                out[path] = ("directory", frozenset({b""}), 0, number)
                walk(path + "/")
            elif stat.S_ISLNK(found.st_mode):
                out[path] = ("symlink", frozenset({os.fsencode(os.readlink(root / path))}), 0, number)
            else:
                data = (root / path).read_bytes()
                out[path] = ("file", frozenset({data}), stat.S_IMODE(found.st_mode), number)

    walk("")
    return out


def test_a_killed_daemon_loses_nothing_of_any_published_case(mounted: Node) -> None:
    os.umask(0o022)
    expected: dict[str, Found] = {}
    for number, steps in enumerate(CASES.values()):
        root = mounted.root / str(number)
        root.mkdir()
        model, contents = Model(), Model()
        for step in steps:
            do(root, step, contents)
            model.do(step)
        expected[str(number)] = model.found()
    mounted.crash()
    for name, case in zip(expected, CASES, strict=True):
        problem = explain(seen(mounted.root / name), [expected[name]])
        assert problem is None, f"{case}: {problem}"


@pytest.mark.parametrize("name", list(CASES)[:1])
def test_a_daemon_killed_right_after_the_last_call_loses_nothing(mounted: Node, name: str) -> None:
    model, contents = Model(), Model()
    for step in CASES[name]:
        do(mounted.root, step, contents)
        model.do(step)
    mounted.crash()
    assert explain(seen(mounted.root), [model.found()]) is None
