"""How many devices should hold each content, as the settings of the volume say now, and which may."""

from collections.abc import Callable, Collection, Mapping

import structlog

from dittofs.errors import FormatError
from dittofs.identity.keys import DeviceId
from dittofs.identity.membership import Membership
from dittofs.replication.members import Members
from dittofs.replication.policy import SETTING, Policy

log = structlog.get_logger()


class Copies:
    """Of one volume. `read` after each change of the settings."""

    def __init__(self, settings: Callable[[], Mapping[str, bytes]], changed: Callable[[], None]) -> None:
        self._settings = settings
        self._changed = changed
        self._text: bytes | None = None
        self.policy = Policy()

    def read(self) -> None:
        """What cannot be understood counts as two."""
        text = self._settings().get(SETTING, b"")
        if text == self._text:
            return
        self._text = text
        try:
            self.policy = Policy.parse(text.decode("ascii", "replace")) if text else Policy()
        except FormatError as error:
            log.error("the number of copies cannot be understood; two are kept", reason=str(error))
            self.policy = Policy()
        self._changed()


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
