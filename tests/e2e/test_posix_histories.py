"""Random histories of calls on names and open files: a mount and a native file system agree call by call."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.e2e.processes import EXCHANGE, NOREPLACE, renameat2

FEW, MANY = 8, 200
STEPS = 40
SPAN = 200_000
OLD_NS = 1_000_000_007
OPEN_MAX = 6
DIRECTORIES = ("", "d", "e", "d/d")
NAMES = ("a", "b", "c", "d", "e")
WAYS = (
    *(os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    *(os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_APPEND | os.O_CREAT, os.O_RDONLY | os.O_TRUNC),
    *(os.O_RDONLY | os.O_NOFOLLOW, os.O_RDONLY | os.O_DIRECTORY, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW),
)

paths = st.builds(
    lambda above, name: f"{above}/{name}".lstrip("/"), st.sampled_from(DIRECTORIES), st.sampled_from(NAMES)
)
places = st.one_of(st.sampled_from((0, 1, 4095, 4096, 65_536, 131_072)), st.integers(0, SPAN))
data = st.builds(
    lambda byte, length: bytes([byte]) * length, st.integers(1, 255), st.sampled_from((1, 100, 4096, 70_000))
)
modes = st.sampled_from((0o000, 0o600, 0o644, 0o755, 0o1777, 0o4711, 0o2755))
descriptors = st.integers(0, OPEN_MAX - 1)
CONTENT: dict[int, Callable[[Path], object]] = {
    stat.S_IFREG: Path.read_bytes,
    stat.S_IFLNK: os.readlink,
    stat.S_IFDIR: lambda path: sorted(os.listdir(path)),
}


class Side:
    """A directory on one of the two file systems, with what is open in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open: list[int] = []

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def close(self) -> None:
        for descriptor in self.open:
            os.close(descriptor)
        self.open.clear()


class Agreement(RuleBasedStateMachine):
    """Each rule is one call on both sides; what it returns, and what is there after it, must be equal."""

    here: Path
    native: Path

    def __init__(self) -> None:
        super().__init__()
        self.sides = [
            Side(Path(tempfile.mkdtemp(prefix="history-", dir=top))) for top in (self.here, self.native)
        ]

    def teardown(self) -> None:
        for side in self.sides:
            side.close()

    def both(self, act: Callable[[Side], object]) -> object:
        ours, theirs = (_result(partial(act, side)) for side in self.sides)
        assert ours == theirs
        return ours

    # Names

    @rule(path=paths, mode=modes)
    def make_directory(self, path: str, mode: int) -> None:
        self.both(lambda side: os.mkdir(side.path(path), mode))

    @rule(path=paths, kind=st.sampled_from((stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)), mode=modes)
    def make_node(self, path: str, kind: int, mode: int) -> None:
        self.both(lambda side: os.mknod(side.path(path), kind | mode))

    @rule(path=paths, content=st.one_of(paths, st.just("x" * 300), st.just(".")))
    def make_symbolic_link(self, path: str, content: str) -> None:
        self.both(lambda side: os.symlink(content, side.path(path)))
        self.both(lambda side: os.readlink(side.path(path)))

    @rule(old=paths, new=paths, follows=st.booleans())
    def make_link(self, old: str, new: str, follows: bool) -> None:
        self.both(
            lambda side: os.link(
                side.path(old), side.path(new), src_dir_fd=0, dst_dir_fd=0, follow_symlinks=follows
            )
        )

    @rule(old=paths, new=paths, flags=st.sampled_from((0, 0, 0, NOREPLACE, EXCHANGE)))
    def rename(self, old: str, new: str, flags: int) -> None:
        self.both(lambda side: renameat2(Path(side.path(old)), Path(side.path(new)), flags))

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.both(lambda side: os.unlink(side.path(path)))

    @rule(path=paths)
    def remove_directory(self, path: str) -> None:
        self.both(lambda side: os.rmdir(side.path(path)))

    # Attributes

    @rule(path=paths, mode=modes)
    def change_mode(self, path: str, mode: int) -> None:
        self.both(lambda side: os.chmod(side.path(path), mode))

    @precondition(lambda _self: os.geteuid() == 0)
    @rule(
        path=paths,
        uid=st.sampled_from((-1, 0, 1234)),
        gid=st.sampled_from((-1, 0, 4321)),
        follows=st.booleans(),
    )
    def change_owner(self, path: str, uid: int, gid: int, follows: bool) -> None:
        self.both(lambda side: os.chown(side.path(path), uid, gid, follow_symlinks=follows))

    @rule(path=paths, ns=st.integers(-(10**18), 10**18))
    def set_times(self, path: str, ns: int) -> None:
        self.both(lambda side: os.utime(side.path(path), ns=(ns, ns)))
        self.both(lambda side: os.stat(side.path(path)).st_mtime_ns)

    @rule(path=paths, name=st.sampled_from(("user.one", "user.two", "user.", "strange.one")), value=data)
    def set_attribute(self, path: str, name: str, value: bytes) -> None:
        value = value[:1000]
        self.both(lambda side: os.setxattr(side.path(path), name, value))
        self.both(lambda side: os.getxattr(side.path(path), name))
        self.both(lambda side: sorted(os.listxattr(side.path(path))))

    @rule(path=paths, name=st.sampled_from(("user.one", "user.two")))
    def remove_attribute(self, path: str, name: str) -> None:
        self.both(lambda side: os.removexattr(side.path(path), name))

    @rule()
    def age(self) -> None:
        """What is touched from now on shows it by another time than this one."""
        for side in self.sides:
            for path in _below(side.root):
                os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)

    # Open files

    @precondition(lambda self: len(self.sides[0].open) < OPEN_MAX)
    @rule(path=paths, how=st.sampled_from(WAYS), mode=modes)
    def open_file(self, path: str, how: int, mode: int) -> None:
        def act(side: Side) -> None:
            side.open.append(os.open(side.path(path), how | os.O_NONBLOCK, mode))

        self.both(act)

    @rule(number=descriptors)
    def close_file(self, number: int) -> None:
        self.on_open(number, lambda side, _: os.close(side.open.pop(number)))

    @rule(number=descriptors, offset=places, block=data)
    def write_at(self, number: int, offset: int, block: bytes) -> None:
        self.on_open(number, lambda _, descriptor: os.pwrite(descriptor, block, offset))

    @rule(number=descriptors, block=data)
    def write_on(self, number: int, block: bytes) -> None:
        self.on_open(number, lambda _, descriptor: os.write(descriptor, block))

    @rule(number=descriptors, length=st.integers(0, SPAN))
    def read_on(self, number: int, length: int) -> None:
        self.on_open(number, lambda _, descriptor: os.read(descriptor, length))

    @rule(number=descriptors, offset=places, whence=st.sampled_from((os.SEEK_SET, os.SEEK_END, os.SEEK_CUR)))
    def seek(self, number: int, offset: int, whence: int) -> None:
        self.on_open(number, lambda _, descriptor: _sought(descriptor, offset, whence))

    @rule(number=descriptors, size=places)
    def cut(self, number: int, size: int) -> None:
        self.on_open(number, lambda _, descriptor: os.ftruncate(descriptor, size))

    @rule(path=paths, size=places)
    def cut_by_name(self, path: str, size: int) -> None:
        self.both(lambda side: os.truncate(side.path(path), size))

    @rule(number=descriptors)
    def sync(self, number: int) -> None:
        self.on_open(number, lambda _, descriptor: os.fsync(descriptor))

    def on_open(self, number: int, act: Callable[[Side, int], object]) -> None:
        if number < len(self.sides[0].open):
            self.both(lambda side: act(side, side.open[number]))

    @invariant()
    def what_is_there_is_equal(self) -> None:
        ours, theirs = (_picture(side) for side in self.sides)
        assert ours == theirs


def _result(call: Callable[[], object]) -> object:
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _sought(descriptor: int, offset: int, whence: int) -> int | None:
    """Places in a directory are each file system's own."""
    place = os.lseek(descriptor, offset, whence)
    return None if stat.S_ISDIR(os.fstat(descriptor).st_mode) else place


def _picture(side: Side) -> list[object]:
    """All that can be seen: every name with its attributes and content, and every open file."""
    shown: list[object] = [_attributes(os.stat(side.root))]
    for path in _below(side.root):
        found = path.lstat()
        kind = stat.S_IFMT(found.st_mode)
        look = CONTENT.get(kind)
        content = None if look is None else _result(partial(look, path))
        shown.append((str(path.relative_to(side.root)), _attributes(found), content))
    return shown + [_attributes(os.fstat(descriptor)) for descriptor in side.open]


def _below(directory: Path) -> Iterator[Path]:
    """All that this user may reach."""
    try:
        names = sorted(os.listdir(directory))
        found = [(directory / name, (directory / name).lstat()) for name in names]
    except PermissionError:
        return
    for path, status in found:
        yield path
        if stat.S_ISDIR(status.st_mode):
            yield from _below(path)


def _attributes(found: os.stat_result) -> tuple[object, ...]:
    size = None if stat.S_ISDIR(found.st_mode) else found.st_size
    # What goes through a FIFO is the kernel's alone: it tells no file system of FUSE that its time moves.
    is_old = None if stat.S_ISFIFO(found.st_mode) else found.st_mtime_ns == OLD_NS
    return found.st_mode, found.st_nlink, found.st_uid, found.st_gid, size, is_old


@pytest.mark.parametrize("here", ["kernel"], indirect=True)
@pytest.mark.parametrize("histories", [FEW, pytest.param(MANY, marks=pytest.mark.soak)], ids=["few", "many"])
def test_a_mount_and_a_native_file_system_agree_call_by_call(
    here: Path, tmp_path: Path, histories: int
) -> None:
    class OnMount(Agreement):
        pass

    OnMount.here, OnMount.native = here, tmp_path
    run_state_machine_as_test(
        OnMount,
        settings=settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=histories == FEW,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
