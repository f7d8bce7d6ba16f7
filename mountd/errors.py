"""Any exception becomes an errno here, once. Nothing a handler raises ends the mount."""

import errno

import structlog

from dittofs.errors import ChunkMissing, Damaged, DittoError, FSError

log = structlog.get_logger()


def errno_of(error: BaseException) -> int:
    """The errno a program sees. What should not happen is logged with its traceback, and is EIO."""
    if isinstance(error, FSError):
        return error.errno
    if isinstance(error, (Damaged, ChunkMissing)):
        log.error("stored data cannot be read", reason=str(error))
        return error.errno
    if isinstance(error, DittoError):
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    log.error("a file operation failed unexpectedly", exc_info=error)
    return errno.EIO
