"""What a kernel is told, by a stand-in that remembers it."""

import threading

from mountd.invalidation import PENDING_MAX, Invalidation
from mountd.known_names import KnownNames

PATIENCE_S = 10.0


class Kernel:
    """Takes invalidations; those of pages wait while `pages_may_go` is not set."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes | None]] = []
        self.pages_may_go = threading.Event()
        self.pages_may_go.set()
        self.is_waiting = threading.Event()
        self.has_name = threading.Event()

    def invalidate_inode(self, number: int, attr_only: bool = False) -> None:
        if not attr_only:
            self.is_waiting.set()
            self.pages_may_go.wait(PATIENCE_S)
            self.heard.append((number, None))

    def invalidate_entry_async(self, number: int, name: bytes, *, ignore_enoent: bool) -> None:
        assert ignore_enoent
        self.heard.append((number, name))
        self.has_name.set()


def test_everything_put_is_delivered_before_the_end_and_each_thing_once() -> None:
    kernel = Kernel()
    invalidation = Invalidation(kernel)
    for _ in range(3):
        invalidation.inode(5)
        invalidation.entry(1, b"a")
        invalidation.entry(1, b"b")
    invalidation.start()
    invalidation.stop()
    assert sorted(kernel.heard, key=str) == sorted([(5, None), (1, b"a"), (1, b"b")], key=str)


def test_a_page_that_waits_for_its_bytes_holds_up_no_name() -> None:
    kernel = Kernel()
    kernel.pages_may_go.clear()
    invalidation = Invalidation(kernel)
    invalidation.start()
    invalidation.inode(5)
    assert kernel.is_waiting.wait(PATIENCE_S)
    invalidation.entry(1, b"a")
    assert kernel.has_name.wait(PATIENCE_S)
    assert kernel.heard == [(1, b"a")]
    kernel.pages_may_go.set()
    invalidation.stop()
    assert (5, None) in kernel.heard


def test_what_a_kernel_was_told_is_known_for_as_long_as_it_may_remember() -> None:
    names = KnownNames(3600, 0)
    for number in range(1000):
        names.note(1, b"%d" % number, number)
    assert all(names.may_know(1, b"%d" % number) for number in range(1000))
    names.note(2, b"later", 3601)
    assert all(names.may_know(1, b"%d" % number) for number in range(1000))
    names.note(2, b"much later", 7300)
    assert names.may_know(2, b"later")


def test_what_a_kernel_was_never_told_is_hardly_ever_taken_for_known() -> None:
    names = KnownNames(3600, 0)
    for number in range(10_000):
        names.note(1, b"known %d" % number, 0)
    taken = sum(names.may_know(1, b"unknown %d" % number) for number in range(100_000))
    assert taken < 2_000
    assert taken < PENDING_MAX
