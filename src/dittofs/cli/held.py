"""What the brake holds, in words."""

from dittofs.cli.output import counted, escaped, human_size, listed
from dittofs.control.undoing import HeldBatch


def held_line(batch: HeldBatch) -> str:
    """What a device did that is not shown here."""
    did = []
    if batch.removed or batch.directories:
        what = [counted(batch.removed, "file")] if batch.removed else []
        what += [counted(batch.directories, "directory", "directories")] if batch.directories else []
        did.append(f"removed {listed(what)}")
    if batch.rewritten:
        did.append(f"rewrote {counted(batch.rewritten, 'file')}")
    whose = name_of(batch.device, batch.known_as)
    return f"{escaped(whose)} {listed(did)} ({human_size(batch.bytes)})"


def name_of(device: str, known_as: str) -> str:
    """What a device is called; of several of one name with what tells it apart."""
    return device if known_as in ("", device) else f"{device} ({known_as})"
