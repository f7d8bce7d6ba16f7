"""How many devices should hold each content, as the settings of the volume say now, and which may.

A rule is bound to an inode, so it goes along with a rename; of a directory it is about all that is below,
but for what has a rule of its own. A file with several names has the strictest of what holds at each.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from dittofs.errors import FormatError
from dittofs.identity.keys import DeviceId
from dittofs.identity.membership import Membership
from dittofs.ids import ROOT, InodeId
from dittofs.replication.members import Members
from dittofs.replication.policy import SETTING, Policy, ruled_inode
from dittofs.tree.entry import Change, Effect
from dittofs.tree.record import Kind
from dittofs.tree.tree import Tree

log = structlog.get_logger()

KNOWN_MAX: Final = 65_536
"""Directories of which it is remembered what holds there."""
RULES_KEPT_MAX: Final = 4_000
"""Of one volume: devices apart may each have made as many as a user may make (ruling.py)."""
DEPTH_MAX: Final = 4096
"""Directories above another one that are looked at: more can only be a circle."""


@dataclass(frozen=True, slots=True)
class Affected:
    """For what another number of copies may hold."""

    directories: Sequence[InodeId] = ()
    """And all that is below them."""
    files: Sequence[InodeId] = ()
    is_everything: bool = False


class Copies:
    """Of one volume. `read` after each change of the settings, `follow` after each of the tree."""

    def __init__(self, tree: Tree, devices: Callable[[], int], changed: Callable[[], None]) -> None:
        """`devices`: how many there are that may hold content."""
        self._tree = tree
        self.devices = devices
        self._changed = changed
        self._said: Mapping[str, bytes] = {}
        self._known: dict[InodeId, tuple[InodeId, ...]] = {}
        self._was_straight = False
        self.policy = Policy()
        """Of what no rule is about."""
        self.rules: dict[InodeId, Policy] = {}

    def read(self) -> None:
        """What cannot be understood counts as two, and as no rule. Of too many rules the strictest hold."""
        settings = self._tree.settings()
        said = {name: text for name, text in settings.items() if name == SETTING or ruled_inode(name)}
        if said == self._said:
            return
        self._said = said
        self._known.clear()
        self.policy = _parsed(said.get(SETTING, b"")) or Policy()
        found = ((ruled_inode(name), _parsed(text)) for name, text in said.items())
        rules = [(inode, policy) for inode, policy in found if inode and policy]
        if len(rules) > RULES_KEPT_MAX:
            log.error("more paths have a number of copies than are kept to", rules=len(rules))
            rules = sorted(rules, key=lambda one: (-one[1].rank, one[0]))[:RULES_KEPT_MAX]
        self.rules = dict(rules)
        self._changed()

    @property
    def pushes(self) -> bool:
        """Whether others are asked to hold anything that is here."""
        return any(policy.pushes for policy in (self.policy, *self.rules.values()))

    @property
    def wants_any(self) -> bool:
        """Whether there is anything that every device holds."""
        return any(policy.wants_all for policy in (self.policy, *self.rules.values()))

    @property
    def is_all_on_demand(self) -> bool:
        """Whether nothing goes anywhere but where it is asked for."""
        return not (self.pushes or self.wants_any)

    def of(self, inodes: Iterable[InodeId]) -> Policy:
        """What holds for a content that these files have: the strictest of theirs."""
        if not self.rules:
            return self.policy
        return max((self._at(inode) for inode in inodes), key=_rank, default=self.policy)

    def required(self, inodes: Iterable[InodeId]) -> int:
        """How many devices should hold a content that these files have, of those there are."""
        return self.of(inodes).copies(self.devices())

    def nearest(self, inode: InodeId) -> InodeId | None:
        """The inode whose rule is the strictest that holds for this one: itself or one above; None: none."""
        return max(self._rules_of(inode), key=lambda one: self.rules[one].rank, default=None)

    def members(self, inode: InodeId) -> tuple[InodeId, ...]:
        """The directories shown as one; a file is one."""
        is_directory = self._tree.kind(inode) is Kind.DIRECTORY
        return (self._tree.members(inode) if is_directory else ()) or (inode,)

    def follow(self, change: Change) -> Affected:
        """For what something else may hold now."""
        was_straight, self._was_straight = self._was_straight, self._tree.is_straight
        if not self.rules:
            return Affected()
        named = [one for one in change.effects if one.kind in ("create", "name", "remove")]
        directories = {one.inode for one in named if self._tree.kind(one.inode) is Kind.DIRECTORY}
        if directories or change.is_round:
            self._known.clear()
        moved = {one.inode: one for one in named if one.kind == "name" and one.inode in directories}
        # Where directories are shown as one, or away from their place, what becomes of one concerns others.
        is_straight = was_straight and self._was_straight
        if change.is_round or (directories and not is_straight):
            return Affected(is_everything=True)
        files = [one.inode for one in named if one.kind == "name" and one.inode not in directories]
        if len(moved) == 1 and not self._is_other(*moved.values()):
            moved.clear()
        return Affected(list(moved), files)

    def _is_other(self, effect: Effect) -> bool:
        """Whether something else holds below the only directory that moved."""
        if effect.inode in self.rules:
            return False
        if effect.source is None or effect.target is None:
            return True
        return self._policy(self._above(effect.source)) != self._policy(self._above(effect.target))

    def files_below(self, directories: Iterable[InodeId]) -> Iterator[InodeId]:
        """The files with a name in these directories and below. The tree may change meanwhile."""
        ahead = list(directories)
        for directory in ahead:
            for inode in self._tree.claimants(directory):
                if self._tree.kind(inode) is Kind.DIRECTORY:
                    ahead.append(inode)
                else:
                    yield inode

    def _at(self, inode: InodeId) -> Policy:
        if (own := self.rules.get(inode)) is not None:
            return own
        if self._tree.kind(inode) is Kind.DIRECTORY:
            ways = [self._above(inode)]
        else:
            ways = [self._above(parent) for parent in self._parents(inode)] or [()]
        return max((self._policy(way) for way in ways), key=_rank)

    def _policy(self, way: Sequence[InodeId]) -> Policy:
        return max((self.rules[one] for one in way), key=_rank, default=self.policy)

    def _rules_of(self, inode: InodeId) -> list[InodeId]:
        if inode in self.rules:
            return [inode]
        if self._tree.kind(inode) is Kind.DIRECTORY:
            return list(self._above(inode))
        return [one for parent in self._parents(inode) for one in self._above(parent)]

    def _parents(self, inode: InodeId) -> set[InodeId]:
        return {parent for parent, _ in self._tree.names(inode)}

    def _above(self, directory: InodeId) -> tuple[InodeId, ...]:
        """The inodes whose rules hold in a directory: the first ones on the way up from it."""
        passed: list[InodeId] = []
        found: tuple[InodeId, ...] | None = None
        one = directory
        while found is None:
            passed.append(one)
            own = tuple(member for member in self.members(one) if member in self.rules)
            if own or one == ROOT or len(passed) > DEPTH_MAX:
                found = own
            else:
                one = self._tree.parent(one)
                found = self._known.get(one)
        if len(self._known) > KNOWN_MAX:
            self._known.clear()
        self._known.update(dict.fromkeys(passed, found))
        return found


def _rank(policy: Policy) -> float:
    return policy.rank


def _parsed(text: bytes) -> Policy | None:
    try:
        return Policy.parse(text.decode("ascii", "replace")) if text else None
    except FormatError as error:
        log.error("a number of copies cannot be understood", reason=str(error))
        return None


class Holders:
    """The other devices that may hold content; worked out once for each set of records."""

    def __init__(
        self, members: Members, device: DeviceId, retired: Callable[[], Collection[DeviceId]]
    ) -> None:
        self._members = members
        self._device = device
        self._retired = retired
        self._of: Membership | None = None
        self._devices: list[DeviceId] = []

    def __call__(self) -> list[DeviceId]:
        membership = self._members.membership
        if membership is not self._of:
            self._of = membership
            self._devices = [one.device for one in membership.readers() if one.device != self._device]
        gone = self._retired()
        return [device for device in self._devices if device not in gone] if gone else self._devices
