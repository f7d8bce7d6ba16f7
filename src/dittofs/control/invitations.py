"""What a person was given to join with, judged where it is typed and where it is used."""

from dittofs.control.faults import Refusal
from dittofs.errors import FormatError
from dittofs.identity.codes import BadCode, Code, parse_code
from dittofs.server_urls import SignalUrl


def read_code(text: str) -> Code:
    """The code that `text` means. Refuses ("usage") what no device shows."""
    try:
        return parse_code(text)
    except BadCode as error:
        raise Refusal(
            "usage", f"{error}; nothing was done", "Look at the code again and retype it"
        ) from error


def read_signal(text: str) -> SignalUrl:
    """The signalling server that `text` means. Refuses ("usage") what is none."""
    try:
        return SignalUrl.parse(text)
    except FormatError as error:
        raise Refusal("usage", f"{error}; nothing was done", "dittofs signal --help") from error
