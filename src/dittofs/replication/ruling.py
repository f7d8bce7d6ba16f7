"""Saying how many copies there should be: of the volume, or of what a path leads to."""

import errno
from typing import Final

import trio

from dittofs.errors import DittoError
from dittofs.ids import InodeId
from dittofs.replication.peers import Peers
from dittofs.replication.policy import SETTING, Policy, rule_setting
from dittofs.tree.entry import Change

RULES_MAX: Final = 1_000
"""That a user may make, of one volume: each is a setting that every device keeps in memory."""


class RulesFull(DittoError):
    """As many paths have a number of copies of their own as may."""

    errno = errno.ENOSPC


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

        ReadOnlyVolume if this device may not write, RulesFull if there are as many as may be.
        """
        rules, members = self._copies.rules, self._copies.members(inode)
        if policy is not None and not rules.keys() & set(members):
            removed_at = self._replica.tree.removed_at
            # What has no path cannot be given up by who has reached the limit.
            if len(rules) >= RULES_MAX <= sum(removed_at(one) is None for one in rules):
                raise RulesFull(f"a volume has {RULES_MAX:,} paths with a number of their own at most")
        with self._replica.change() as change:
            for one in members:
                if policy is not None or one in rules:
                    value = None if policy is None else str(policy).encode()
                    change.group.set_setting(rule_setting(one), value)

    def _follow(self, change: Change) -> None:
        if self._copies.rules and not change.via:
            gone = {one.inode for one in change.effects if one.kind == "remove"}
            if gone := gone & self._copies.rules.keys():
                self._gone |= gone
                self._wake.set()

    async def run(self) -> None:
        """For ever: forget the rule of what is removed here, and at first of all that was before.

        Whoever removed that may have crashed, or never come back.
        """
        self._gone |= self._copies.rules.keys()
        while True:
            gone = sorted(one for one in self._gone if self._is_over(one))
            if gone and self._replica.not_allowed is None:
                with self._replica.change() as change:
                    for one in gone:
                        change.group.set_setting(rule_setting(one), None)
            self._gone.clear()
            await self._wake.wait()
            self._wake = trio.Event()

    def _is_over(self, inode: InodeId) -> bool:
        """Whether a rule was made before what it is about was removed: a later one is of what comes back."""
        removed = self._replica.tree.removed_at(inode)
        return removed is not None and self._replica.tree.set_at(rule_setting(inode)) < removed
