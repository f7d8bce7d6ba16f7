"""Paths in a volume that a request names, and that nobody has ever heard of."""

from collections.abc import Sequence

from dittofs.control.faults import Refusal
from dittofs.errors import FSError
from dittofs.history.past import Pasts
from dittofs.volume.browsing import Browsing
from dittofs.volume.volume import Volume


def require_known(volume: Volume, names: Sequence[bytes]) -> None:
    """Refuses ("not_found") a path that shows nothing, and never did as far as this device knows."""
    if not names or Pasts(volume.replica).had_path(names):
        return
    if not is_there(volume, names):  # what is only on this device has no history
        raise never_there(names)


def is_there(volume: Volume, names: Sequence[bytes]) -> bool:
    """Whether a path shows something now."""
    try:
        Browsing(volume).find(names)
    except FSError:
        return False
    return True


def never_there(names: Sequence[bytes]) -> Refusal:
    """What is said of such a path."""
    shown = b"/".join(names).decode(errors="backslashreplace") or "/"
    text = f"{shown} is not there, and the history on this device knows nothing of it"
    return Refusal("not_found", text, "What is there:  dittofs list      What happened:  dittofs log")
