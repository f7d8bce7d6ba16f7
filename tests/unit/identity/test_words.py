"""Recovery words: what is written down is what is read back."""

import contextlib

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.identity.wordlist import WORDS
from dittofs.identity.words import (
    WORDS_COUNT,
    WrongWords,
    check_typed_back,
    places_to_ask,
    root_of,
    words_of,
)

ROOT = bytes(range(0, 256, 16))


def test_a_root_key_has_these_words() -> None:
    assert " ".join(words_of(ROOT)) == (
        "acid aspect bottle circle debate elder forest harbor jacket leopard museum orchid potato sandal "
        "table vanilla cactus"
    )


def test_the_list_never_changes() -> None:
    assert blake3(" ".join(WORDS).encode()).hexdigest() == (
        "cf40b0700e654e4f00b9b37406a8a845f173c1dccd938975cc08f342f0d1c8c9"
    )


def test_the_list_is_fit_to_be_written_down() -> None:
    assert len(WORDS) == 256
    assert len({word[:4] for word in WORDS}) == 256
    assert list(WORDS) == sorted(WORDS)
    assert all(word.isascii() and word.islower() and word.isalpha() and 4 <= len(word) <= 9 for word in WORDS)


@given(st.binary(min_size=16, max_size=16))
def test_words_give_the_key_back(root: bytes) -> None:
    words = words_of(root)
    assert len(words) == WORDS_COUNT
    assert root_of(" ".join(words)) == root
    assert root_of("\n1. " + ",\n2. ".join(word.upper()[:4] for word in words) + ".") == root


def test_a_wrong_word_is_named() -> None:
    words = words_of(ROOT)
    with pytest.raises(WrongWords, match="word 3, 'xylophone'"):
        root_of(" ".join([*words[:2], "xylophone", *words[3:]]))
    with pytest.raises(WrongWords, match=f"word 1, '{words[0]}s'"):
        root_of(" ".join([words[0] + "s", *words[1:]]))
    with pytest.raises(WrongWords, match=f"word 1, '{words[0][:3]}'"):
        root_of(" ".join([words[0][:3], *words[1:]]))


@pytest.mark.parametrize("count", [0, 1, 16, 18, 40])
def test_too_few_or_too_many_words_are_counted(count: int) -> None:
    with pytest.raises(WrongWords, match=f"are {count}$"):
        root_of(" ".join((words_of(ROOT) * 3)[:count]))


def test_nearly_every_single_slip_is_seen() -> None:
    words = words_of(ROOT)
    unseen = 0
    for place in range(WORDS_COUNT):
        for word in WORDS:
            if word != words[place]:
                with contextlib.suppress(WrongWords):
                    root_of(" ".join([*words[:place], word, *words[place + 1 :]]))
                    unseen += 1
    assert unseen < 40  # 1 in 256 of 4,335


def test_two_words_are_asked_for_and_must_be_right() -> None:
    words = words_of(ROOT)
    check_typed_back(ROOT, (2, 17), (words[1].upper(), f" {words[16][:4]} "))
    with pytest.raises(WrongWords, match="word 17 is another"):
        check_typed_back(ROOT, (2, 17), (words[1], words[15]))
    with pytest.raises(WrongWords, match="word 2, ''"):
        check_typed_back(ROOT, (2, 17), ("", words[16]))


def test_any_two_places_may_be_asked_for() -> None:
    asked = {places_to_ask(lambda _, pair=bytes([a, b]): pair) for a in range(17) for b in range(16)}
    assert asked == {(low, high) for low in range(1, 18) for high in range(low + 1, 18)}


@given(st.text(max_size=200))
@example("\u212a" * 17)
@example("a" * 100_000)
@example("a " * 100_000)
def test_any_text_is_a_key_or_wrong(text: str) -> None:
    with contextlib.suppress(FormatError):
        assert len(root_of(text)) == 16
