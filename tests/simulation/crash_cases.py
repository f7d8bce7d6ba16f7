"""Cases in which file systems were found to lose what they had promised, as scripts, and what must be there.

Each is a few calls of a program, of which some make durable; then the machine dies. They are the shapes that
the literature on crash consistency reports as bugs of shipped file systems: renamed parents of a synced file,
names taken again, hard links around an fsync, directories replaced, sizes and holes. What DittoFS promises is
stronger than POSIX and simple: whatever is synced commits every change of names before it.
"""

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

DURABLE: Final = ("fsync", "sync")
BLOCK: Final = 4096


class Step(NamedTuple):
    """One call: its name and its arguments."""

    call: str
    args: tuple[str, ...]


def script(text: str) -> tuple[Step, ...]:
    """The steps of `a B c; d E`."""
    return tuple(Step(words[0], tuple(words[1:])) for words in (line.split() for line in text.split(";")))


_TEXT: Final = """
a file below a directory that was renamed:
    mkdir A; sync; rename A B; touch B/foo; fsync B/foo
the same with bytes:
    mkdir A; sync; rename A B; write B/foo 5000; fsync B/foo
the same through the directory:
    mkdir A; sync; rename A B; touch B/foo; fsync B
a directory renamed, its old name taken:
    mkdir A; touch A/foo; sync; rename A B; mkdir A; touch A/bar; fsync A/bar
a file moved away, its old name taken:
    mkdir A; mkdir B; write A/foo 4096; sync; rename A/foo B/foo; write A/foo 100; fsync A/foo
a file moved, then its new directory synced:
    mkdir A; mkdir B; touch A/foo; sync; rename A/foo B/foo; fsync B
a file moved, then its old directory synced:
    mkdir A; mkdir B; touch A/foo; sync; rename A/foo B/foo; fsync A
a file moved, another below both synced:
    mkdir A; mkdir B; touch A/foo; touch A/bar; sync; rename A/foo B/foo; write A/bar 10; fsync
    A/bar
two files that swap names:
    write A 100; write B 200; sync; rename A C; rename B A; rename C B; fsync A
a name replaced by rename:
    write foo 5000; sync; write foo.tmp 3000; fsync foo.tmp; rename foo.tmp foo
the same, the directory synced:
    write foo 5000; sync; write foo.tmp 3000; fsync foo.tmp; rename foo.tmp foo; fsync .
replaced by rename without a sync:
    write foo 5000; sync; write foo.tmp 3000; rename foo.tmp foo
replaced by rename, then another file synced:
    write foo 5000; write bar 1; sync; write foo.tmp 3000; rename foo.tmp foo; write bar 2; fsync
    bar
a link to a synced file:
    write foo 4096; sync; link foo bar; fsync foo
a link, the other name synced:
    write foo 4096; sync; link foo bar; fsync bar
a link removed:
    touch foo; link foo bar; sync; unlink bar; fsync foo
a link removed, its name taken:
    touch foo; link foo bar; sync; unlink bar; touch bar; fsync bar
a link removed, its name taken, the first synced:
    touch foo; link foo bar; sync; unlink bar; touch bar; fsync foo
a link moved over another name:
    write foo 10; link foo bar; write baz 20; sync; rename bar baz; fsync baz
links in two directories:
    mkdir A; mkdir B; touch A/foo; sync; link A/foo B/foo; link A/foo B/bar; unlink B/foo; fsync
    A/foo
many links and one removed:
    touch foo; link foo a; link foo b; link foo c; sync; unlink b; write foo 7; fsync foo
a link renamed, and the first name taken:
    touch A; link A B; sync; rename B C; unlink A; write A 50; fsync A
a removed file made again:
    write foo 9000; sync; unlink foo; write foo 100; fsync foo
a removed file, the directory synced:
    mkdir A; write A/foo 10; sync; unlink A/foo; fsync A
a directory removed and made again:
    mkdir A; touch A/foo; sync; unlink A/foo; rmdir A; mkdir A; write A/bar 1; fsync A/bar
a directory removed, a file of its name:
    mkdir A; sync; rmdir A; write A 100; fsync A
a file removed, a directory of its name:
    write A 100; sync; unlink A; mkdir A; touch A/foo; fsync A/foo
a directory moved into its brother:
    mkdir A; mkdir B; touch A/foo; sync; rename A B/A; touch B/bar; fsync B/bar
a child moved up, its parent removed:
    mkdir A; mkdir A/B; touch A/B/foo; sync; rename A/B C; rmdir A; fsync C/foo
a child moved up, its parent takes its name:
    mkdir A; mkdir A/B; sync; rename A/B C; rename A B; touch C/foo; fsync C/foo
a directory over an empty one:
    mkdir A; touch A/foo; mkdir B; sync; rename A B; fsync B
three levels, each renamed:
    mkdir A; mkdir A/B; touch A/B/foo; sync; rename A C; rename C/B C/D; write C/D/foo 33; fsync
    C/D/foo
a symlink in place of a file:
    write foo 10; sync; unlink foo; symlink bar foo; fsync .
a symlink below a renamed directory:
    mkdir A; symlink x A/s; sync; rename A B; fsync B
a file longer than before:
    write foo 4096; sync; append foo 4096; fsync foo
a file longer, not synced:
    write foo 4096; sync; append foo 4096; touch bar; fsync bar
a file cut:
    write foo 20000; sync; truncate foo 100; fsync foo
a file cut and longer again:
    write foo 20000; sync; truncate foo 100; append foo 50; fsync foo
a hole at the end:
    write foo 4096; sync; truncate foo 300000; fsync foo
cut, moved, synced under the new name:
    write foo 20000; sync; truncate foo 10; rename foo bar; fsync bar
written, moved, another synced:
    write foo 5000; fsync foo; rename foo bar; touch baz; fsync baz
synced before its first rename:
    write foo 300000; fsync foo; rename foo bar
made, synced, and nothing more:
    mkdir A; mkdir A/B; write A/B/foo 1; fsync A/B/foo
made, its parent synced only:
    mkdir A; touch A/foo; fsync A
mode set before the sync:
    touch foo; sync; chmod foo 600; fsync foo
mode set on another:
    touch foo; touch bar; sync; chmod foo 600; fsync bar
all at once:
    mkdir A; write A/foo 100; link A/foo A/bar; rename A B; unlink B/foo; symlink B/bar s; sync
after everything was removed:
    mkdir A; write A/foo 100; sync; unlink A/foo; rmdir A; sync
"""


def _cases(text: str) -> Iterator[tuple[str, tuple[Step, ...]]]:
    name, steps = "", ""
    for line in [*text.strip().splitlines(), ":"]:
        if line.startswith(" "):
            steps += line
            continue
        if name:
            yield name, script(steps)
        name, steps = line.removesuffix(":"), ""


CASES: Final[Mapping[str, tuple[Step, ...]]] = dict(_cases(_TEXT))

_CALLS: Final = script(
    "touch A/foo; write A/foo 5000; write foo 100; append A/foo 10; truncate A/foo 3; link A/foo B/bar;"
    " link foo bar; unlink A/foo; unlink foo; rename A/foo B/bar; rename foo A/foo; rename B C; rename A B;"
    " mkdir C; rmdir B; symlink x A/bar; rename A/foo foo; write B/bar 200; chmod A/foo 640"
)
_SYNCS: Final = script("fsync A/foo; fsync B/bar; fsync A; fsync foo; sync")
_BEGINNING: Final = script("mkdir A; mkdir B; write A/foo 4096; write foo 50; sync")


def bounded(length: int) -> Iterator[tuple[Step, ...]]:
    """Every script of so many calls out of a small set, ended by each sync that is possible."""
    for calls in itertools.product(_CALLS, repeat=length):
        for sync in _SYNCS:
            steps = (*_BEGINNING, *calls, sync)
            if is_possible(steps):
                yield steps


@dataclass(slots=True)
class Inode:
    """A file, symlink or directory of the model, and the contents it may come back with."""

    kind: str
    data: bytes = b""
    mode: int = 0
    children: dict[str, "Inode"] = field(default_factory=dict)
    allowed: list[bytes] = field(default_factory=list)


Found = dict[str, tuple[str, frozenset[bytes], int, int]]
"""By path: kind, what it may hold, mode, and a number that the names of one file share."""


class Model:
    """What a file system without crashes holds after each call; `OSError` as POSIX has it."""

    def __init__(self) -> None:
        self.root = Inode("directory")
        self._writes = 0

    def do(self, step: Step) -> None:
        getattr(self, "_" + step.call)(*step.args)

    def found(self) -> Found:
        """Everything there is."""
        out: Found = {}
        numbers: dict[int, int] = {}

        def walk(prefix: str, directory: Inode) -> None:
            for name, inode in sorted(directory.children.items()):
                number = numbers.setdefault(id(inode), len(numbers))
                out[prefix + name] = (inode.kind, frozenset({inode.data, *inode.allowed}), inode.mode, number)
                walk(prefix + name + "/", inode)

        walk("", self.root)
        return out

    def _at(self, path: str) -> Inode:
        inode = self.root
        for name in path.split("/"):
            if name == ".":
                continue
            if inode.kind != "directory":
                raise OSError(errno.ENOTDIR, path)
            if name not in inode.children:
                raise OSError(errno.ENOENT, path)
            inode = inode.children[name]
        return inode

    def _place(self, path: str) -> tuple[Inode, str]:
        parent, _, name = path.rpartition("/")
        directory = self._at(parent or ".")
        if directory.kind != "directory":
            raise OSError(errno.ENOTDIR, path)
        return directory, name

    def _new(self, path: str, inode: Inode) -> Inode:
        directory, name = self._place(path)
        if name in directory.children:
            raise OSError(errno.EEXIST, path)
        directory.children[name] = inode
        return inode

    def _file(self, path: str) -> Inode:
        directory, name = self._place(path)
        inode = directory.children.get(name) or self._new(path, Inode("file", mode=0o644, allowed=[b""]))
        if inode.kind != "file":
            raise OSError(errno.EISDIR, path)
        return inode

    def _become(self, inode: Inode, data: bytes) -> None:
        inode.allowed.append(inode.data)
        inode.data = data

    def content(self, size: str) -> bytes:
        """Bytes that say which write they are of."""
        self._writes += 1
        return (b"%07d\n" % self._writes * (int(size) // 8 + 1))[: int(size)]

    def _mkdir(self, path: str) -> None:
        self._new(path, Inode("directory"))

    def _touch(self, path: str) -> None:
        self._file(path)

    def _write(self, path: str, size: str) -> None:
        inode = self._file(path)
        self._become(inode, self.content(size))

    def _append(self, path: str, size: str) -> None:
        inode = self._at(path)
        if inode.kind != "file":
            raise OSError(errno.EISDIR, path)
        self._become(inode, inode.data + self.content(size))

    def _truncate(self, path: str, size: str) -> None:
        inode = self._at(path)
        if inode.kind != "file":
            raise OSError(errno.EISDIR, path)
        self._become(inode, inode.data[: int(size)].ljust(int(size), b"\0"))

    def _symlink(self, target: str, path: str) -> None:
        self._new(path, Inode("symlink", os.fsencode(target)))

    def _link(self, old: str, new: str) -> None:
        inode = self._at(old)
        if inode.kind == "directory":
            raise OSError(errno.EPERM, old)
        self._new(new, inode)

    def _unlink(self, path: str) -> None:
        directory, name = self._place(path)
        if self._at(path).kind == "directory":
            raise OSError(errno.EISDIR, path)
        del directory.children[name]

    def _rmdir(self, path: str) -> None:
        directory, name = self._place(path)
        inode = self._at(path)
        if inode.kind != "directory":
            raise OSError(errno.ENOTDIR, path)
        if inode.children:
            raise OSError(errno.ENOTEMPTY, path)
        del directory.children[name]

    def _rename(self, old: str, new: str) -> None:
        inode = self._at(old)
        source, old_name = self._place(old)
        target, new_name = self._place(new)
        there = target.children.get(new_name)
        if there is inode:
            return
        if there is not None and (there.kind == "directory") != (inode.kind == "directory"):
            raise OSError(errno.EISDIR if there.kind == "directory" else errno.ENOTDIR, new)
        if there is not None and there.children:
            raise OSError(errno.ENOTEMPTY, new)
        if inode.kind == "directory" and (new + "/").startswith(old + "/"):
            raise OSError(errno.EINVAL, new)
        del source.children[old_name]
        target.children[new_name] = inode

    def _chmod(self, path: str, mode: str) -> None:
        self._at(path).mode = int(mode, 8)

    def _fsync(self, path: str) -> None:
        self._at(path).allowed.clear()

    def _sync(self) -> None:
        waiting = [self.root]
        while waiting:
            inode = waiting.pop()
            inode.allowed.clear()
            waiting += inode.children.values()


def is_possible(steps: Iterable[Step]) -> bool:
    """Whether every call of a script succeeds."""
    model = Model()
    try:
        for step in steps:
            model.do(step)
    except OSError:
        return False
    return True


def outcomes(steps: tuple[Step, ...]) -> list[Found]:
    """What a power cut at the end may leave: the state after the last sync, or after any later call."""
    model = Model()
    out: list[Found] = []
    for step in steps:
        model.do(step)
        if step.call in DURABLE:
            out.clear()
        out.append(model.found())
    return out


def explain(seen: Found, allowed: list[Found]) -> str | None:
    """None if what was seen is one of the outcomes, else how it differs from the last one."""
    for found in reversed(allowed):
        if _differs(seen, found) is None:
            return None
    return _differs(seen, allowed[-1])


def _differs(seen: Found, found: Found) -> str | None:
    if seen.keys() != found.keys():
        return f"there are {sorted(seen)}, not {sorted(found)}"
    for path, (kind, contents, mode, number) in seen.items():
        expected = found[path]
        if kind != expected[0]:
            return f"{path} is a {kind}, not a {expected[0]}"
        if not contents <= expected[1]:
            sizes = sorted(map(len, expected[1]))
            return f"{path} holds {len(next(iter(contents)))} bytes that are none of its versions, of {sizes}"
        if mode != expected[2]:
            return f"{path} has mode {mode:o}, not {expected[2]:o}"
        if number != expected[3]:
            return f"{path} is another file than the names it was linked to"
    return None
