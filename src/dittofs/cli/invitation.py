"""What an invitation looks like to people: a fingerprint to compare, and a square that a camera reads."""

import io
import shutil
import sys
from typing import Final

from dittofs.cli.output import warn
from dittofs.control.faults import Refusal
from dittofs.control.invitations import read_code
from dittofs.control.sharing import MeetResult

FINGERPRINT_DIGITS: Final = 32
"""The first 128 bits of a device's id: nobody makes another key with the same."""
ANSWER_CHARACTERS_MAX: Final = 200
_GROUP: Final = 4
_BORDER: Final = 2


def fingerprint(device: str) -> str:
    """The beginning of a device's id in groups of four digits, as two people compare it."""
    digits = device[:FINGERPRINT_DIGITS]
    return " ".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))


def is_fingerprint_of(text: str, device: str) -> bool:
    """Whether `text` is the fingerprint, or all, of a device's id, with or without spaces."""
    digits = "".join(text.split()).lower()
    return len(digits) >= FINGERPRINT_DIGITS and device.startswith(digits)


def confirmed_code(met: MeetResult, expected: str) -> str:
    """The code, asked for once the fingerprint of the device at an address is known to be right.

    With `expected` nobody is asked about that. Refuses ("refused") another one, and what is no yes.
    """
    if expected and not is_fingerprint_of(expected, met.id):
        text = f"the device at {met.address} has the fingerprint {fingerprint(met.id)}; it was told nothing"
        raise Refusal("refused", text, "Compare it with what `dittofs share` shows there")
    if not expected:
        warn(f"The device at {met.address} has the fingerprint\n\n  {fingerprint(met.id)}\n")
        if _ask("Does `dittofs share` show the same there? [y/N] ").lower() not in ("y", "yes"):
            text = f"the device at {met.address} was told nothing, and nothing was changed here"
            raise Refusal("refused", text, f"dittofs join {met.address}")
    return str(read_code(_ask("The code it shows: ")))


def _ask(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline(ANSWER_CHARACTERS_MAX).strip()


def qr_lines(text: str) -> list[str]:
    """`text` as a QR code, if stdout is a terminal that is wide enough; otherwise nothing."""
    if not sys.stdout.isatty():
        return []
    import segno  # late: most commands show none

    square = segno.make(text, error="l", micro=False)
    if square.symbol_size(border=_BORDER)[0] > shutil.get_terminal_size().columns:
        return []
    drawn = io.StringIO()
    square.terminal(drawn, border=_BORDER, compact=True)
    return drawn.getvalue().splitlines()
