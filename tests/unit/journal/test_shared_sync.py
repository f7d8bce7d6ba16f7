import threading
import time

import pytest

from dittofs.errors import DiskError
from dittofs.journal.shared_sync import SharedSync

PATIENCE_S = 5.0
"""After which a test that would hang fails."""


class SlowSync:
    """Each run waits until it is let go; what was written when it began is durable when it ends."""

    def __init__(self) -> None:
        self.written = 0
        self.durable = 0
        self.runs = 0
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.failure: DiskError | None = None

    def __call__(self) -> None:
        covered = self.written
        self.runs += 1
        self.began.release()
        assert self.may_end.acquire(timeout=PATIENCE_S)
        if self.failure is not None:
            raise self.failure
        self.durable = covered


def waiter(shared: SharedSync, slow: SlowSync, outcomes: list[object]) -> threading.Thread:
    """A thread that writes, waits, and notes whether what it wrote is durable."""
    slow.written += 1
    mine = slow.written
    entered = threading.Event()

    def run() -> None:
        entered.set()
        try:
            shared.wait()
        except DiskError as error:
            outcomes.append(str(error))
        else:
            outcomes.append(slow.durable >= mine)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    entered.wait()
    return thread


def blocked(shared: SharedSync, count: int) -> None:
    """Return once `count` callers wait for the next run."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline, f"never did {count} callers wait"
        with shared._changed:
            if len(shared._changed._waiters) == count:  # type: ignore[attr-defined]
                return


def test_callers_that_come_during_a_sync_share_the_next_one() -> None:
    slow = SlowSync()
    shared = SharedSync(slow)
    outcomes: list[object] = []
    threads = [waiter(shared, slow, outcomes)]
    assert slow.began.acquire(timeout=PATIENCE_S)
    threads += [waiter(shared, slow, outcomes) for _ in range(5)]
    blocked(shared, 5)
    slow.may_end.release()
    assert slow.began.acquire(timeout=PATIENCE_S)
    slow.may_end.release()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert outcomes == [True] * 6
    assert slow.runs == 2


def test_a_lone_caller_syncs_at_once() -> None:
    slow = SlowSync()
    slow.may_end.release()
    slow.written = 1
    SharedSync(slow).wait()
    assert slow.durable == 1


def test_a_failure_reaches_all_who_share_it_and_all_who_come_later() -> None:
    slow = SlowSync()
    shared = SharedSync(slow)
    outcomes: list[object] = []
    threads = [waiter(shared, slow, outcomes)]
    assert slow.began.acquire(timeout=PATIENCE_S)
    threads += [waiter(shared, slow, outcomes) for _ in range(2)]
    blocked(shared, 2)
    slow.failure = DiskError("broken")
    slow.may_end.release()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(outcomes) == 3
    assert all("broken" in str(outcome) for outcome in outcomes)
    assert shared.has_failed
    with pytest.raises(DiskError, match="broken"):
        shared.wait()
    assert slow.runs == 1
