"""A volume takes changes only when nothing of its opening is left to be done."""

from collections.abc import Callable, Iterator

import pytest

from dittofs.errors import Damaged, DiskFull, ReadOnlyVolume
from dittofs.journal.journal import Journal
from dittofs.volume.writability import Writability
from tests.simulation.disk import SimulatedDisk


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal.open(SimulatedDisk(), "journal.db")
    yield journal
    journal.abandon()


def failing(error: BaseException, done: list[str]) -> Callable[[], None]:
    """What raises the first time."""
    waiting = [error]

    def act() -> None:
        if waiting:
            raise waiting.pop()
        done.append("failed once")

    return act


@pytest.mark.logs_warning("volume turned read-only", "what opening a volume left undone cannot be done")
@pytest.mark.parametrize(
    "error", [DiskFull("now"), Damaged("a row", "bad"), ZeroDivisionError(), KeyboardInterrupt()]
)
def test_nothing_is_changed_while_something_is_left_undone_whatever_it_met(
    journal: Journal, error: BaseException
) -> None:
    writability, done = Writability(journal), list[str]()
    full = DiskFull("at the start")
    writability.postpone(full, lambda: done.append("first"))
    writability.postpone(full, failing(error, done))
    writability.postpone(full, lambda: done.append("last"))
    reason = writability.reason
    try:
        assert not writability.try_again()
    except (ZeroDivisionError, KeyboardInterrupt) as raised:
        assert raised is error
    assert done == ["first"]
    assert writability.reason == reason
    with pytest.raises(ReadOnlyVolume):
        writability.require()
    assert writability.try_again()
    assert done == ["first", "failed once", "last"]
    writability.require()
