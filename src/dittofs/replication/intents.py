"""Which contents are to go from this device, and that nobody is told to count on them meanwhile.

Who has an intent proves nothing to others: so of two devices that let the same content go at once, one at
most has the other's word (decision 0089). Of two intents that meet, the lower device id's goes on.
"""

from collections.abc import Iterable

from dittofs.identity.keys import DeviceId


class Intents:
    """Of one volume on this device. In memory alone: a process that died wants nothing."""

    def __init__(self, device: DeviceId) -> None:
        self._device = device
        self._roots: dict[bytes, bool] = {}
        """With whether others are told already, or soon, that it goes."""
        self.evictions = 0
        """How often something went: what was found to be here before may not be."""

    def __len__(self) -> int:
        return len(self._roots)

    def __contains__(self, root: bytes) -> bool:
        return root in self._roots

    def begin(self, roots: Iterable[bytes]) -> None:
        """Before anybody is asked for a proof."""
        self._roots.update(dict.fromkeys(roots, False))

    def yields_to(self, device: DeviceId, root: bytes) -> bool:
        """Whether another device may have this one's word: there is no intent, or it is given up for it."""
        is_going = self._roots.get(root)
        if is_going is None:
            return True
        if is_going or self._device < device:
            return False
        del self._roots[root]
        return True

    def go(self, roots: Iterable[bytes]) -> list[bytes]:
        """From now on these are not given up; those that were given up already are left out."""
        going = [root for root in roots if root in self._roots]
        self._roots.update(dict.fromkeys(going, True))
        return going

    def end(self, roots: Iterable[bytes]) -> None:
        """They have gone, or stay."""
        for root in roots:
            self._roots.pop(root, None)
