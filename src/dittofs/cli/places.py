"""Where the volumes of this device were mounted last, known without its daemon."""

from dittofs.config import Paths
from dittofs.errors import DittoError


def mounted_before(paths: Paths) -> set[str]:
    """Directories; none if the list of volumes is not there or cannot be read."""
    from dittofs.local_disk import LocalDisk  # late: they import an event loop, and few commands ask
    from dittofs.registry import FILE, read_registry

    if not (paths.state / FILE).exists():
        return set()  # to look would make the directory
    try:
        records = read_registry(LocalDisk(str(paths.state)), str(paths.state / FILE))
    except (DittoError, OSError):
        return set()
    return {record.path for record in records.values() if record.path}
