"""Programs that watch a directory on one device hear what was done on another."""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.e2e.network import Device, Network
from tests.e2e.watching import Event, Watcher

PATIENCE_S = 30.0
Pair = tuple[Network, Device, Device]


@pytest.mark.parametrize(
    ("rounds", "median_s_max"),
    [(2, PATIENCE_S), pytest.param(15, 0.1, marks=pytest.mark.soak)],
    ids=["few", "many"],
)
def test_a_watcher_hears_of_files_made_changed_renamed_and_removed_elsewhere(
    pair: Pair, rounds: int, median_s_max: float
) -> None:
    _, a, b = pair
    (a.root / "docs").mkdir()
    a.await_in_step()
    took: dict[str, list[float]] = {}
    with Watcher(b.root / "docs") as watcher:

        def heard(what: str, name: str, act: Callable[[], object]) -> None:
            begun = time.monotonic()
            act()
            took.setdefault(what, []).append(watcher.wait(what, name, PATIENCE_S) - begun)
            time.sleep(0.12)  # between two single changes
            watcher.read()

        for number in range(rounds):
            path, new = a.root / f"docs/file{number}", a.root / f"docs/new{number}"
            heard("CREATE", path.name, partial(path.write_bytes, b"1"))
            heard("CLOSE_WRITE", path.name, partial(path.write_bytes, b"22"))
            heard("MOVED_TO", new.name, partial(path.rename, new))
            heard("DELETE", new.name, new.unlink)
        moved = Event("MOVED_FROM", "file0"), Event("MOVED_TO", "new0")
        assert watcher.cookies[moved[0]] == watcher.cookies[moved[1]] != 0
        assert Event("MODIFY", "file0") in watcher.seen
    medians = {what: statistics.median(times) for what, times in took.items()}
    assert max(medians.values()) < median_s_max, medians
    assert os.listdir(b.root / "docs") == []


def test_what_a_watcher_is_told_is_so(pair: Pair) -> None:
    _, a, b = pair
    (a.root / "d/below").mkdir(parents=True)
    (a.root / "d/file").write_bytes(b"old")
    (a.root / "d/gone").write_bytes(b"x")
    a.await_in_step()
    kept = (b.root / "d/file").open("rb")
    with kept, Watcher(b.root / "d", b.root / "d/below", b.root / "d/gone") as watcher:
        (a.root / "d/below/linked").symlink_to("file")
        (a.root / "d/made/deep").mkdir(parents=True)
        os.link(a.root / "d/file", a.root / "d/second")
        os.mkfifo(a.root / "d/fifo")
        (a.root / "d/file").write_bytes(b"new content")
        (a.root / "d/gone").unlink()
        (a.root / "d/file").chmod(0o600)
        (a.root / "d/file").rename(a.root / "d/below/file")
        for what, name in (
            *(("CREATE", "linked"), ("CREATE", "made"), ("CREATE", "second"), ("CREATE", "fifo")),
            *(("DELETE", "gone"), ("MOVED_FROM", "file"), ("MOVED_TO", "file")),
        ):
            if Event(what, name) not in watcher.seen:
                watcher.wait(what, name, PATIENCE_S)
    a.await_in_step()
    for side in (a, b):
        assert sorted(os.listdir(side.root / "d")) == ["below", "fifo", "made", "second"]
        assert (side.root / "d/below/linked").read_bytes() == b"new content"
        assert (side.root / "d/second").stat().st_nlink == 2
        assert (side.root / "d/second").stat().st_mode & 0o777 == 0o600
        assert (side.root / "d/made/deep").is_dir()


def test_nothing_is_fetched_and_nothing_is_changed_for_the_sake_of_a_watcher(pair: Pair) -> None:
    _, a, b = pair
    b.run("copies", "on-demand", check=False)
    with Watcher(b.root) as watcher:
        (a.root / "big").write_bytes(os.urandom(4 << 20))
        watcher.wait("CLOSE_WRITE", "big", PATIENCE_S)
    times = (a.root / "big").stat().st_mtime_ns, (b.root / "big").stat().st_mtime_ns
    assert times[0] == times[1]
    assert b.status()["volumes"][0]["pending"]["files"] == 0


def test_what_is_done_here_is_told_once(pair: Pair) -> None:
    _, a, b = pair
    with Watcher(b.root) as watcher:
        (b.root / "own").write_bytes(b"x")
        b.await_in_step()
        (a.root / "other").touch()
        watcher.wait("CREATE", "other", PATIENCE_S)
        assert [one for one in watcher.seen if one == Event("CREATE", "own")] == [Event("CREATE", "own")]
