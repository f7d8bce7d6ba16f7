"""Join codes: what one device shows and a person types on another, `7-cabin-velvet` (wire.md).

The number says which invitation is meant and is no secret. The words are the secret: 8 bits each, so they are
good for one guess only (`identity.exchange`, `identity.invitations`).
"""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.identity.wordlist import PREFIX_LETTERS, WORDS, value_of

SLOTS: Final = range(1, 100)
WORDS_COUNT: Final = 2
"""16 bits of secret."""
WORDS_COUNT_MAX: Final = 3

_BETWEEN: Final = re.compile(r"[\s_.,-]+")
_BEGINNING: Final = re.compile(r"\d+(?:[\s_-]|$)")


class BadCode(FormatError):
    """The text is no code that any device shows; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code as it is shown. `str()` gives what `parse_code` takes."""

    slot: int
    words: tuple[str, ...] = field(repr=False)

    def __str__(self) -> str:
        return "-".join((str(self.slot), *self.words))

    @property
    def name(self) -> bytes:
        """What a joiner names the invitation by."""
        return slot_name(self.slot)

    @property
    def secret(self) -> bytes:
        """What both sides of the key exchange know."""
        return "-".join(self.words).encode()


def slot_name(slot: int) -> bytes:
    """What names the invitation with that number."""
    return str(slot).encode()


def draw_code(entropy: Entropy, taken: Collection[int], words_count: int) -> Code:
    """A code whose slot is not `taken`, which some slot must not be, and whose words nobody can guess."""
    free = [slot for slot in SLOTS if slot not in taken]
    slot = free[int.from_bytes(entropy(8), "big") % len(free)]
    return Code(slot, tuple(WORDS[value] for value in entropy(words_count)))


def is_like_code(text: str) -> bool:
    """Whether `text` is meant as a code: it begins with a number, and something else than a host follows."""
    return _BEGINNING.match(text.strip()) is not None


def parse_code(text: str) -> Code:
    """The code that `text` means, in any case, with `-` or spaces between. `BadCode` for any other text.

    The first four letters of a word are enough. A word that no device shows is found here, before anything
    is sent: that costs no guess.
    """
    slot, *typed = [word for word in _BETWEEN.split(text.strip().lower()) if word] or [""]
    if not slot.isascii() or not slot.isdecimal() or len(slot) > 3 or int(slot) not in SLOTS:
        raise BadCode(f"a code begins with a number from {SLOTS[0]} to {SLOTS[-1]}, as in 7-cabin-velvet")
    if not WORDS_COUNT <= len(typed) <= WORDS_COUNT_MAX:
        raise BadCode(
            f"a code has a number and two words, or three, as in 7-cabin-velvet; this has {len(typed)}"
        )
    return Code(int(slot), tuple(WORDS[_value(word)] for word in typed))


def completions(text: str) -> list[str]:
    """What `text`, the beginning of a code, may become with its next word finished."""
    beginning, dash, last = text.lower().rpartition("-")
    slot, *words = beginning.split("-")
    is_sound = slot.isascii() and slot.isdecimal() and all(value_of(word) is not None for word in words)
    if not dash or not is_sound or len(words) >= WORDS_COUNT_MAX:
        return []
    return [f"{beginning}-{word}" for word in sorted(WORDS) if word.startswith(last)]


def _value(word: str) -> int:
    value = value_of(word)
    if value is None:
        near = difflib.get_close_matches(word, WORDS, n=1)
        asked = f": is it {near[0]!r}?" if near else ""
        raise BadCode(
            f"{word[:20]!a} is in no code{asked} (the first {PREFIX_LETTERS} letters of a word are enough)"
        )
    return value
