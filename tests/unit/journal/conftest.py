"""A journal on the real disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dittofs.journal.journal import Journal
from dittofs.local_disk import LocalDisk

Reopen = Callable[[], Journal]
PATH = "journal.db"


@pytest.fixture
def disk(tmp_path: Path) -> LocalDisk:
    return LocalDisk(str(tmp_path / "volume"))


@pytest.fixture
def journal(disk: LocalDisk) -> Iterator[Journal]:
    opened = Journal.open(disk, PATH)
    yield opened
    opened.abandon()
