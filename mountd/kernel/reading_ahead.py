"""How far the kernel reads ahead of programs: one request for a large part costs less than many for small.

The kernel takes the distance when a file is opened, from a setting of the whole mount, just after it was
answered (Linux, do_dentry_open; Documentation/ABI/testing/sysfs-class-bdi). INIT can lower it, not raise it.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from dittofs.control.mountpoint import mounted_at, mounts

log = structlog.get_logger()

DEVICES: Final = Path("/sys/class/bdi")
SETTING: Final = "read_ahead_kb"
FAR_KIB: Final = 1024
"""The largest request there is (wire.WRITE_BYTES_MAX)."""
LARGE_BYTES: Final = 8 << 20
"""In smaller files the kernel's own distance will do, and a fault of mmap(2) reads no more than anywhere."""
OPENING_S: Final = 1.0
"""Whoever was answered has taken the setting by then."""


class ReadingAhead:
    """Of one mount. The kernel reads far ahead in large files of which all is here, and nowhere else."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Until it is connected the kernel does as it likes."""
        self._now = now
        self._setting: Path | None = None
        self._usual = b""
        self._is_far = False
        self._near_until = 0.0

    def connect(self, path: str, devices: Path = DEVICES) -> None:
        """Blocking. Only root may set it, and where /sys can be written; else nothing changes."""
        found = mounted_at(path, mounts())
        if found is None:
            return
        setting = devices / found.device / SETTING
        try:
            usual = setting.read_bytes().strip()
            setting.write_bytes(usual)
        except OSError as error:
            log.debug("the kernel reads ahead as it does everywhere", reason=str(error))
            return
        if int(usual) < FAR_KIB:
            self._setting, self._usual = setting, usual

    @property
    def is_connected(self) -> bool:
        """Whether `opening` has anything to decide."""
        return self._setting is not None

    def opening(self, size: int, *, is_whole: bool) -> None:
        """A file will be opened by the answer that follows. `is_whole`: nothing of it has to be fetched.

        Of what is elsewhere no more is read than a program asked for and the kernel's own distance, so
        the setting stays low until whoever opens such a file must have taken it.
        """
        now = self._now()
        if not is_whole:
            self._near_until = now + OPENING_S
        self._set(is_far=size >= LARGE_BYTES and now >= self._near_until)

    def _set(self, *, is_far: bool) -> None:
        if is_far is self._is_far or self._setting is None:
            return
        with suppress(OSError):  # the mount is going
            self._setting.write_bytes(b"%d" % FAR_KIB if is_far else self._usual)
            self._is_far = is_far
