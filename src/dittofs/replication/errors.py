"""What ends a session, and what a fetch ends in."""

from dittofs.errors import DittoError, FormatError


class ProtocolError(FormatError):
    """A peer broke a rule of the session. Its session ends; nothing else is affected."""


class Refused(DittoError):
    """The peer will not go on, or we will not: `code` says why, `str()` in a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class WrongChunk(ProtocolError):
    """A peer sent other bytes than those of the chunk it was asked for. It is not asked again."""
