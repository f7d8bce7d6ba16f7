"""The recovery words: a root key as seventeen words that a person writes down and types back."""

import re

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.identity.root import ROOT_BYTES, derive
from dittofs.identity.wordlist import WORDS, value_of

WORDS_COUNT = ROOT_BYTES + 1
"""One word for each byte of the root key, and one that checks them."""

_BETWEEN = re.compile(r"[^a-z]+")


class WrongWords(FormatError):
    """The words are not what was written down; the message says where."""


def words_of(root: bytes) -> list[str]:
    """The seventeen words of a root key."""
    assert len(root) == ROOT_BYTES
    return [WORDS[value] for value in (*root, _check(root))]


def root_of(text: str) -> bytes:
    """The root key whose words are in `text`, in any case, with anything but letters between them.

    The first four letters of a word are enough. `WrongWords` says which word is wrong, or that one is missing
    or in another's place (one such slip in 256 goes unseen here; the volume then does not know the key).
    """
    typed = [word for word in _BETWEEN.split(text.lower()) if word]
    values = [_value(place, word) for place, word in enumerate(typed[: WORDS_COUNT + 1], start=1)]
    if len(values) != WORDS_COUNT:
        raise WrongWords(f"there are {WORDS_COUNT} recovery words, and these are {len(typed)}")
    root = bytes(values[:-1])
    if values[-1] != _check(root):
        raise WrongWords("the recovery words do not fit each other: one is wrong or in another's place")
    return root


def places_to_ask(entropy: Entropy) -> tuple[int, int]:
    """Two places, counted from 1 and ascending, whose words are to be typed back before the key is erased."""
    first, second = entropy(2)
    low = first % WORDS_COUNT
    high = (low + 1 + second % (WORDS_COUNT - 1)) % WORDS_COUNT
    return min(low, high) + 1, max(low, high) + 1


def check_typed_back(root: bytes, places: tuple[int, int], typed: tuple[str, str]) -> None:
    """Return if `typed` are the words of `root` in `places`. Otherwise `WrongWords`."""
    words = words_of(root)
    for place, text in zip(places, typed, strict=True):
        if WORDS[_value(place, text.strip().lower())] != words[place - 1]:
            raise WrongWords(
                f"word {place} is another one: compare what you wrote down with all {WORDS_COUNT}"
            )


def _value(place: int, word: str) -> int:
    value = value_of(word)
    if value is None:
        raise WrongWords(f"word {place}, {word[:20]!a}, is none of the recovery words")
    return value


def _check(root: bytes) -> int:
    return derive("recovery words", root)[0]
