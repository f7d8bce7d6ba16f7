"""Devices that did not hear what has gone from here: they must not believe what they heard before.

Each device is told the custody nonce in a form of its own, which changes with every such time.
"""

from collections.abc import Callable, Iterable
from typing import Final

from blake3 import blake3

from dittofs.identity.keys import DeviceId
from dittofs.journal.journal import Journal

BEHIND: Final = "behind"  # device id -> how often something went while it could not hear of it
NONCE_BYTES: Final = 16


class Behind:
    """Of one replica."""

    def __init__(self, journal: Journal, nonce: Callable[[], bytes]) -> None:
        """`nonce`: the custody nonce of the store."""
        self._journal = journal
        self._nonce = nonce
        self._stale: dict[DeviceId, set[bytes]] = {}
        """What they may be told by a session that is just beginning, and is not so any more."""

    def nonce_for(self, device: DeviceId) -> bytes:
        """The custody nonce as one device is told it."""
        nonce, behind = self._nonce(), self._journal.get_local(BEHIND, device)
        return nonce if behind is None else blake3(nonce + behind).digest(NONCE_BYTES)

    def note(self, devices: Iterable[DeviceId]) -> None:
        """When these meet this device again, they believe nothing they heard of it. One transaction."""
        # Outside of the transaction: a nonce that is made is one of its own.
        told = [(device, self.nonce_for(device)) for device in devices]
        with self._journal.transaction():
            for device, nonce in told:
                self._stale.setdefault(device, set()).add(nonce)
                count = int.from_bytes(self._journal.get_local(BEHIND, device) or b"", "big") + 1
                self._journal.put_local(BEHIND, device, count.to_bytes(8, "big"))

    def is_stale(self, device: DeviceId, told: bytes) -> bool:
        """Whether something went since the device was told this nonce."""
        return told in self._stale.get(device, ())

    def met(self, device: DeviceId) -> None:
        """A session with it is open: of those that began before none will be."""
        self._stale.pop(device, None)
