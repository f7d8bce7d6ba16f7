"""The persisted index: a scan gives what begins so, and nothing else."""

import pytest

from dittofs.journal.journal import Journal
from dittofs.journal.rows import UNWRITTEN_ROWS_MAX

KEYS = [b"", b"a", b"a\xff", b"a\xff\xff", b"a\xffz", b"b", b"\xff", b"\xff\xff", b"\xff\xffa"]


@pytest.mark.parametrize("prefix", [*KEYS, b"c", b"\xfe", b"a\xff\xff\xff"])
def test_a_scan_gives_every_key_with_its_prefix_and_no_other(journal: Journal, prefix: bytes) -> None:
    with journal.transaction():
        for key in KEYS:
            journal.put("t", key, b"v" + key)
            journal.put("other", key + b"x", b"")
            journal.put_local("kind", key, b"v" + key)
    expected = [(key, b"v" + key) for key in sorted(KEYS) if key.startswith(prefix)]
    assert list(journal.scan("t", prefix)) == expected
    assert list(journal.scan_local("kind", prefix)) == expected


def test_a_scan_of_many_rows_goes_on_behind_the_last_one(journal: Journal) -> None:
    with journal.transaction():
        for number in range(1_500):
            journal.put("t", b"p%04d" % number, b"")
        journal.put("t", b"q", b"")
    assert [key for key, _ in journal.scan("t", b"p")] == [b"p%04d" % number for number in range(1_500)]


def test_a_transaction_reads_what_it_changed_and_leaves_nothing_if_it_is_undone(journal: Journal) -> None:
    with journal.transaction():
        journal.put("t", b"kept", b"1")
        journal.put("t", b"goes", b"1")
    with pytest.raises(KeyError), journal.transaction():
        journal.put("t", b"kept", b"2")
        journal.delete("t", b"goes")
        journal.put("t", b"fresh", b"2")
        assert [journal.get("t", key) for key in (b"kept", b"goes", b"fresh")] == [b"2", None, b"2"]
        assert list(journal.scan("t", b"")) == [(b"fresh", b"2"), (b"kept", b"2")]
        journal.put("t", b"kept", b"3")
        assert journal.get("t", b"kept") == b"3"
        raise KeyError
    assert list(journal.scan("t", b"")) == [(b"goes", b"1"), (b"kept", b"1")]
    assert journal.get("t", b"fresh") is None


def test_a_row_changed_during_a_scan_is_not_lost(journal: Journal) -> None:
    with journal.transaction():
        for number in range(1_200):
            journal.put("t", b"%04d" % number, b"old")
    with journal.transaction():
        for key, _ in journal.scan("t", b""):
            journal.put("t", key, b"new")
    assert {value for _, value in journal.scan("t", b"")} == {b"new"}


def test_a_transaction_larger_than_is_kept_in_memory_is_whole(journal: Journal) -> None:
    count = UNWRITTEN_ROWS_MAX + 100
    with journal.transaction():
        for number in range(count):
            journal.put("t", b"%06d" % number, b"1")
            journal.delete("t", b"%06d" % (number - 1))
    assert list(journal.scan("t", b"")) == [(b"%06d" % (count - 1), b"1")]
