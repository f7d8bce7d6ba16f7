"""The window of a stream over messages: nobody sends too much, and an end is known to have arrived."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.links.webrtc_window import PIECE_BYTES, PING_MESSAGE, WINDOW_BYTES, Window


def taken(window: Window) -> tuple[bytes, list[bytes]]:
    """All that is there, and what gives it back."""
    got, credits = b"", []
    while (piece := window.next_piece()) is not None:
        got += piece
        if credit := window.take(len(piece)):
            credits.append(credit)
    return got, credits


def filled() -> tuple[Window, list[bytes]]:
    window, messages = Window(), []
    while window.room:
        messages.append(window.data(bytes(min(PIECE_BYTES, window.room))))
    return window, messages


def test_a_sender_stops_when_the_window_is_full_and_goes_on_when_it_was_given_back() -> None:
    one, messages = filled()
    other = Window()
    for message in messages:
        other.receive(message)
    assert one.room == 0
    _, credits = taken(other)
    for credit in credits:
        one.receive(credit)
    assert one.room > WINDOW_BYTES // 2


def test_the_end_fits_into_a_full_window_and_is_delivered_once_all_was_taken() -> None:
    one, messages = filled()
    other = Window()
    for message in [*messages, one.end()]:
        other.receive(message)
    assert other.has_got_end
    got, credits = taken(other)
    assert len(got) == WINDOW_BYTES - 1
    for credit in credits:
        one.receive(credit)
    assert not one.is_delivered
    last = other.take(1)
    assert last is not None
    one.receive(last)
    assert one.is_delivered
    assert one.room == 0


def test_an_end_that_follows_on_bytes_already_taken_is_given_back_at_once() -> None:
    one, other = Window(), Window()
    other.receive(one.data(b"abc"))
    assert taken(other) == (b"abc", [])
    other.receive(one.end())
    credit = other.take(1)
    assert credit is not None
    one.receive(credit)
    assert one.is_delivered


def test_more_than_the_window_is_refused() -> None:
    one, messages = filled()
    other = Window()
    for message in [*messages, one.end()]:
        other.receive(message)
    cheat = Window()
    for message in messages:
        cheat.receive(message)
    with pytest.raises(FormatError):
        cheat.receive(b"\0xx")


@pytest.mark.parametrize("message", [b"", b"\0", b"\1", b"\1\0\0\0\1", b"\2x", b"\3x", b"\4", b"\xff" * 9])
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(FormatError):
        Window().receive(message)


def test_nothing_follows_on_the_end() -> None:
    window = Window()
    window.receive(b"\2")
    window.receive(PING_MESSAGE)
    for message in (b"\2", b"\0x"):
        with pytest.raises(FormatError):
            window.receive(message)


@given(st.integers(0, 2**32))
def test_bytes_arrive_in_order_however_messages_and_credits_interleave(seed: int) -> None:
    chance = Random(seed)
    one, other = Window(), Window()
    wire: list[bytes] = []
    back: list[bytes] = []
    pieces = [chance.randbytes(chance.randrange(1, PIECE_BYTES)) for _ in range(chance.randrange(40))]
    rest, got, is_ended = list(pieces), b"", False
    while not one.is_delivered:
        match chance.choice(("send", "deliver", "take", "credit")):
            case "send" if rest:
                wire.append(one.data(rest.pop(0)))
            case "send" if not one.has_sent_end:
                wire.append(one.end())
            case "deliver" if wire:
                other.receive(wire.pop(0))
            case "take":
                piece = other.next_piece()
                if piece is not None or (other.has_got_end and not is_ended):
                    is_ended = piece is None
                    got += piece or b""
                    back += [credit] if (credit := other.take(len(piece or b"x"))) else []
            case "credit" if back:
                one.receive(back.pop(0))
    assert got == b"".join(pieces)
