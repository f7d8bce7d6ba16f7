"""What a person was given to join with, judged where it is typed and where it is used."""

from dittofs.control.faults import Refusal
from dittofs.identity.codes import BadCode, Code, parse_code


def read_code(text: str) -> Code:
    """The code that `text` means. Refuses ("usage") what no device shows."""
    try:
        return parse_code(text)
    except BadCode as error:
        raise Refusal(
            "usage", f"{error}; nothing was done", "Look at the code again and retype it"
        ) from error
