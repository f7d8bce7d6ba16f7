"""Pairing over links whose bytes are carried by hand: who gets in, and who does not."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import DittoError, FormatError
from dittofs.identity.authoring import NotAllowed
from dittofs.identity.granting import remove, resign
from dittofs.identity.invitations import (
    INVITATIONS_MAX,
    PATIENCE_S,
    Invitations,
    PairingRefused,
    Reason,
    slot_of,
)
from dittofs.identity.membership import Membership
from dittofs.identity.pairing import Admission, Joined, admit
from dittofs.identity.pairing_messages import (
    MESSAGE_BYTES_MAX,
    VOLUME_BYTES_MAX,
    Answer,
    Confirmation,
    Greeting,
    Hello,
    Volume,
    decode,
    encode,
    inviter_mac,
    joiner_mac,
    refusal,
    transcript,
)
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Role
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, NAS, PHONE, STRANGER, Share
from tests.unit.identity.estate import ADDRESSES, NOW, OTHER_X, Estate, X


@pytest.fixture
def estate() -> Estate:
    return Estate()


@pytest.mark.parametrize("role", [Role.READER, Role.WRITER, Role.OWNER])
def test_who_holds_the_ticket_becomes_a_member_and_can_open_the_volume(role: Role) -> None:
    estate = Estate(role)
    joined = estate.pair()
    assert joined.secrets == estate.share.secrets.without_root()
    assert (joined.name, joined.role, joined.inviter, joined.addresses) == (
        "Shared",
        role,
        LAPTOP.id,
        ADDRESSES,
    )
    twin = Membership(joined.secrets.genesis)
    twin.add(joined.records)
    assert twin.digest() == estate.share.membership.digest()
    assert [(one.name, one.role) for one in twin.members()] == [("desktop", role), ("laptop", Role.OWNER)]


def test_a_ticket_is_good_for_one_device(estate: Estate) -> None:
    estate.pair(DESKTOP)
    estate.refuses(Reason.USED, PHONE)


def test_a_ticket_is_good_for_ten_minutes(estate: Estate) -> None:
    estate.refuses(Reason.LATE, now=NOW + PATIENCE_S)
    assert not estate.invitations.is_any_open(NOW + PATIENCE_S)
    estate.pair(now=NOW + PATIENCE_S - 1)


def test_ten_minutes_end_in_the_middle_too(estate: Estate) -> None:
    inviter, joiner = estate.inviter(), estate.joiner()
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    with pytest.raises(PairingRefused) as refused:
        inviter.receive_confirmation(confirmation, NOW + PATIENCE_S)
    assert refused.value.reason == Reason.LATE


def test_a_changed_token_finds_no_invitation_and_harms_none(estate: Estate) -> None:
    good = estate.ticket
    for bit in range(128):
        token = (int.from_bytes(good.token, "big") ^ 1 << bit).to_bytes(16, "big")
        estate.ticket = replace(good, token=token)
        estate.refuses(Reason.UNKNOWN)
    estate.ticket = good
    estate.pair()


def test_a_withdrawn_invitation_lets_nobody_in(estate: Estate) -> None:
    estate.invitations.withdraw(estate.invitation)
    estate.refuses(Reason.UNKNOWN)
    assert not estate.invitations.is_any_open(NOW)


def test_a_wrong_confirmation_burns_the_invitation(estate: Estate) -> None:
    inviter, joiner = estate.inviter(STRANGER), estate.joiner(STRANGER)
    inviter.receive_hello(joiner.hello(), NOW)
    guess = Confirmation(bytes(32), bytes(32), bytes(64), "stranger")
    with pytest.raises(PairingRefused) as refused:
        inviter.receive_confirmation(encode(guess), NOW)
    assert refused.value.reason == Reason.WRONG
    inviter.close()
    estate.refuses(Reason.BURNT)
    assert not estate.invitations.is_any_open(NOW)


def changed(message: bytes, **fields: object) -> bytes:
    return encode(msgspec.structs.replace(decode(message, Confirmation), **fields))


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message[:-1],
        lambda _: b"",
        lambda _: b"\x91" * 4000,
        lambda _: bytes(MESSAGE_BYTES_MAX + 1),
        lambda _: encode(Hello(1, bytes(16), b"")),
        lambda message: changed(message, wrapping=bytes(32)),
        lambda message: changed(message, wrapping=bytes(31)),
        lambda message: changed(message, proof=bytes(64)),
        lambda message: changed(message, name=""),
        lambda message: changed(message, name="\x1b[2J"),
        lambda message: changed(message, name="n" * 256),
    ],
)
def test_garbage_in_place_of_a_confirmation_burns_the_invitation_and_no_more(
    estate: Estate, change: Callable[[bytes], bytes]
) -> None:
    inviter, joiner = estate.inviter(), estate.joiner()
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    with pytest.raises(FormatError):
        inviter.receive_confirmation(change(confirmation), NOW)
    inviter.close()
    estate.refuses(Reason.BURNT)


def test_a_proxy_that_ends_tls_on_both_sides_gets_nobody_in(estate: Estate) -> None:
    inviter, joiner = estate.inviter(DESKTOP, exported=OTHER_X), estate.joiner()
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    with pytest.raises(PairingRefused):
        inviter.receive_confirmation(confirmation, NOW)


def test_a_proxy_that_shows_its_own_certificate_gets_nobody_in(estate: Estate) -> None:
    inviter, joiner = estate.inviter(STRANGER), estate.joiner(DESKTOP)
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    with pytest.raises(PairingRefused):
        inviter.receive_confirmation(confirmation, NOW)


def test_a_confirmation_heard_on_one_link_is_worth_nothing_on_another(estate: Estate) -> None:
    first = estate.joiner()
    with contextlib.closing(estate.inviter()) as inviter:
        confirmation = first.receive_greeting(inviter.receive_hello(first.hello(), NOW))
    replayed = estate.inviter(exported=OTHER_X)
    replayed.receive_hello(first.hello(), NOW)
    with pytest.raises(PairingRefused):
        replayed.receive_confirmation(confirmation, NOW)


def test_a_joiner_believes_no_answer_from_who_does_not_know_the_token(estate: Estate) -> None:
    joiner = estate.joiner()
    joiner.receive_greeting(encode(Greeting(b"")))
    with pytest.raises(FormatError, match="does not know the ticket or code"):
        joiner.receive_answer(encode(Answer(bytes(32))))


def test_the_inviters_confirmation_is_not_the_joiners_sent_back(estate: Estate) -> None:
    joiner = estate.joiner()
    confirmation = decode(joiner.receive_greeting(encode(Greeting(b""))), Confirmation)
    with pytest.raises(FormatError, match="does not know the ticket or code"):
        joiner.receive_answer(encode(Answer(confirmation.mac)))


def test_little_is_read_from_an_inviter_that_has_not_proven_itself(estate: Estate) -> None:
    inviter, joiner = estate.inviter(), estate.joiner()
    assert joiner.bytes_max == MESSAGE_BYTES_MAX
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    assert joiner.bytes_max == MESSAGE_BYTES_MAX
    answer, _ = estate.answer(inviter, confirmation)
    joiner.receive_answer(answer)
    assert joiner.bytes_max == VOLUME_BYTES_MAX


def test_one_attempt_at_a_time(estate: Estate) -> None:
    first = estate.inviter(DESKTOP)
    first.receive_hello(estate.joiner().hello(), NOW)
    estate.refuses(Reason.BUSY, PHONE)
    first.close()
    estate.pair(PHONE)


def test_a_device_that_begins_again_ends_its_earlier_attempt(estate: Estate) -> None:
    first, joiner = estate.inviter(), estate.joiner()
    confirmation = joiner.receive_greeting(first.receive_hello(joiner.hello(), NOW))
    with contextlib.closing(estate.inviter()) as second:
        second.receive_hello(joiner.hello(), NOW)
        with pytest.raises(PairingRefused) as refused:
            first.receive_confirmation(confirmation, NOW)
        assert refused.value.reason == Reason.BUSY
        first.close()
        estate.refuses(Reason.BUSY, PHONE)
    estate.pair()


def test_a_link_lost_before_the_confirmation_leaves_the_ticket_good(estate: Estate) -> None:
    with contextlib.closing(estate.inviter()) as inviter:
        inviter.receive_hello(estate.joiner().hello(), NOW)
    estate.pair(PHONE)


def test_a_device_whose_answer_was_lost_is_answered_again_and_made_a_member_once(estate: Estate) -> None:
    inviter, joiner = estate.inviter(), estate.joiner()
    with contextlib.closing(inviter):
        estate.answer(inviter, joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW)))
    digest = estate.share.membership.digest()
    assert estate.invitations.is_any_open(NOW)
    assert estate.pair().role == Role.WRITER
    assert estate.share.membership.digest() == digest


def test_a_member_let_in_and_removed_within_ten_minutes_stays_out(estate: Estate) -> None:
    estate.pair()
    records, _ = remove(estate.share.membership, estate.share.secrets, LAPTOP, DESKTOP.id, ENTROPY)
    estate.share.membership.add(records)
    estate.refuses(Reason.USED, DESKTOP)


def test_a_member_who_joins_again_keeps_the_greater_role() -> None:
    estate = Estate(Role.READER)
    estate.share.admit(DESKTOP, Role.OWNER, "desktop")
    assert estate.pair().role == Role.OWNER


def test_a_device_that_is_called_like_a_member_gets_a_number(estate: Estate) -> None:
    for device, name in ((NAS, "desktop"), (PHONE, "desktop-2")):
        estate.share.admit(device, Role.READER, name)
    estate.pair()
    assert estate.share.membership.name(DESKTOP.id) == "desktop-3"
    long = "é" * 127 + "x"  # as long as a name may be
    estate = Estate()
    estate.share.admit(NAS, Role.READER, long)
    publics = make_publics(PHONE)
    admission = Admission(estate.share.secrets.volume_id, Role.READER, publics, long, is_again=False)
    estate.share.membership.add(admit(estate.share.membership, estate.share.secrets, LAPTOP, admission))
    assert estate.share.membership.name(PHONE.id) == "é" * 126 + "-2"


def test_an_owner_who_lost_that_role_lets_nobody_in(estate: Estate) -> None:
    estate.share.admit(NAS, Role.OWNER, "nas")
    estate.share.membership.add([resign(estate.share.membership, LAPTOP)])
    with pytest.raises(NotAllowed, match="nas"):
        estate.pair()


def test_a_ticket_is_not_for_the_device_that_made_it(estate: Estate) -> None:
    with pytest.raises(PairingRefused) as refused:
        estate.joiner(LAPTOP)
    assert refused.value.reason == Reason.OWN


def test_a_joiner_tells_why_it_was_refused(estate: Estate) -> None:
    for reason in Reason:
        with pytest.raises(PairingRefused) as refused:
            estate.joiner().receive_greeting(refusal(reason))
        assert refused.value.reason == reason
    with pytest.raises(PairingRefused) as refused:
        estate.joiner().receive_greeting(b"\x92\x09\xcd\x03\xe7")
    assert refused.value.reason == Reason.MALFORMED


def test_another_version_is_refused_with_a_reason(estate: Estate) -> None:
    for hello in (Hello(2, estate.invitation.slot, b""), Hello(1, estate.invitation.slot, bytes(33))):
        with pytest.raises(PairingRefused) as refused:
            estate.inviter().receive_hello(encode(hello), NOW)
        assert refused.value.reason == Reason.MALFORMED
    estate.pair()


def test_a_bounded_number_of_invitations_is_open() -> None:
    invitations = Invitations()
    opened = [invitations.open(LAPTOP_VOLUME, Role.WRITER, ENTROPY, NOW) for _ in range(INVITATIONS_MAX)]
    with pytest.raises(DittoError, match="wait ten minutes"):
        invitations.open(LAPTOP_VOLUME, Role.WRITER, ENTROPY, NOW)
    invitations.burn(opened[0], NOW)
    invitations.open(LAPTOP_VOLUME, Role.WRITER, ENTROPY, NOW)
    assert invitations.find(opened[0].slot) is None
    assert invitations.find(opened[1].slot) is opened[1]


LAPTOP_VOLUME = Share().secrets.volume_id


def received_volume(estate: Estate, change: Callable[[Volume], Volume]) -> Joined:
    inviter, joiner = estate.inviter(), estate.joiner()
    confirmation = joiner.receive_greeting(inviter.receive_hello(joiner.hello(), NOW))
    answer, volume = estate.answer(inviter, confirmation)
    joiner.receive_answer(answer)
    return joiner.receive_volume(encode(change(decode(volume, Volume, VOLUME_BYTES_MAX))))


@pytest.mark.parametrize(
    "fields",
    [
        {"genesis": b""},
        {"signature": bytes(64)},
        {"records": []},
        {"records": [b""]},
        {"records": [b""] * 4097},
        {"addresses": ["nowhere"]},
        {"addresses": list(ADDRESSES) * 9},
        {"name": ""},
        {"name": "a\nb"},
    ],
    ids=str,
)
def test_a_joiner_refuses_a_volume_that_does_not_hold_together(
    estate: Estate, fields: dict[str, object]
) -> None:
    with pytest.raises(FormatError):
        received_volume(estate, lambda volume: msgspec.structs.replace(volume, **fields))


def test_a_joiner_refuses_a_volume_that_leaves_it_out(estate: Estate) -> None:
    with pytest.raises(FormatError, match="does not count this device"):
        received_volume(estate, lambda volume: msgspec.structs.replace(volume, records=volume.records[:-1]))


def test_a_joiner_refuses_a_volume_of_which_the_inviter_is_no_owner(estate: Estate) -> None:
    other = Share()
    with pytest.raises(FormatError, match="no owner"):
        received_volume(
            estate,
            lambda volume: msgspec.structs.replace(
                volume,
                genesis=other.secrets.genesis.record,
                signature=other.secrets.genesis.signature,
                records=[],
            ),
        )


def test_the_messages_are_these_bytes() -> None:
    hello, greeting = Hello(1, bytes(range(16)), b""), Greeting(b"")
    assert encode(hello).hex() == "940101c410000102030405060708090a0b0c0d0e0fc400"
    assert encode(greeting).hex() == "9202c400"
    assert encode(Confirmation(b"m", b"w", b"p", "n")).hex() == "9503c4016dc40177c40170a16e"
    assert encode(Answer(b"m")).hex() == "9204c4016d"
    assert encode(Volume(b"g", b"s", [b"r"], ["a"], "n")).hex() == "9605c40167c4017391c4017291a161a16e"
    assert refusal(Reason.USED).hex() == "920902"
    said = transcript(DESKTOP.id, LAPTOP.id, X, hello, greeting)
    assert said.hex() == "89c7776640d13f9d3a17efbc47fcc7cda8db20b2d5285c742c611b3e7a3932b3"
    assert (
        joiner_mac(bytes(16), said).hex()
        == "9b57d42f7c6d309fba321c0231304125061b6efc1f4b809fe9c934483eb9a430"
    )
    assert (
        inviter_mac(bytes(16), said).hex()
        == "9fa7417cee52d3ea1b211f87b7bb8900c1eeb5e338a77d0ac40837b410d19eae"
    )
    assert slot_of(bytes(16)).hex() == "80c91dd84126149a9e7eea537c482061"


@given(st.binary(max_size=200))
@example(b"\x91" * 4000)
@example(encode(Hello(1, bytes(16), b""))[:-1])
@example(b"\x94\x01\x01\xc4\x00\xc4\x00\xc0")
@example(b"\x92\x09\xcf\xff\xff\xff\xff\xff\xff\xff\xff")
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for kind in (Hello, Greeting, Confirmation, Answer, Volume):
        with contextlib.suppress(FormatError, PairingRefused):
            assert isinstance(decode(data, kind), kind)


@given(st.data())
def test_any_change_to_what_is_said_ends_without_a_member(data: st.DataObject) -> None:
    estate = Estate()
    inviter, joiner = estate.inviter(), estate.joiner()
    place = data.draw(st.integers(0, 2))

    def carried(number: int, message: bytes) -> bytes:
        if number != place:
            return message
        at = data.draw(st.integers(0, len(message) - 1))
        return message[:at] + bytes([message[at] ^ data.draw(st.integers(1, 255))]) + message[at + 1 :]

    with pytest.raises((FormatError, PairingRefused)):
        greeting = inviter.receive_hello(carried(0, joiner.hello()), NOW)
        confirmation = carried(2, joiner.receive_greeting(carried(1, greeting)))
        admission = inviter.receive_confirmation(confirmation, NOW)
        if admission.name != "desktop":  # the one thing that only TLS keeps
            raise FormatError("another name")
    assert [one.name for one in estate.share.membership.members()] == ["laptop"]
