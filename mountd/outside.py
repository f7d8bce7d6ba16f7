"""Which local directories are in a mount of ours already."""

import os

from dittofs.control.faults import Refusal
from dittofs.control.mountpoint import mounted_around, mounts


def require_outside(path: str, done: str, mend: str) -> None:
    """Refuses ("refused") a path at or below a mount of ours. Touches no file and follows no link."""
    around = mounted_around(os.path.normpath(path), mounts())
    if around is not None and around.is_ours:
        shown = os.fsencode(path).decode(errors="replace")
        text = f"{shown} is in a volume already (mounted at {around.path}); {done}"
        raise Refusal("refused", text, mend)
