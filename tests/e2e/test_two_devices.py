"""Two devices over a cable: what is written on one is on the other, at once, lazily, and whole."""

import os
import statistics
import time
from pathlib import Path

import pytest

from mountd.kernel.reading_ahead import FAR_KIB
from tests.e2e.network import Device, Network, eventually, network
from tests.e2e.node import read_ahead_kib

MIDDLE: int = 64 << 20


def reads(path: Path, data: bytes) -> bool:
    return path.exists() and path.read_bytes() == data


def test_from_two_clean_homes_to_a_file_on_the_other_machine(tmp_path: Path) -> None:
    with network(tmp_path) as net:
        a, b = net.device("alder"), net.device("birch")
        net.cable(a, b)
        begun = time.monotonic()
        a.found()
        (a.root / "hello.txt").write_text("hello")
        b.join(a.invite())
        eventually(lambda: (b.root / "hello.txt").read_text() == "hello", 5)
        assert time.monotonic() - begun < 30


def test_both_sides_see_what_the_other_writes_names_first_and_bytes_when_opened(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    big = os.urandom(MIDDLE)
    (a.root / "big").write_bytes(big)
    eventually(lambda: (b.root / "big").stat().st_size == MIDDLE, 10)
    with (b.root / "big").open("rb") as file:
        file.seek(MIDDLE // 2)
        assert file.read(1 << 20) == big[MIDDLE // 2 : MIDDLE // 2 + (1 << 20)]
    assert read_ahead_kib(b.root) < FAR_KIB, "of what is elsewhere no more is fetched than was asked for"
    (b.root / "docs").mkdir()
    (b.root / "docs/answer").write_text("from birch")
    eventually(lambda: reads(a.root / "docs/answer", b"from birch"), 5)
    a.await_in_step()
    assert (b.root / "big").read_bytes() == big


def test_a_small_file_is_readable_on_the_other_side_within_milliseconds(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    took = []
    for number in range(30):
        data = os.urandom(4096)
        begun = time.monotonic()
        (a.root / f"small{number}").write_bytes(data)
        eventually(lambda path=b.root / f"small{number}", data=data: reads(path, data), 5)  # type: ignore[misc]
        took.append(time.monotonic() - begun)
        time.sleep(0.06)  # between two single changes
    assert statistics.median(took) < 0.5


def test_removing_renaming_linking_and_modes_reach_the_other_side(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    (a.root / "d").mkdir()
    (a.root / "d/one").write_text("1")
    (a.root / "d/two").write_text("2")
    os.link(a.root / "d/one", a.root / "linked")
    os.symlink("d/two", a.root / "symbolic")
    a.await_in_step()
    (b.root / "d/two").rename(b.root / "three")
    (b.root / "d/one").chmod(0o600)
    (b.root / "symbolic").unlink()
    b.await_in_step()
    assert sorted(os.listdir(a.root)) == ["d", "linked", "three"]
    assert (a.root / "linked").stat().st_mode & 0o777 == 0o600
    assert (a.root / "linked").stat().st_nlink == 2
    (a.root / "d/one").unlink()
    (a.root / "d").rmdir()
    a.await_in_step()
    assert sorted(os.listdir(b.root)) == ["linked", "three"]
    assert (b.root / "linked").read_text() == "1"


def test_a_lazy_file_opened_again_by_its_descriptor_reads_right_under_another_name_and_under_none(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    b.run("copies", "on-demand")
    data = {name: os.urandom(3 << 20) for name in ("moved", "removed", "replaced", "new")}
    for name, content in data.items():
        (a.root / name).write_bytes(content)
    eventually(lambda: all((b.root / name).exists() for name in data), 10)
    opened = {name: os.open(b.root / name, os.O_RDONLY) for name in data}
    (b.root / "moved").rename(b.root / "elsewhere")
    (b.root / "removed").unlink()
    (b.root / "new").rename(b.root / "replaced")
    try:
        for name, descriptor in opened.items():
            again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
            try:
                assert os.pread(again, 100_000, 2 << 20) == data[name][2 << 20 :][:100_000], name
                with os.fdopen(os.dup(again), "rb") as file:
                    file.seek(0)
                    assert file.read() == data[name], name
            finally:
                os.close(again)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
    assert sorted(os.listdir(b.root)) == ["elsewhere", "replaced"]
    assert reads(b.root / "replaced", data["new"])


@pytest.mark.soak
def test_a_reader_that_becomes_a_writer_is_refused_before_and_counts_afterwards(tmp_path: Path) -> None:
    with network(tmp_path) as net:
        a, b = net.device("alder"), net.device("birch")
        net.cable(a, b)
        a.found()
        (a.root / "f").write_text("of alder")
        b.join(a.invite("--role", "reader"))
        eventually(lambda: reads(b.root / "f", b"of alder"), 10)
        for refused in (
            lambda: (b.root / "g").write_text("x"),
            lambda: (b.root / "f").write_text("x"),
            lambda: (b.root / "f").open("r+").close(),
            (b.root / "f").unlink,
            lambda: (b.root / "f").chmod(0o600),
        ):
            with pytest.raises(OSError, match="Read-only"):
                refused()
        assert os.listdir(b.root) == ["f"], "nothing is kept of what was refused"
        b.run("join", a.invite("--role", "writer"), b.root)
        eventually(lambda: can_write(b.root / "g", "of birch"), 20)
        eventually(lambda: reads(a.root / "g", b"of birch"), 10)
        (b.root / "f").unlink()
        b.await_in_step()
        a.await_in_step()
        assert os.listdir(a.root) == os.listdir(b.root) == ["g"]
        assert not a.status()["volumes"][0]["conflicts"]


def can_write(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError:
        return False
    return True
