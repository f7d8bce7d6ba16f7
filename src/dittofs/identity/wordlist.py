"""Words that stand for bytes, for people to read aloud, write down and type: one for each of 256 values."""

from typing import Final

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
WORDS: Final = tuple(_LIST.split())

PREFIX_LETTERS: Final = 4

_BY_PREFIX: Final = {word[:PREFIX_LETTERS]: value for value, word in enumerate(WORDS)}


def value_of(word: str) -> int | None:
    """The byte that `word` stands for, in small letters; PREFIX_LETTERS of them are enough. None: no word."""
    value = _BY_PREFIX.get(word[:PREFIX_LETTERS])
    return value if value is not None and WORDS[value].startswith(word) else None
