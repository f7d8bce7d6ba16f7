"""What the local API asks about unmounting: what would stay here alone, and what ends with a mount."""

import os
import shlex

from dittofs.control.faults import Refusal
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.protocol import Unmounted, UnmountRequest, UnmountResult
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from mountd.members import MemberDesk
from mountd.mounting import Mounting
from mountd.mounts import Mount
from mountd.outsider import outside
from mountd.syncing import only_here


class Unmounting:
    """Of all mounts of a daemon."""

    def __init__(self, node: Node, mounting: Mounting, members: MemberDesk) -> None:
        self._node = node
        self._mounting = mounting
        self._members = members

    async def unmount(self, request: UnmountRequest) -> UnmountResult:
        """See `Service.unmount`."""
        mounts = self._mounting.select(
            os.fsdecode(path_bytes(request)), request.volume, everything=request.all
        )
        done: list[Unmounted] = []
        refused: list[Refusal] = []
        for mount in mounts:
            try:
                if not request.force:
                    await self._require_sent(mount)
                    if self._ends_with(mount):
                        done += await self._members.end(mount.name)
                        continue
                is_lazy = await self._mounting.unmount(mount, force=request.force)
            except Refusal as refusal:
                refused.append(refusal)
                continue
            done.append(Unmounted(volume=mount.name, is_lazy=is_lazy, **path_fields(os.fsencode(mount.path))))
        if len(refused) == 1 and not done:
            raise refused[0]
        if refused:
            gone = ", ".join(one.path for one in done) or "nothing"
            reasons = "; ".join(refusal.message for refusal in refused)
            raise Refusal(refused[0].code, f"{reasons}. Unmounted: {gone}.", refused[0].mend)
        return UnmountResult(unmounted=tuple(done))

    def _ends_with(self, mount: Mount) -> bool:
        """Whether this device leaves the volume with this mount."""
        is_last = len(self._mounting.all_of_volume(mount.name)) == 1
        return is_last and self._node.record(mount.name).is_ephemeral

    async def _require_sent(self, mount: Mount) -> None:
        """Before the last mount of a volume goes. Refuses with "unsent"."""
        opened = self._node.opened(mount.name)
        if opened is None or len(self._mounting.all_of_volume(mount.name)) > 1:
            return
        alone = await only_here(opened)
        if alone is not None:
            raise not_sent(opened, alone, mount.path)


def not_sent(opened: SharedVolume, alone: str, path: str) -> Refusal:
    """Why the last mount stays while `alone` is so on this device, and whether waiting helps."""
    now = f"Unmount now:  dittofs unmount --force {shlex.quote(path)}"
    if gone := outside(opened):
        return Refusal("unsent", f"{gone.message}; it is mounted as before", f"{gone.mend}\n{now}")
    return Refusal(
        "unsent",
        f"not yet: {alone} on this device; all of it stays here and is sent while the daemon runs",
        f"Wait for it:  dittofs sync {shlex.quote(opened.name)}      {now}",
    )
