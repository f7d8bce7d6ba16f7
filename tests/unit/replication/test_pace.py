"""How much longer sending takes, from samples."""

from dittofs.replication.pace import REMEMBERED_S, Pace


def test_the_time_left_follows_from_the_last_seconds() -> None:
    pace = Pace()
    assert pace.time_left_s() is None
    pace.note(0.0, 1000)
    assert pace.time_left_s() is None
    pace.note(2.0, 800)
    assert pace.time_left_s() == 8.0
    pace.note(2.0 + REMEMBERED_S, 700)
    pace.note(3.0 + REMEMBERED_S, 350)
    assert pace.time_left_s() == 1.0  # what was longer ago does not count
    pace.note(4.0 + REMEMBERED_S, 0)
    assert pace.time_left_s() == 0.0


def test_what_came_anew_or_does_not_move_promises_nothing() -> None:
    pace = Pace()
    pace.note(0.0, 1000)
    pace.note(1.0, 500)
    pace.note(2.0, 2000)
    assert pace.time_left_s() is None
    pace.note(3.0, 2000)
    assert pace.time_left_s() is None
