"""The recovery words: a root key as seventeen words that a person writes down and types back."""

import re

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.identity.root import ROOT_BYTES, derive

WORDS_COUNT = ROOT_BYTES + 1
"""One word for each byte of the root key, and one that checks them."""

# Byte n is word n. No two words begin with the same four letters or sound the same. The order is part of the
# format: words on paper must always mean the same key.
_LIST = """
acid acorn actor agent alarm album amber anchor angel ankle apple apron arena argue armor arrow aspect
atlas autumn badge bagel bamboo banana barrel basket beard bedroom bench biscuit blanket blossom bonus
bottle bridge bronze bucket butter cabin cactus camera canal carbon castle cement chapel cherry chimney
cinema circle clever clinic cobweb coconut coffee comet copper cotton cousin cradle cricket crystal
curtain dance daughter debate decade degree dentist desert diamond dinner doctor dolphin donkey dragon
drawer eagle earth echo elbow elder elephant empire engine envelope escape evening fabric falcon family
feather fence festival finger flame flute forest fossil fountain frog furnace galaxy garden gazelle giant
ginger glove goblet golden gravel guitar hammer harbor hedge helmet hero hobby honey hotel humor hunter
iceberg igloo index infant insect island ivory jacket jaguar jelly jigsaw journey jungle kangaroo kettle
kitchen kiwi ladder lagoon lantern laptop lawyer lemon leopard library lily lizard lobster lunch machine
magnet mango marble meadow melon memory mirror monkey mosaic museum napkin nectar needle nephew noodle
north number oasis object ocean octopus olive onion opera orange orchid otter oxygen oyster paddle palace
panda parrot peanut pencil pepper picnic pilot pirate planet pocket potato pretzel pumpkin puzzle quarter
rabbit radio raven recipe ribbon river robot rocket rubber saddle salad sandal satin season shadow silver
singer sister sketch soccer sofa spider spoon stable summer sunset swamp table tango teacher temple
ticket tiger tomato tractor trumpet tulip tunnel turtle umbrella uncle uniform valley vanilla velvet
village violin vulture wagon walnut warrior window winter wizard wombat yellow yogurt zebra zipper
"""
WORDS = tuple(_LIST.split())

_PREFIX = 4
_BY_PREFIX = {word[:_PREFIX]: value for value, word in enumerate(WORDS)}
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
    value = _BY_PREFIX.get(word[:_PREFIX])
    if value is None or not WORDS[value].startswith(word):
        raise WrongWords(f"word {place}, {word[:20]!a}, is none of the recovery words")
    return value


def _check(root: bytes) -> int:
    return derive("recovery words", root)[0]
