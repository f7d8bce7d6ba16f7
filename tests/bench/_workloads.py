"""What programs do to a file system, each a thing that can be timed.

None of them calls fsync. The client of the small-file workloads is Python calling the system calls
itself: about 5 µs a call, the same on every file system.
"""

import os
import random
import select
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

SMALL_BYTES: Final = 4096
BLOCK_BYTES: Final = 1 << 20
FILES_A_DIRECTORY: Final = 100
SEED: Final = 20
COMMAND_S: Final = 300.0
GIT_ENVIRONMENT: Final = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C.UTF-8",
}


def run(*command: str | Path) -> None:
    """Run a program that must succeed; what it prints is dropped. TimeoutError if it hangs."""
    process = subprocess.Popen(
        list(map(str, command)), env=GIT_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    # Popen.wait with a timeout polls, 50 ms apart in the end: too coarse to time with.
    descriptor = os.pidfd_open(process.pid)
    try:
        ending = select.poll()
        ending.register(descriptor, select.POLLIN)
        if not ending.poll(COMMAND_S * 1000):
            process.kill()
            raise TimeoutError(f"{command[0]} still runs after {COMMAND_S} s")
    finally:
        os.close(descriptor)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


class Material:
    """What the workloads write: made once, the same in every run, on a file system in memory."""

    def __init__(self, directory: Path, scale: float) -> None:
        self.small_files = max(FILES_A_DIRECTORY, int(5000 * scale))
        self.large_bytes = max(16, int(256 * scale)) * BLOCK_BYTES
        self.random_file_bytes = self.large_bytes // 4
        self.random_operations = max(256, int(8192 * scale))
        source = random.Random(SEED)
        self.content = b"".join(source.randbytes(BLOCK_BYTES) for _ in range(self.large_bytes // BLOCK_BYTES))
        self.archive = directory / "archive.tar"
        self.repository = directory / "repository"
        self.archive_entries = self._write_archive(max(100, int(2500 * scale)))
        self.repository_files = self._make_repository(max(50, int(2000 * scale)))
        self.offsets = random.Random(SEED).sample(
            range(0, self.random_file_bytes, SMALL_BYTES),
            min(self.random_operations, self.random_file_bytes // SMALL_BYTES),
        )

    def small(self, index: int) -> bytes:
        """4 KiB that no other index has."""
        start = index * SMALL_BYTES % (self.large_bytes - SMALL_BYTES)
        return self.content[start : start + SMALL_BYTES]

    def _write_archive(self, entries: int) -> int:
        """A directory for every 19 files of 0 to 16 KiB. No symbolic links: rclone has none."""
        choose = random.Random(SEED)
        with tarfile.open(self.archive, "w") as archive:
            directory = "tree"
            for index in range(entries):
                if index % 20 == 0:
                    directory = f"tree/{index:05}"
                    info = tarfile.TarInfo(directory)
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                else:
                    info = tarfile.TarInfo(f"{directory}/file{index}")
                    info.size = choose.randrange(16 << 10)
                info.mtime = 1_700_000_000 + index
                start = index * 17_000 % (self.large_bytes - (16 << 10))
                archive.addfile(info, BytesIO(self.content[start : start + info.size]))
        return entries

    def _make_repository(self, files: int) -> int:
        choose = random.Random(SEED)
        self.repository.mkdir()
        for index in range(files):
            path = self.repository / f"part{index // 50}" / f"module{index}.txt"
            path.parent.mkdir(exist_ok=True)
            lines = (f"{choose.getrandbits(64):x} {index}" for _ in range(choose.randrange(10, 300)))
            path.write_text("\n".join(lines))
        git = ("git", "-C", self.repository)
        run(*git, "init", "-q", "-b", "main")
        run(*git, "add", ".")
        run(*git, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "all")
        run(*git, "repack", "-adq")
        return files


@dataclass(frozen=True, slots=True)
class Workload:
    """Something to time in a directory, which finds there what the workloads before it left."""

    name: str
    run: Callable[[Path, Material], None]
    prepare: Callable[[Path, Material], None] | None = None
    is_cold: bool = False
    """Everything is restarted and every cache emptied before."""


def _small_path(root: Path, index: int) -> str:
    return f"{root}/small/{index // FILES_A_DIRECTORY}/{index}"


def make_directories(root: Path, material: Material) -> None:
    for index in range(0, material.small_files, FILES_A_DIRECTORY):
        Path(_small_path(root, index)).parent.mkdir(parents=True)


def create(root: Path, material: Material) -> None:
    for index in range(material.small_files):
        descriptor = os.open(_small_path(root, index), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(descriptor, material.small(index))
        os.close(descriptor)


def list_all(root: Path, _material: Material) -> None:
    run("ls", "-lR", root / "small")


def read_small(root: Path, material: Material) -> None:
    for index in range(material.small_files):
        descriptor = os.open(_small_path(root, index), os.O_RDONLY)
        data = os.read(descriptor, 2 * SMALL_BYTES)
        os.close(descriptor)
        if data != material.small(index):
            raise AssertionError(f"file {index} holds something else")


def remove(root: Path, _material: Material) -> None:
    run("rm", "-rf", root / "small")


def untar(root: Path, material: Material) -> None:
    (root / "untar").mkdir()
    run("tar", "-xf", material.archive, "-C", root / "untar")


def clone(root: Path, material: Material) -> None:
    run("git", "clone", "-q", "--no-hardlinks", material.repository, root / "clone")


def status(root: Path, _material: Material) -> None:
    run("git", "-C", root / "clone", "status", "--porcelain")


def _write_blocks(path: Path, content: bytes) -> None:
    view = memoryview(content)
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    for start in range(0, len(content), BLOCK_BYTES):
        os.write(descriptor, view[start : start + BLOCK_BYTES])
    os.close(descriptor)


def write_large(root: Path, material: Material) -> None:
    _write_blocks(root / "large", material.content)


def read_large(root: Path, material: Material) -> None:
    view = memoryview(material.content)
    descriptor = os.open(root / "large", os.O_RDONLY)
    buffer = bytearray(BLOCK_BYTES)
    for start in range(0, material.large_bytes, BLOCK_BYTES):
        count = os.readv(descriptor, [buffer])
        if memoryview(buffer)[:64] != view[start : start + 64] or count != BLOCK_BYTES:
            raise AssertionError(f"the block at {start} holds something else")
    os.close(descriptor)


def make_random_file(root: Path, material: Material) -> None:
    _write_blocks(root / "random", material.content[: material.random_file_bytes][::-1])


def write_randomly(root: Path, material: Material) -> None:
    descriptor = os.open(root / "random", os.O_WRONLY)
    for index, offset in enumerate(material.offsets):
        os.pwrite(descriptor, material.small(index), offset)
    os.close(descriptor)


def read_randomly(root: Path, material: Material) -> None:
    descriptor = os.open(root / "random", os.O_RDONLY)
    for index, offset in enumerate(material.offsets):
        if os.pread(descriptor, SMALL_BYTES, offset) != material.small(index):
            raise AssertionError(f"the 4 KiB at {offset} are something else")
    os.close(descriptor)


WORKLOADS: Final = (
    Workload("create 4 KiB files", create, make_directories),
    Workload("ls -lR warm", list_all, list_all),
    Workload("read 4 KiB files, cold", read_small, is_cold=True),
    Workload("rm -rf", remove),
    Workload("untar", untar),
    Workload("git clone", clone),
    Workload("git status", status),
    Workload("sequential write 1M", write_large),
    Workload("sequential read, cold", read_large, is_cold=True),
    Workload("4 KiB random write", write_randomly, make_random_file),
    Workload("4 KiB random read, cold", read_randomly, is_cold=True),
)
