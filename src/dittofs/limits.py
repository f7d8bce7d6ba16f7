"""How fast this device may send and receive, as its user chose: a file of rules, and what holds now."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from dittofs.blocking import RunBlocking
from dittofs.clock import Clock
from dittofs.disk import read_whole, replace_whole
from dittofs.errors import ConfigError, DittoError
from dittofs.local_disk import LocalDisk, translated
from dittofs.rate_limits import RateLimit, read_rules
from dittofs.replication.allowance import Allowances

log = structlog.get_logger()

FILE: Final = "limits"
FILE_BYTES_MAX: Final = 64 << 10
HEAD: Final = "# One rule a line; of those that hold at a time the last one counts. dittofs limit --help"


class Limits:
    """A line of the file that is no rule is passed over and told of: it stops nothing."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.path = directory / FILE
        self.allowances = Allowances(clock)
        self.rules: tuple[RateLimit, ...] = ()
        self.problems: tuple[str, ...] = ()
        """A sentence for each line that was passed over."""
        self._remarks: list[str] = []
        self._is_unread = False
        """What the file says is not known, and may not be overwritten."""

    def read(self) -> None:
        """Blocking: take up what the file says."""
        self.rules, self.problems, self._remarks, self._is_unread = (), (), [], False
        if self.path.parent.is_dir():
            try:
                data = read_whole(LocalDisk(str(self.path.parent)), FILE, FILE_BYTES_MAX + 1) or b""
                self._take(data)
            except DittoError as error:
                self._is_unread = True
                self.problems = (f"{self.path} cannot be read, and limits nothing: {error}",)
        for problem in self.problems:
            log.warning("a limit is passed over", reason=problem)
        self.allowances.choose(self.rules)

    def _take(self, data: bytes) -> None:
        if len(data) > FILE_BYTES_MAX:
            self._is_unread = True
            self.problems = (f"{self.path} is longer than {FILE_BYTES_MAX >> 10} KiB, and limits nothing",)
            return
        text = data.decode("utf-8", "backslashreplace")
        self.rules, passed = read_rules(text, str(self.path))
        self.problems = tuple(passed.values())
        for number, line in enumerate(text.splitlines(), start=1):
            if line.lstrip().startswith("#") and line != HEAD:
                self._remarks.append(line)
            elif number in passed:
                self._remarks.append(f"# passed over: {line}")

    async def choose(self, rules: Sequence[RateLimit], run_blocking: RunBlocking) -> None:
        """These hold from now on, and after a restart. DiskError, ConfigError: all is as before.

        A file that could not be read is not overwritten, and none is written that would not be read.
        """
        if self._is_unread:
            raise ConfigError(f"{self.path} was not read, and is not overwritten: move it away first")
        await run_blocking(self._write, rules)
        self.rules, self.problems = tuple(rules), ()
        self.allowances.choose(self.rules)

    def _write(self, rules: Sequence[RateLimit]) -> None:
        text = "\n".join([HEAD, *self._remarks, *map(str, rules), ""])
        data = text.encode()
        if len(data) > FILE_BYTES_MAX:
            size = f"{FILE_BYTES_MAX >> 10} KiB"
            raise ConfigError(f"{self.path} would be longer than {size}: take remarks out of it first")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise translated(error, f"making {self.path.parent}") from error
        replace_whole(LocalDisk(str(self.path.parent)), FILE, data)
