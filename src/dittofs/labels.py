"""What a device may be called."""

import re
from typing import Final

LABEL_BYTES_MAX: Final = 64
STANDS_FOR: Final = ("default", "guest")
"""Words that mean something else where a device, a user or a group is named."""
KINDS: Final = ("device", "user", "group")
"""What is named may be said first, before a colon."""
_LIKE_AN_ID: Final = re.compile(r"[0-9a-fA-F]{8,}")


def is_label(text: str) -> bool:
    """Whether a device may be called that."""
    return (
        0 < len(text.encode("utf-8", "surrogatepass")) <= LABEL_BYTES_MAX
        and text.isprintable()
        and "/" not in text
        and text == text.strip()
    )


def is_free(label: str) -> bool:
    """Whether a label, where somebody chooses it, means nothing else to commands that take names.

    Whoever receives names does not rely on it.
    """
    return (
        label not in STANDS_FOR
        and not label.startswith(tuple(f"{kind}:" for kind in KINDS))
        and not _LIKE_AN_ID.fullmatch(label)
    )


NOT_FREE: Final = (
    f"not {' or '.join(STANDS_FOR)}, nothing that begins with {', '.join(f'{kind}:' for kind in KINDS)}, "
    "and not 8 or more hexadecimal digits like an id"
)
"""What `is_free` refuses."""


def default_label(hostname: str) -> str:
    """The host's name without its domain, "device-…" if that means something else, "device" if it is none."""
    label, _, _ = hostname.partition(".")
    if not is_label(label):
        return "device"
    return next((one for one in (label, f"device-{label}") if is_label(one) and is_free(one)), "device")
