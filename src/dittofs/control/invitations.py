"""What a person was given to join with, judged where it is typed and where it is used."""

import re
from typing import TYPE_CHECKING, Final

from dittofs.address import Address
from dittofs.control.faults import Refusal
from dittofs.errors import FormatError
from dittofs.identity.codes import BadCode, Code, parse_code
from dittofs.identity.wordlist import value_of
from dittofs.server_urls import SignalUrl

if TYPE_CHECKING:
    from dittofs.identity.tickets import Ticket

_SHOWN_MAX: Final = 80
_WHAT_SHARE_PRINTS: Final = "There:  dittofs share   and here the whole command that it prints"


def read_code(text: str) -> Code:
    """The code that `text` means. Refuses ("usage") what no device shows."""
    try:
        return parse_code(text)
    except BadCode as error:
        raise Refusal(
            "usage", f"{error}; nothing was done", "Look at the code again and retype it"
        ) from error


def read_ticket(text: str) -> "Ticket":
    """The ticket that `text` is. Refuses ("usage") any other text, by what it was probably meant for."""
    shown = f'"{text[:_SHOWN_MAX]}"'
    if text.strip().startswith("dittofs:"):
        from dittofs.identity.tickets import BadTicket, parse_ticket  # late: it needs cryptography

        try:
            return parse_ticket(text)
        except BadTicket as error:
            mend = "Copy the whole command that `dittofs share` printed, quotes too"
            raise Refusal("usage", f"{error}; nothing was done", mend) from error
    if not text.strip():
        why = "nothing was given to join with"
    elif ":" in text and "/" not in text:
        why = _why_no_address(text)
    elif re.match(r"\s*\d", text) or any(value_of(word) is not None for word in text.lower().split("-")):
        why = f"{shown} is no whole code, which is a number and two words, or three, as in 7-cabin-velvet"
    else:
        why = f"{shown} is no code, no ticket and no HOST:PORT"
    raise Refusal("usage", f"{why}; nothing was done", _WHAT_SHARE_PRINTS)


def _why_no_address(text: str) -> str:
    port = text.rpartition(":")[2]
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        return f'"{port[:_SHOWN_MAX]}" is not a port: that is a number from 1 to 65535'
    try:
        Address.parse(text)
    except FormatError as error:
        return str(error)
    return f"{text[:_SHOWN_MAX]} is an address, where a ticket or a code is wanted"


def read_signal(text: str) -> SignalUrl:
    """The signalling server that `text` means. Refuses ("usage") what is none."""
    try:
        return SignalUrl.parse(text)
    except FormatError as error:
        raise Refusal("usage", f"{error}; nothing was done", "dittofs signal --help") from error
