"""How many devices should hold each content, as the settings of the volume say now."""

from collections.abc import Callable, Mapping

import structlog

from dittofs.errors import FormatError
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
