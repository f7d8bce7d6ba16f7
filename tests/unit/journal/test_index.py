"""The persisted index: a scan gives what begins so, and nothing else."""

import pytest

from dittofs.journal.journal import Journal

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
