"""Rooms of a signalling server: who meets whom, and what bounds hold."""

import pytest

from dittofs.signalling.messages import (
    ROOM_BYTES,
    Came,
    Enter,
    Entered,
    Gone,
    Leave,
    Part,
    Refusal,
    Refused,
    Said,
    Tell,
)
from dittofs.signalling.rooms import (
    BURST,
    CLIENTS_PER_ROOM_MAX,
    GUESTS_BURST,
    GUESTS_RATE,
    ROOMS_PER_CLIENT_MAX,
    Rooms,
    TooMuch,
)

ROOM, OTHER = bytes(ROOM_BYTES), bytes([1]) * ROOM_BYTES


def rooms_with(*clients: int, path: str = "/", host: str = "192.0.2.1") -> Rooms:
    rooms = Rooms()
    for who in clients:
        rooms.came(who, path, host, 0.0)
    return rooms


def test_members_of_a_room_are_told_of_each_other_and_of_who_goes() -> None:
    rooms = rooms_with(1, 2, 3)
    assert rooms.take(1, Enter(ROOM, Part.MEMBER), 0) == [(1, Entered(ROOM))]
    assert rooms.take(2, Enter(ROOM, Part.MEMBER), 0) == [
        (2, Entered(ROOM)),
        (2, Came(ROOM, 1)),
        (1, Came(ROOM, 2)),
    ]
    assert rooms.take(3, Enter(OTHER, Part.MEMBER), 0) == [(3, Entered(OTHER))]
    assert rooms.take(1, Tell(ROOM, 2, b"x"), 0) == [(2, Said(ROOM, 1, b"x"))]
    assert rooms.take(2, Leave(ROOM), 0) == [(1, Gone(ROOM, 2))]
    assert rooms.take(1, Tell(ROOM, 2, b"x"), 0) == []


def test_a_client_that_is_gone_has_left_all_of_its_rooms_and_an_empty_room_is_no_more() -> None:
    rooms = rooms_with(1, 2)
    for room in (ROOM, OTHER):
        rooms.take(1, Enter(room, Part.MEMBER), 0)
        rooms.take(2, Enter(room, Part.MEMBER), 0)
    assert set(rooms.left(1)) == {(2, Gone(ROOM, 1)), (2, Gone(OTHER, 1))}
    assert rooms.left(2) == []
    assert rooms.count == 0


def test_who_is_not_in_a_room_can_tell_nobody_there_anything() -> None:
    rooms = rooms_with(1, 2)
    rooms.take(1, Enter(ROOM, Part.MEMBER), 0)
    assert rooms.take(2, Tell(ROOM, 1, b"x"), 0) == []


def test_guests_meet_the_host_and_nobody_else() -> None:
    rooms = rooms_with(1, 2, 3, 4)
    assert rooms.take(2, Enter(ROOM, Part.GUEST), 0) == [(2, Entered(ROOM))]
    assert rooms.take(1, Enter(ROOM, Part.HOST), 0) == [(1, Entered(ROOM)), (2, Came(ROOM, 1))]
    assert rooms.take(3, Enter(ROOM, Part.GUEST), 0) == [(3, Entered(ROOM)), (3, Came(ROOM, 1))]
    assert rooms.take(4, Enter(ROOM, Part.MEMBER), 0) == [(4, Entered(ROOM))]
    assert rooms.take(3, Tell(ROOM, 2, b"x"), 0) == []
    assert rooms.take(4, Tell(ROOM, 1, b"x"), 0) == []
    assert rooms.take(3, Tell(ROOM, 1, b"x"), 0) == [(1, Said(ROOM, 3, b"x"))]
    assert rooms.take(1, Tell(ROOM, 3, b"y"), 0) == [(3, Said(ROOM, 1, b"y"))]
    assert rooms.take(3, Leave(ROOM), 0) == []
    assert rooms.left(1) == [(2, Gone(ROOM, 1))]


def test_a_number_has_one_host_until_it_goes() -> None:
    rooms = rooms_with(1, 2)
    rooms.take(1, Enter(ROOM, Part.HOST), 0)
    assert rooms.take(2, Enter(ROOM, Part.HOST), 0) == [(2, Refused(ROOM, Refusal.TAKEN))]
    rooms.left(1)
    assert rooms.take(2, Enter(ROOM, Part.HOST), 0) == [(2, Entered(ROOM))]


def test_who_names_another_path_is_met_by_nobody() -> None:
    rooms = rooms_with(1)
    rooms.came(2, "/elsewhere", "192.0.2.1", 0.0)
    rooms.take(1, Enter(ROOM, Part.HOST), 0)
    assert rooms.take(2, Enter(ROOM, Part.HOST), 0) == [(2, Entered(ROOM))]
    assert rooms.take(2, Tell(ROOM, 1, b"x"), 0) == []


def test_a_client_that_says_too_much_is_let_go_of() -> None:
    rooms = rooms_with(1)
    for _ in range(int(BURST)):
        rooms.take(1, Leave(ROOM), 0)
    with pytest.raises(TooMuch):
        rooms.take(1, Leave(ROOM), 0)
    rooms.take(1, Leave(ROOM), 1)


def test_guesses_from_one_address_are_few_however_many_clients_make_them() -> None:
    rooms = rooms_with(*range(100))
    rooms.came(200, "/", "198.51.100.1", 0.0)
    refused = [rooms.take(who, Enter(ROOM, Part.GUEST), 0)[0][1] for who in range(int(GUESTS_BURST) + 1)]
    assert refused[-2:] == [Entered(ROOM), Refused(ROOM, Refusal.RATE)]
    assert rooms.take(200, Enter(ROOM, Part.GUEST), 0) == [(200, Entered(ROOM))]
    assert rooms.take(99, Enter(ROOM, Part.GUEST), 1 / GUESTS_RATE) == [(99, Entered(ROOM))]


def test_a_room_and_a_client_have_their_bounds() -> None:
    rooms = rooms_with(*range(CLIENTS_PER_ROOM_MAX + 1))
    for who in range(CLIENTS_PER_ROOM_MAX):
        rooms.take(who, Enter(ROOM, Part.MEMBER), 0)
    last = CLIENTS_PER_ROOM_MAX
    assert rooms.take(last, Enter(ROOM, Part.MEMBER), 0) == [(last, Refused(ROOM, Refusal.FULL))]
    for number in range(1, ROOMS_PER_CLIENT_MAX + 2):
        told = rooms.take(last, Enter(number.to_bytes(ROOM_BYTES, "big"), Part.MEMBER), 0)
    assert isinstance(told[0][1], Refused)


def test_when_addresses_are_many_one_that_may_guess_again_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dittofs.signalling.rooms.ADDRESSES_MAX", 3)
    rooms = Rooms()
    for who in range(5):
        rooms.came(who, "/", f"198.51.100.{who}", 0)

    def guess(who: int, now: float) -> object:
        (told,) = rooms.take(who, Enter(ROOM, Part.GUEST), now)[-1:]
        rooms.take(who, Leave(ROOM), now)
        return told[1]

    for now, who in enumerate((0, 1, 2, 0)):
        assert guess(who, now) == Entered(ROOM)
    assert guess(3, 3) == Entered(ROOM), "the second is as it was before it came"
    assert guess(4, 3) == Refused(ROOM, Refusal.RATE)
