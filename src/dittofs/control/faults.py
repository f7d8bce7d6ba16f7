"""What a request can be refused for: one table of codes for server, client and exit status."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dittofs.errors import (
    ChunkMissing,
    ChunkUnavailable,
    ConfigError,
    Damaged,
    DiskFull,
    DittoError,
    FormatError,
    ReadOnlyHome,
    ReadOnlyVolume,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """How a code is shown: the HTTP status of the reply and the exit code of the command."""

    status: int
    exit_code: int


EXIT_FINE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNSENT: Final = 3
EXIT_CONFLICTS: Final = 4
EXIT_ATTENTION: Final = 5

FAULTS: Final[Mapping[str, Fault]] = {
    # what the caller asked for
    "usage": Fault(400, EXIT_USAGE),  # the request makes no sense as written
    "forbidden": Fault(403, EXIT_FAILED),  # another user, or permission denied by the file system
    "not_found": Fault(404, EXIT_FAILED),
    "exists": Fault(409, EXIT_FAILED),
    "refused": Fault(409, EXIT_FAILED),  # a rule stands against it; the message names rule and evidence
    "busy": Fault(409, EXIT_FAILED),  # programs still use it
    "unsent": Fault(409, EXIT_UNSENT),  # data would stay on this device only
    "conflicts": Fault(409, EXIT_CONFLICTS),
    # what the device cannot do
    "read_only": Fault(409, EXIT_ATTENTION),
    "damaged": Fault(500, EXIT_ATTENTION),
    "no_space": Fault(507, EXIT_FAILED),
    "failed": Fault(500, EXIT_FAILED),  # an input/output error; the message says of what
    "internal": Fault(500, EXIT_FAILED),  # a bug: the daemon's log has the traceback
    "stopping": Fault(503, EXIT_FAILED),
    "overloaded": Fault(503, EXIT_FAILED),  # too many connections at once
    # the HTTP conversation itself
    "bad_request": Fault(400, EXIT_FAILED),
    "wrong_method": Fault(405, EXIT_FAILED),
    "too_slow": Fault(408, EXIT_FAILED),
    "too_large": Fault(413, EXIT_FAILED),
    "head_too_large": Fault(431, EXIT_FAILED),
    # met by the client alone
    "no_daemon": Fault(503, EXIT_FAILED),
    "no_answer": Fault(504, EXIT_FAILED),  # one runs and does not answer in time
    "cut_short": Fault(502, EXIT_FAILED),  # the reply ended before it was whole
}


class Refusal(DittoError):
    """A request that is not carried out.

    `code` is a key of `FAULTS`; `str()` says what happened and what was not affected;
    `mend` is the command or step that helps, empty if there is none.
    """

    def __init__(self, code: str, message: str, mend: str = "") -> None:
        assert code in FAULTS, code
        super().__init__(message)
        self.code = code
        self.message = message
        self.mend = mend

    @property
    def fault(self) -> Fault:
        return FAULTS[self.code]


_CODE_OF_ERRNO: Final[Mapping[int, str]] = {
    errno.ENOENT: "not_found",
    errno.EEXIST: "exists",
    errno.ENOTEMPTY: "exists",
    errno.EISDIR: "refused",
    errno.ENOTDIR: "refused",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.EROFS: "read_only",
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EBUSY: "busy",
    errno.EINVAL: "usage",
    errno.ENAMETOOLONG: "usage",
}


def refusal_of(error: DittoError) -> Refusal:
    """The refusal that tells a client of any error DittoFS reports on purpose."""
    match error:
        case Refusal():
            return error
        case DiskFull():
            return Refusal("no_space", str(error), "Free some room on the disk that holds the store.")
        case ReadOnlyHome():
            return Refusal("read_only", str(error), error.mend)
        case ReadOnlyVolume(errno=errno.ENOSPC):
            return Refusal("no_space", str(error), "Free some room on the disk that holds the store.")
        case ReadOnlyVolume():
            return Refusal("read_only", str(error), "dittofs check")
        case ChunkUnavailable():
            code = _CODE_OF_ERRNO.get(error.errno, "failed")
            return Refusal(code, str(error), "dittofs check   says what is here, damaged, or nowhere")
        case Damaged(what=what) if what.startswith("journal.db"):
            return Refusal("damaged", str(error), "dittofs check --repair")
        case Damaged() | ChunkMissing() | FormatError():
            return Refusal("damaged", str(error), "dittofs check")
        case ConfigError():
            return Refusal("refused", str(error), "dittofs doctor")
        case _:
            return Refusal(_CODE_OF_ERRNO.get(error.errno, "failed"), str(error))
