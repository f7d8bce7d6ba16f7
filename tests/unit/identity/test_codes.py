"""Join codes: what is shown is what is typed, and one wrong word ends an invitation."""

import contextlib
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.identity.codes import (
    SLOTS,
    WORDS_COUNT,
    BadCode,
    Code,
    completions,
    draw_code,
    is_like_code,
    parse_code,
    slot_name,
)
from dittofs.identity.exchange import ELEMENT_BYTES, inviter_exchange, joiner_exchange
from dittofs.identity.invitations import ATTEMPTS_MAX, BURNT_MAX, BURNT_S, PATIENCE_S, PairingRefused, Reason
from dittofs.identity.pairing_messages import (
    Answer,
    Confirmation,
    Greeting,
    Hello,
    decode,
    encode,
    inviter_mac,
)
from dittofs.identity.records import Role
from dittofs.identity.wordlist import WORDS
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, NAS, PHONE, STRANGER
from tests.unit.identity.estate import NOW, OTHER_X, Estate, X


@pytest.fixture
def estate() -> Estate:
    """Joiners type the code."""
    made = Estate()
    made.code = made.invitation.code
    return made


def wrong(code: Code) -> Code:
    """A code with the same number and another word."""
    first, *rest = code.words
    return Code(code.slot, ("acid" if first != "acid" else "zipper", *rest))


# -- as text


@given(st.sampled_from(SLOTS), st.lists(st.sampled_from(WORDS), min_size=2, max_size=3))
def test_what_is_shown_is_what_is_typed(slot: int, words: list[str]) -> None:
    code = Code(slot, tuple(words))
    text = str(code)
    for typed in (text, text.upper(), f" {text.replace('-', ' ')}\n", text.replace("-", "_")):
        assert parse_code(typed) == code
    assert parse_code("-".join([str(slot), *(word[:4] for word in words)])) == code
    assert is_like_code(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with a number"),
        ("cabin-velvet", "begins with a number"),
        ("0-cabin-velvet", "from 1 to 99"),
        ("100-cabin-velvet", "from 1 to 99"),
        ("\u0667-cabin-velvet", "begins with a number"),
        ("7", "this has 0"),
        ("7-cabin", "this has 1"),
        ("7-cabin-velvet-olive-zebra", "this has 4"),
        ("7-cabim-velvet", "is it 'cabin'"),
        ("7-cab-velvet", "first 4 letters"),
        ("7-\x1b[2J-velvet", "is in no code"),
    ],
)
def test_what_no_device_shows_is_refused_before_it_costs_a_guess(text: str, says: str) -> None:
    with pytest.raises(BadCode, match=says):
        parse_code(text)


def test_tickets_and_addresses_are_no_codes() -> None:
    for text in ("dittofs://join/1?d=x", "192.168.1.7:7347", "nas.local:7347", "[fe80::1]:7347", ""):
        assert not is_like_code(text)
    assert is_like_code("7-cabim-velvte")
    assert is_like_code("7 cabin velvet")


def test_every_word_is_drawn_as_often_as_another_and_no_slot_twice() -> None:
    seen = [draw_code(lambda n, b=byte: bytes([b]) * n, (), WORDS_COUNT).words for byte in range(256)]
    assert {words[0] for words in seen} == {words[1] for words in seen} == set(WORDS)
    taken: set[int] = set()
    for _ in SLOTS:
        taken.add(draw_code(ENTROPY, taken, WORDS_COUNT).slot)
        if len(taken) == len(SLOTS) - 1:
            break
    assert len(taken) == len(SLOTS) - 1


def test_words_of_a_code_cannot_be_taken_for_each_other() -> None:
    assert len({word[:4] for word in WORDS}) == len(WORDS) == 256
    assert all(4 <= len(word) <= 9 and word.isascii() and word.islower() for word in WORDS)
    assert all(one < other for one, other in pairwise(WORDS))


def test_a_shell_finishes_the_word_that_was_begun() -> None:
    assert completions("7-cab") == ["7-cabin"]
    assert completions("7-cabin-vel") == ["7-cabin-velvet"]
    assert len(completions("7-")) == len(completions("7-cabin-")) == 256
    assert completions("7-CABIN-za") == []
    for nothing in ("", "7", "x-cab", "7-nonsense-cab", "7-cabin-velvet-olive-a"):
        assert completions(nothing) == []


def test_a_code_that_is_printed_in_a_log_shows_no_word() -> None:
    code = Code(7, ("cabin", "velvet"))
    assert "cabin" not in repr(code)
    assert str(code) == "7-cabin-velvet"


# -- in


@pytest.mark.parametrize("role", [Role.READER, Role.WRITER, Role.OWNER])
def test_who_types_the_code_becomes_a_member_and_can_open_the_volume(role: Role) -> None:
    estate = Estate(role)
    estate.code = parse_code(str(estate.invitation.code))
    joined = estate.pair()
    assert joined.secrets == estate.share.secrets.without_root()
    assert (joined.role, joined.inviter) == (role, LAPTOP.id)
    assert [one.name for one in estate.share.membership.members()] == ["desktop", "laptop"]


def test_a_code_lets_one_device_in_whichever_door_it_takes(estate: Estate) -> None:
    estate.pair(DESKTOP)
    estate.refuses(Reason.USED, PHONE)
    estate.code = None
    estate.refuses(Reason.USED, PHONE)
    other = Estate()
    other.pair(DESKTOP)
    other.code = other.invitation.code
    other.refuses(Reason.USED, PHONE)


def test_a_device_whose_answer_was_lost_types_the_code_again(estate: Estate) -> None:
    estate.pair()
    digest = estate.share.membership.digest()
    assert estate.pair().role == Role.WRITER
    assert estate.share.membership.digest() == digest


# -- out: a wrong code


def test_a_wrong_code_burns_the_invitation_and_the_right_one_is_refused_then(estate: Estate) -> None:
    right = estate.invitation.code
    estate.code = wrong(right)
    estate.refuses(Reason.WRONG, STRANGER)
    estate.code = right
    estate.refuses(Reason.BURNT, DESKTOP)
    estate.code = None  # the ticket too
    estate.refuses(Reason.BURNT, DESKTOP)
    assert not estate.invitations.is_any_open(NOW)


def test_every_other_code_is_wrong(estate: Estate) -> None:
    slot, right = estate.invitation.code.slot, estate.invitation.code
    for words in (("acid", "acid"), (*right.words, "acid"), right.words[::-1], (right.words[0],) * 2):
        if words != right.words:
            fresh = Estate()
            fresh.code = Code(fresh.invitation.code.slot, words)
            fresh.refuses(Reason.WRONG, STRANGER)
    estate.code = Code(slot % 99 + 1, right.words)
    estate.refuses(Reason.UNKNOWN, STRANGER)  # no such invitation: nothing is burnt
    estate.code = right
    estate.pair()


def test_a_code_is_good_for_ten_minutes(estate: Estate) -> None:
    estate.refuses(Reason.LATE, now=NOW + PATIENCE_S)
    assert estate.invitation.outcome(NOW + PATIENCE_S) == Reason.LATE
    assert estate.invitation.outcome(NOW + PATIENCE_S - 1) is None
    estate.pair(now=NOW + PATIENCE_S - 1)


def test_three_burnt_within_an_hour_make_the_next_codes_longer() -> None:
    estate = Estate()
    volume = estate.share.secrets.volume_id
    for number in range(BURNT_MAX):
        invitation = estate.invitations.open(volume, Role.WRITER, ENTROPY, NOW + number)
        assert len(invitation.code.words) == 2
        estate.invitations.burn(invitation, NOW + number)
    later = estate.invitations.open(volume, Role.WRITER, ENTROPY, NOW + 100)
    assert len(later.code.words) == 3
    after = estate.invitations.open(volume, Role.WRITER, ENTROPY, NOW + BURNT_S)
    assert len(after.code.words) == 2
    estate.invitation, estate.code = later, later.code
    estate.pair()


# -- out: guesses beside and again


def test_guesses_beside_each_other_are_one_guess(estate: Estate) -> None:
    """Four devices begin; whoever is not the first is refused, and the first guess burns it for all."""
    right = estate.invitation.code
    estate.code = wrong(right)
    first, guess = estate.inviter(STRANGER), estate.joiner(STRANGER)
    confirmation = guess.receive_greeting(first.receive_hello(guess.hello(), NOW))
    for device in (PHONE, NAS, DESKTOP):
        estate.refuses(Reason.BUSY, device)
    with contextlib.closing(first), pytest.raises(PairingRefused) as refused:
        first.receive_confirmation(confirmation, NOW)
    assert refused.value.reason == Reason.WRONG
    estate.code = right
    for device in (PHONE, DESKTOP):
        estate.refuses(Reason.BURNT, device)


def test_one_device_on_many_links_has_one_guess_too(estate: Estate) -> None:
    estate.code = wrong(estate.invitation.code)
    attempts = []
    for _ in range(3):
        inviter, joiner = estate.inviter(STRANGER), estate.joiner(STRANGER)
        attempts.append((inviter, joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))))
    reasons = []
    for inviter, confirmation in attempts[::-1]:
        with pytest.raises(PairingRefused) as refused:
            inviter.receive_confirmation(confirmation, NOW)
        reasons.append(refused.value.reason)
    assert reasons == [Reason.WRONG, Reason.BUSY, Reason.BUSY]


def test_attempts_that_are_broken_off_are_bounded(estate: Estate) -> None:
    for _ in range(ATTEMPTS_MAX):
        with contextlib.closing(estate.inviter(STRANGER)) as inviter:
            inviter.receive_hello(estate.joiner(STRANGER).hello(), NOW)
    estate.refuses(Reason.BURNT, STRANGER)
    estate.refuses(Reason.BURNT, DESKTOP)


def test_what_was_heard_on_one_link_is_worth_nothing_on_another(estate: Estate) -> None:
    first = estate.joiner()
    with contextlib.closing(estate.inviter()) as inviter:
        hello = first.hello()
        confirmation = first.receive_greeting(inviter.receive_hello(hello, NOW))
    replayed = estate.inviter(exported=OTHER_X)
    replayed.receive_hello(hello, NOW)
    with pytest.raises(PairingRefused) as refused:
        replayed.receive_confirmation(confirmation, NOW)
    assert refused.value.reason == Reason.WRONG


# -- out: in the middle


def test_the_right_code_through_a_proxy_that_ends_tls_lets_nobody_in(estate: Estate) -> None:
    inviter, joiner = estate.inviter(DESKTOP, exported=OTHER_X), estate.joiner(DESKTOP, exported=X)
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    with pytest.raises(PairingRefused) as refused:
        inviter.receive_confirmation(confirmation, NOW)
    assert refused.value.reason == Reason.WRONG


def test_the_right_code_through_a_proxy_with_a_certificate_of_its_own_lets_nobody_in(estate: Estate) -> None:
    inviter, joiner = estate.inviter(STRANGER), estate.joiner(DESKTOP)
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    with pytest.raises(PairingRefused):
        inviter.receive_confirmation(confirmation, NOW)


def test_a_liar_that_guesses_wrong_is_not_believed_and_learns_nothing_that_helps_again(
    estate: Estate,
) -> None:
    """It has the joiner's confirmation, and another key: it cannot try other words at home."""
    assert estate.code is not None
    joiner = estate.joiner()
    hello = decode(joiner.hello(), Hello)
    exchange = inviter_exchange(wrong(estate.code).secret, DESKTOP.id, LAPTOP.id, ENTROPY)
    secret = exchange.secret(hello.a)
    joiner.receive_greeting(encode(Greeting(exchange.said)))
    with pytest.raises(FormatError, match="does not know"):
        joiner.receive_answer(encode(Answer(inviter_mac(secret, bytes(32)))))


def test_the_joiner_confirms_first_and_its_confirmation_sent_back_is_no_answer(estate: Estate) -> None:
    inviter, joiner = estate.inviter(), estate.joiner()
    greeting = inviter.receive_hello(joiner.hello(), NOW)
    assert len(decode(greeting, Greeting).b) == ELEMENT_BYTES  # and no confirmation with it
    confirmation = joiner.receive_greeting(greeting)
    with pytest.raises(FormatError, match="does not know"):
        joiner.receive_answer(encode(Answer(decode(confirmation, Confirmation).mac)))


def test_both_sides_have_one_key_only_with_the_same_words_and_devices() -> None:
    def agree(words: bytes, joiner: bytes = DESKTOP.id, inviter: bytes = LAPTOP.id) -> bool:
        one = joiner_exchange(b"cabin-velvet", DESKTOP.id, LAPTOP.id, ENTROPY)
        other = inviter_exchange(words, type(DESKTOP.id)(joiner), type(LAPTOP.id)(inviter), ENTROPY)
        return one.secret(other.said) == other.secret(one.said)

    assert agree(b"cabin-velvet")
    assert not agree(b"cabin-velour")
    assert not agree(b"cabin-velvet", joiner=STRANGER.id)
    assert not agree(b"cabin-velvet", inviter=STRANGER.id)


@pytest.mark.parametrize(
    "half",
    [
        b"",
        bytes(33),
        b"A" + bytes(31),
        b"A" + bytes(33),
        b"A" + bytes(32),
        b"A\x01" + bytes(31),  # the neutral element
        b"A\x02" + bytes(31),
        b"A" + b"\xff" * 32,
        b"B" + bytes(32),
        b"S" + bytes(32),
    ],
)
def test_half_an_exchange_that_no_device_says_is_refused_and_guesses_nothing(
    estate: Estate, half: bytes
) -> None:
    hello = Hello(1, estate.invitation.code.name, half)
    inviter = estate.inviter(STRANGER)
    with contextlib.closing(inviter), pytest.raises((FormatError, PairingRefused)):
        inviter.receive_hello(encode(hello), NOW)
    with pytest.raises(FormatError):
        estate.joiner().receive_greeting(encode(Greeting(half)))
    estate.pair()


def test_a_code_is_no_token_and_a_token_no_code(estate: Estate) -> None:
    """The number alone, which everybody on the network hears, opens nothing."""
    for hello in (
        Hello(1, estate.invitation.code.name, b""),
        Hello(1, estate.invitation.slot, b"A" + bytes(32)),
    ):
        with pytest.raises(PairingRefused) as refused:
            estate.inviter(STRANGER).receive_hello(encode(hello), NOW)
        assert refused.value.reason == Reason.MALFORMED
    estate.pair()


def test_the_first_messages_are_these_bytes(estate: Estate) -> None:
    hello = decode(estate.joiner().hello(), Hello)
    assert hello.slot == slot_name(estate.invitation.code.slot)
    assert (len(hello.a), hello.a[:1]) == (ELEMENT_BYTES, b"A")
    assert encode(msgspec.structs.replace(hello, slot=b"7", a=b"A")).hex() == "940101c40137c40141"
