"""What one change of a replica consists of, until it is committed."""

from collections.abc import Callable

from dittofs.errors import ReadOnlyVolume
from dittofs.tree.group import Group
from dittofs.tree.tree import Tree


class Transaction:
    """One change: tree operations, local rows, and what follows once both are in the journal."""

    def __init__(self, tree: Tree, not_allowed: str | None = None) -> None:
        self._tree = tree
        self._not_allowed = not_allowed
        self.is_unasked = False
        """Whether no program asked for it: all that show the volume must look again."""
        self._group: Group | None = None
        self._after: list[Callable[[], None]] = []

    @property
    def group(self) -> Group:
        """The tree operations of this change, made at first use. ReadOnlyVolume if this device may not."""
        if self._group is None:
            if self._not_allowed is not None:
                raise ReadOnlyVolume(self._not_allowed)
            self._group = self._tree.group()
        return self._group

    @property
    def has_group(self) -> bool:
        return self._group is not None

    def after(self, action: Callable[[], None]) -> None:
        """Run `action` once the change is committed: memory follows the journal, never the other way."""
        self._after.append(action)

    def run_after(self) -> None:
        for action in self._after:
            action()
