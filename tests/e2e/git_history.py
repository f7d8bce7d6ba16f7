"""A git repository with many files and some history, made without a network."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

FILES = 5_200
COMMITS = 12
CHANGED_EACH = 150
FIRST_S = 1_700_000_000


def make_repository(directory: Path) -> Path:
    """A bare repository with FILES files and COMMITS commits: the same bytes each time."""
    repository = directory / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], check=True)
    stream = b"".join(_history(random.Random(1)))
    subprocess.run(["git", "-C", repository, "fast-import", "--quiet"], input=stream, check=True)
    return repository


def _history(chance: random.Random) -> Iterator[bytes]:
    paths = [f"part-{number % 97}/sub-{number % 7}/file-{number}.txt" for number in range(FILES)]
    for commit in range(COMMITS):
        message = f"change {commit}\n\nwhat was done and why\n".encode()
        when = FIRST_S + 3600 * commit
        yield b"commit refs/heads/main\ncommitter A Person <person@example.org> %d +0000\n" % when
        yield b"data %d\n%s\n" % (len(message), message)
        for path in paths if commit == 0 else chance.sample(paths, CHANGED_EACH):
            content = _text(chance, path, commit)
            mode = b"100755" if path.endswith("7.txt") else b"100644"
            yield b"M %s inline %s\ndata %d\n%s\n" % (mode, path.encode(), len(content), content)
        link = f"../part-{commit}".encode()
        yield b"M 120000 inline links/link-%d\ndata %d\n%s\n" % (commit, len(link), link)


def _text(chance: random.Random, path: str, commit: int) -> bytes:
    lines = [f"{path} as of {commit}"]
    lines += [f"line {number} {chance.getrandbits(64):x}" for number in range(chance.randrange(2, 120))]
    return "\n".join(lines).encode() + b"\n"
