"""Merge programs of this device's settings, for what is not lines of text. Nothing from a peer names one."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pathspec

from dittofs.errors import DiskError

DRIVER_S: Final = 60.0
DRIVER_BYTES_MAX: Final = 256 << 20
"""Of one side, and of what the program makes."""
BASE, OURS, THEIRS, OUT = ("{base}", "{ours}", "{theirs}", "{out}")


class Drivers:
    """Programs by pattern; of several that match the last counts."""

    def __init__(self, programs: Mapping[str, Sequence[str]]) -> None:
        self._programs = [
            (pathspec.GitIgnoreSpec.from_lines([pattern]), tuple(words))
            for pattern, words in programs.items()
        ]

    def of(self, path: bytes) -> tuple[str, ...] | None:
        """The program for a file."""
        text = path.decode("utf-8", "surrogateescape")
        return next((words for spec, words in reversed(self._programs) if spec.match_file(text)), None)


def run_driver(words: Sequence[str], name: bytes, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """What the program makes of three contents; None if it says, by its exit status, that it cannot.

    Blocks, DRIVER_S at most; then the program is ended with all it started. It runs in a directory of its
    own, with copies named like the file, nothing on its stdin, and its output thrown away. DiskError if it
    cannot be run, ends by a signal, or makes too much.
    """
    directory = Path(tempfile.mkdtemp(prefix="dittofs-merge-"))
    try:
        places = {}
        for what, content in ((BASE, base), (OURS, ours), (THEIRS, theirs), (OUT, None)):
            below = directory / what.strip("{}")
            below.mkdir()
            file = os.fsencode(below) + b"/" + name
            places[what] = os.fsdecode(file)
            if content is not None:
                Path(places[what]).write_bytes(content)
        return _run([_filled(word, places) for word in words], directory, Path(places[OUT]))
    except OSError as error:
        raise DiskError(f"the merge program {words[0]} cannot be run: {error.strerror}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, path in places.items():
        word = word.replace(place, path)
    return word


def _run(words: Sequence[str], directory: Path, out: Path) -> bytes | None:
    process = subprocess.Popen(
        words,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = process.wait(DRIVER_S)
    except subprocess.TimeoutExpired:
        raise DiskError(f"the merge program {words[0]} did not end within {DRIVER_S:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it left running in its session
        process.wait()
    if status < 0:
        raise DiskError(f"the merge program {words[0]} was ended by signal {-status}")
    if status or not out.is_file():
        return None
    if out.stat().st_size > DRIVER_BYTES_MAX:
        raise DiskError(f"the merge program {words[0]} made more than {DRIVER_BYTES_MAX >> 20} MiB")
    return out.read_bytes()
