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
    return f"{escaped(batch.device)} {listed(did)} ({human_size(batch.bytes)})"
