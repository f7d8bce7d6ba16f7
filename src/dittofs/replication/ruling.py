"""Saying how many copies there should be: of the volume, or of what a path leads to."""

from typing import Final

import structlog
import trio

from dittofs.ids import InodeId
from dittofs.replication.peers import Peers
from dittofs.replication.policy import SETTING, Policy, rule_setting
from dittofs.tree.entry import Change

log = structlog.get_logger()

RULES_MAX: Final = 1_000
"""Of one volume: each is a setting that every device keeps in memory."""


class Ruling:
    """Of one volume. `run` must be running."""

    def __init__(self, peers: Peers) -> None:
        self._replica = peers.replica
        self._copies = peers.copies
        self._gone: set[InodeId] = set()
        self._wake = trio.Event()
        peers.replica.listeners.append(self._follow)

    def set_all(self, policy: Policy) -> None:
        """What holds where no rule does. ReadOnlyVolume if this device may not write."""
        with self._replica.change() as change:
            change.group.set_setting(SETTING, str(policy).encode())

    def bind(self, inode: InodeId, policy: Policy | None) -> None:
        """What holds for a file, or for all below a directory; None: what holds above it.

        ReadOnlyVolume if this device may not write.
        """
        with self._replica.change() as change:
            for one in self._copies.members(inode):
                if policy is not None or one in self._copies.rules:
                    value = None if policy is None else str(policy).encode()
                    change.group.set_setting(rule_setting(one), value)

    def _follow(self, change: Change) -> None:
        if self._copies.rules and not change.via:
            gone = {one.inode for one in change.effects if one.kind == "remove"}
            if gone := gone & self._copies.rules.keys():
                self._gone |= gone
                self._wake.set()

    async def run(self) -> None:
        """For ever: forget the rule of what is removed here."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            gone = {one for one in self._gone if not self._replica.tree.names(one)}
            if gone and self._replica.not_allowed is None:
                with self._replica.change() as change:
                    for one in sorted(gone):
                        change.group.set_setting(rule_setting(one), None)
            self._gone.clear()

    def restarted(self) -> None:
        """What could not be forgotten is tried again."""
        if self._gone:
            self._wake.set()
