"""What a device may be called."""

from typing import Final

LABEL_BYTES_MAX: Final = 64


def is_label(text: str) -> bool:
    """Whether a device may be called that."""
    return (
        0 < len(text.encode("utf-8", "surrogatepass")) <= LABEL_BYTES_MAX
        and text.isprintable()
        and "/" not in text
        and text == text.strip()
    )


def default_label(hostname: str) -> str:
    """The host's name without its domain, or "device" if that is no label."""
    label, _, _ = hostname.partition(".")
    return label if is_label(label) else "device"
