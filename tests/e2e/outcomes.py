"""What two devices do apart, and what both show together again: the table of concurrent outcomes.

Each row works in a directory of its own. An act is done by one side, which knows where it works itself and
where the other side does.
"""

import datetime
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.e2e.processes import EXCHANGE, renameat2

FIRST: Final = "of who acts first"
LAST: Final = "of who acts last"
OLD: Final = "as it was"
DIRECTORY: Final = "/"

Shown = Mapping[str, str]
_ASIDE = re.compile(r" \(conflict, [^)]*\)")


@dataclass(frozen=True)
class Side:
    """One of the two, in a row's directory."""

    name: str
    here: Path
    there: Path
    is_second: bool = False

    @property
    def text(self) -> str:
        """What it writes."""
        return f"from {self.name}"


Act = Callable[[Side], object]


def do(*acts: Act) -> Act:
    """Several, one after the other."""

    def all_of_them(side: Side) -> None:
        for act in acts:
            act(side)

    return all_of_them


def nothing(_: Side) -> None:
    """The row begins empty."""


def make(name: str, text: str = "") -> Act:
    """Write a whole file: by default what the side writes."""
    return lambda side: (side.here / name).write_text(text or side.text)


def append(name: str) -> Act:
    def act(side: Side) -> None:
        with (side.here / name).open("a") as file:
            file.write(f", and {side.text}")

    return act


def truncate(name: str, size: int) -> Act:
    return lambda side: os.truncate(side.here / name, size)


def mkdir(name: str) -> Act:
    return lambda side: (side.here / name).mkdir()


def unlink(name: str) -> Act:
    return lambda side: (side.here / name).unlink()


def rmdir(name: str) -> Act:
    return lambda side: (side.here / name).rmdir()


def remove_tree(name: str) -> Act:
    return lambda side: shutil.rmtree(side.here / name)


def rename(old: str, new: str) -> Act:
    return lambda side: (side.here / old).rename(side.here / new)


def exchange(one: str, other: str) -> Act:
    return lambda side: renameat2(side.here / one, side.here / other, EXCHANGE)


def link(old: str, new: str) -> Act:
    return lambda side: os.link(side.here / old, side.here / new)


def symlink(name: str, target: str = "") -> Act:
    return lambda side: os.symlink(target or side.text, side.here / name)


def save(name: str) -> Act:
    """As editors do: a file beside it, renamed over it."""
    return lambda side: do(make(f".{name}.{side.name}"), rename(f".{name}.{side.name}", name))(side)


def retarget(name: str) -> Act:
    return lambda side: do(symlink(f".{name}.{side.name}"), rename(f".{name}.{side.name}", name))(side)


def chmod(name: str, mode: int) -> Act:
    return lambda side: (side.here / name).chmod(mode)


def chown(name: str, owner: int) -> Act:
    return lambda side: os.chown(side.here / name, owner, owner)


def utime(name: str, seconds: int) -> Act:
    return lambda side: os.utime(side.here / name, ns=(seconds * 10**9, seconds * 10**9))


def set_xattr(name: str, attribute: str, value: bytes) -> Act:
    return lambda side: os.setxattr(side.here / name, attribute, value)


def entry_aside(directory: Path) -> Path:
    """The one conflict entry of f."""
    (found,) = [path for path in directory.iterdir() if _ASIDE.search(path.name)]
    return found


def edit_aside(side: Side) -> None:
    entry_aside(side.here).write_text(side.text)


def unlink_aside(side: Side) -> None:
    entry_aside(side.here).unlink()


def make_the_name_that_will_be_shown(side: Side) -> None:
    """The second side does, for the version of the first; it may be dated a second later than its file."""
    if not side.is_second:
        return
    other = "birch" if side.name == "alder" else "alder"
    for later in range(2):
        second = int((side.there / "f").stat().st_mtime) + later
        moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
        (side.here / f"f (conflict, {other}, {moment:%Y-%m-%d %H.%M.%S}Z)").write_text(f"real {later}")


@dataclass(frozen=True)
class Row:
    """One row: `before` is done by alder, and known to both; then `alder` and `birch` act apart."""

    name: str
    before: Act
    alder: Act
    birch: Act
    shown: Shown | Callable[[bool], Shown]
    """By path; FIRST and LAST stand for what that side writes. Called with whether alder acts first."""
    aside: Sequence[str] | Callable[[bool], Sequence[str]] = ()
    """Contents of conflict entries."""
    divided: tuple[Act, Act] | None = None
    """What both do apart before that, and know of each other."""
    has: Mapping[str, Callable[[Path, bool], object]] = field(default_factory=dict)
    """What else is true of a path, told whether alder acted first."""

    def assert_shown(self, directory: Path, *, is_alder_first: bool) -> None:
        """The row's outcome, in a directory of a mount."""
        texts = {True: "from alder", False: "from birch"}
        values = {FIRST: texts[is_alder_first], LAST: texts[not is_alder_first]}

        def meant(text: str) -> str:
            for word, value in values.items():
                text = text.replace(word, value)
            return text

        expected = self.shown(is_alder_first) if callable(self.shown) else self.shown
        found = show(directory)
        expected_aside = self.aside(is_alder_first) if callable(self.aside) else self.aside
        plain = {path: what for path, what in found.items() if not _ASIDE.search(path)}
        aside = sorted(what for path, what in found.items() if _ASIDE.search(path))
        assert plain == {path: meant(what) for path, what in expected.items()}, f"{directory}: {found}"
        assert aside == sorted(map(meant, expected_aside)), f"{directory}: {found}"
        for path, check in self.has.items():
            assert check(directory / path, is_alder_first), (
                f"{directory / path}: {os.lstat(directory / path)}"
            )


@dataclass(frozen=True)
class RealNameRow(Row):
    """Of the entry with the longer tag; the names that look like conflict entries are real ones."""

    def assert_shown(self, directory: Path, *, is_alder_first: bool) -> None:
        found = sorted(show(directory).values())
        assert found == sorted(["from alder", "from birch", "real 0", "real 1"]), show(directory)
        assert (directory / "f").read_text() == ("from birch" if is_alder_first else "from alder")
        names = sorted(path.name for path in directory.iterdir() if path.read_text().startswith("real"))
        assert len(names) == 2
        assert not any(name.endswith(" 2)") for name in names)


def show(directory: Path) -> dict[str, str]:
    """Contents by path; `/` of a directory, `=target` of a symlink."""
    found: dict[str, str] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"={os.readlink(path)}"
        else:
            found[name] = DIRECTORY if path.is_dir() else path.read_text()
    return found


def inodes(*names: str) -> Callable[[Path, bool], bool]:
    """The path and its siblings `names` are one file."""
    return lambda path, _: len({os.stat(path.parent / name).st_ino for name in (path.name, *names)}) == 1


F = make("f", OLD)
F_G = do(F, make("g", "other"))
TWO_NAMES = do(F, link("f", "g"))
X_Y = do(mkdir("x"), make("x/in-x", "1"), mkdir("y"), make("y/in-y", "2"))
FULL = do(mkdir("d"), mkdir("d/e"), make("d/e/kept", OLD), make("d/e/other", "other"), make("d/top", "top"))
SAVE_SOURCE = do(F, make("h", "old h"), make("t", "new"))
CONFLICT = (make("f"), make("f"))

ROWS: Final = (
    Row("create, create", nothing, make("f"), make("f"), {"f": FIRST}, [LAST]),
    Row("create, mkdir", nothing, make("f"), mkdir("f"), {"f": "/"}, ["from alder"]),
    Row(
        "mkdir, mkdir",
        nothing,
        do(mkdir("d"), mkdir("d/e"), make("d/e/x", "x")),
        do(mkdir("d"), mkdir("d/e"), make("d/e/y", "y")),
        {"d": "/", "d/e": "/", "d/e/x": "x", "d/e/y": "y"},
        has={"d": lambda path, _: path.stat().st_nlink == 3},
    ),
    Row("write, write", F, make("f"), make("f"), {"f": LAST}, [FIRST]),
    Row("write, unlink", F, make("f"), unlink("f"), {"f": "from alder"}),
    Row("unlink, unlink", F, unlink("f"), unlink("f"), {}),
    Row(
        "attributes, unlink",
        F,
        do(chmod("f", 0o600), utime("f", 10**9), set_xattr("f", "user.x", b"1")),
        unlink("f"),
        {},
    ),
    Row("rename, unlink", F, rename("f", "g"), unlink("f"), {"g": OLD}),
    Row(
        "rename, rename elsewhere",
        F,
        rename("f", "g"),
        rename("f", "h"),
        lambda is_alder_first: {"h" if is_alder_first else "g": OLD},
    ),
    Row("rename, write", F, rename("f", "g"), make("f"), {"g": "from birch"}),
    Row(
        "two renamed to one name",
        do(make("f", "from alder"), make("g", "from birch")),
        rename("f", "n"),
        rename("g", "n"),
        {"n": FIRST},
        [LAST],
    ),
    Row("renamed to each other", F_G, rename("f", "g"), rename("g", "f"), {"f": "other", "g": OLD}),
    Row("save, save", F, save("f"), save("f"), {"f": LAST}, [FIRST]),
    Row("save, write", F, save("f"), make("f"), {"f": LAST}, [FIRST]),
    Row(
        "moved below each other",
        X_Y,
        rename("x", "y/x"),
        rename("y", "x/y"),
        lambda is_alder_first: (
            {"y": "/", "y/in-y": "2", "y/x": "/", "y/x/in-x": "1"}
            if is_alder_first
            else {"x": "/", "x/in-x": "1", "x/y": "/", "x/y/in-y": "2"}
        ),
    ),
    Row("rmdir, create inside", mkdir("d"), rmdir("d"), make("d/f"), {"d": "/", "d/f": "from birch"}),
    Row(
        "rm -r, create inside",
        FULL,
        remove_tree("d"),
        make("d/e/fresh"),
        {"d": "/", "d/e": "/", "d/e/fresh": "from birch"},
    ),
    Row(
        "rm -r, write inside",
        FULL,
        remove_tree("d"),
        make("d/e/kept"),
        {"d": "/", "d/e": "/", "d/e/kept": "from birch"},
    ),
    Row("rm -r, rename out", FULL, remove_tree("d"), rename("d/e/kept", "f"), {"f": OLD}),
    Row("rmdir, rename into", do(mkdir("d"), F), rmdir("d"), rename("f", "d/f"), {"d": "/", "d/f": OLD}),
    Row("rmdir, rename", mkdir("d"), rmdir("d"), rename("d", "e"), {"e": "/"}),
    Row("rename, create inside", mkdir("d"), rename("d", "e"), make("d/f"), {"e": "/", "e/f": "from birch"}),
    Row(
        "chmod, chmod",
        F,
        chmod("f", 0o600),
        chmod("f", 0o640),
        {"f": OLD},
        has={"f": lambda path, first: path.stat().st_mode & 0o777 == (0o640 if first else 0o600)},
    ),
    Row(
        "chown, chown",
        F,
        chown("f", 1001),
        chown("f", 1002),
        {"f": OLD},
        has={"f": lambda path, first: path.stat().st_uid == (1002 if first else 1001)},
    ),
    Row(
        "mtime, mtime",
        F,
        utime("f", 10**9),
        utime("f", 10**9 + 5),
        {"f": OLD},
        has={"f": lambda path, first: path.stat().st_mtime == 10**9 + (5 if first else 0)},
    ),
    Row(
        "xattr, xattr",
        F,
        do(set_xattr("f", "user.a", b"1"), set_xattr("f", "user.b", b"1")),
        do(set_xattr("f", "user.b", b"2"), set_xattr("f", "user.c", b"2")),
        {"f": OLD},
        has={
            "f": lambda path, first: (
                [os.getxattr(path, f"user.{name}") for name in "abc"] == [b"1", b"2" if first else b"1", b"2"]
            )
        },
    ),
    Row(
        "truncate, append",
        F,
        truncate("f", 2),
        append("f"),
        lambda is_alder_first: {"f": f"{OLD}, and from birch" if is_alder_first else OLD[:2]},
        lambda is_alder_first: [OLD[:2] if is_alder_first else f"{OLD}, and from birch"],
    ),
    Row("two symlinks", nothing, symlink("s"), symlink("s"), {"s": f"={FIRST}"}, [f"={LAST}"]),
    Row("two equal symlinks", nothing, symlink("s", "t"), symlink("s", "t"), {"s": "=t"}),
    Row(
        "retarget, retarget",
        symlink("s", OLD),
        retarget("s"),
        retarget("s"),
        {"s": f"={LAST}"},
        [f"={FIRST}"],
    ),
    Row(
        "link, unlink of the original",
        TWO_NAMES,
        link("f", "h"),
        unlink("f"),
        {"g": OLD, "h": OLD},
        has={"g": inodes("h")},
    ),
    Row("link, unlink of the last name", F, link("f", "g"), unlink("f"), {"g": OLD}),
    Row(
        "link, write",
        F,
        link("f", "g"),
        make("f"),
        {"f": "from birch", "g": "from birch"},
        has={"f": inodes("g")},
    ),
    Row("equal but for case", nothing, make("f"), make("F"), {"f": "from alder", "F": "from birch"}),
    Row(
        "equal but for the Unicode form",
        nothing,
        make("\u00e9"),
        make("e\u0301"),
        {"\u00e9": "from alder", "e\u0301": "from birch"},
    ),
    Row(
        "chmod, write",
        F,
        chmod("f", 0o600),
        make("f"),
        {"f": "from birch"},
        has={"f": lambda path, _: path.stat().st_mode & 0o777 == 0o600},
    ),
    Row(
        "chmod, utimens",
        F,
        chmod("f", 0o600),
        utime("f", 10**9),
        {"f": OLD},
        has={"f": lambda path, _: (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o600, 10**9)},
    ),
    Row(
        "chown, chmod",
        F,
        chown("f", 1001),
        chmod("f", 0o600),
        {"f": OLD},
        has={"f": lambda path, _: (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, 1001)},
    ),
    Row("unlink of either name", TWO_NAMES, unlink("f"), unlink("g"), {}),
    Row(
        "unlink of all names, write",
        TWO_NAMES,
        do(unlink("f"), unlink("g")),
        make("f"),
        {"g": "from birch"},
    ),
    Row("unlink, rename, another name", TWO_NAMES, unlink("f"), rename("f", "h"), {"g": OLD, "h": OLD}),
    Row("save, unlink", F, save("f"), unlink("f"), {"f": "from alder"}),
    Row("save, rename", F, save("f"), rename("f", "g"), {"g": "from alder"}),
    Row("save, link", F, save("f"), link("f", "g"), {"f": "from alder", "g": "from alder"}),
    Row(
        "save, write of its source",
        SAVE_SOURCE,
        rename("t", "f"),
        make("t"),
        {"f": "new", "h": "old h", "t": "from birch"},
    ),
    Row("save over two", SAVE_SOURCE, rename("t", "f"), rename("t", "h"), {"f": "new", "h": "new"}),
    Row("exchange, exchange", F_G, exchange("f", "g"), exchange("f", "g"), {"f": "other", "g": OLD}),
    Row(
        "merged directory moved twice",
        nothing,
        rename("d", "x"),
        rename("d", "y"),
        lambda is_alder_first: (
            {"y": "/", "y/alder": "1", "y/birch": "2"}
            if is_alder_first
            else {"x": "/", "x/alder": "1", "x/birch": "2"}
        ),
        divided=(do(mkdir("d"), make("d/alder", "1")), do(mkdir("d"), make("d/birch", "2"))),
    ),
    Row(
        "conflict entry: edit, unlink",
        F,
        edit_aside,
        unlink_aside,
        {"f": "from birch"},
        ["from alder"],
        divided=(make("f", "one"), make("f")),
    ),
    Row(
        "rename with a conflict entry",
        F,
        rename("f", "g"),
        nothing,
        {"g": "from birch"},
        ["from alder"],
        divided=CONFLICT,
        has={".": lambda path, _: entry_aside(path).name.startswith("g (conflict, alder")},
    ),
    RealNameRow(
        "a real name like a conflict entry's",
        F,
        do(make("f"), make_the_name_that_will_be_shown),
        do(make("f"), make_the_name_that_will_be_shown),
        {},
    ),
)
