"""Roles that change while devices are connected and while they are apart: judged by whoever receives."""

import pytest

from tests.e2e.alike import assert_alike
from tests.e2e.network import Device, Network, eventually

Pair = tuple[Network, Device, Device]


def test_a_writer_that_becomes_a_reader_keeps_what_it_wrote_apart_and_sends_it_when_it_may_write_again(
    pair: Pair,
) -> None:
    net, a, b = pair
    (a.root / "letter").write_text("of alder")
    a.await_in_step()
    net.pull(a, b)
    (b.root / "letter").write_text("of birch, written apart")
    (b.root / "poem").write_text("of birch")
    given = a.json("grant", "birch", "reader")
    assert (given["role"], given["was"]) == ("reader", "writer")
    net.plug(a, b)
    eventually(lambda: "READER" in b.run("status", check=False).stdout, 60)
    with pytest.raises(OSError, match="Read-only file system"):
        (b.root / "refused").write_text("x")
    (a.root / "later").write_text("of alder")
    eventually(lambda: (b.root / "later").read_text() == "of alder", 30, "a reader hears of changes")
    assert not (a.root / "poem").exists()
    assert (a.root / "letter").read_text() == "of alder"
    assert (b.root / "poem").read_text() == "of birch"
    eventually(lambda: "UNTAKEN" in b.run("status", check=False).stdout, 30)
    done = b.run("status", check=False)
    assert (done.returncode, "ONLY HERE   2 files" in done.stdout, "SAFE" in done.stdout) == (3, True, False)
    for words in (("sync",), ("unmount", b.root), ("leave", "Shared")):
        refused = b.run(*words, check=False)
        assert refused.returncode == 3, (words, refused.stdout, refused.stderr)
    assert "UNTAKEN" not in a.run("status").stdout

    a.run("grant", "birch", "writer")
    eventually(lambda: (a.root / "poem").read_text() == "of birch", 60)
    a.await_in_step()
    assert_alike(a, b)
    assert "UNTAKEN" not in b.run("status").stdout
    texts = {path.read_text() for path in a.root.iterdir() if path.name.startswith("letter")}
    assert "of birch, written apart" in texts


def test_a_role_is_given_by_owners_to_other_devices_or_refused_with_the_reason(pair: Pair) -> None:
    _, a, b = pair
    refused = (
        (b, "alder", "only an owner can give roles"),
        (a, "alder", "is this very device"),
        (a, "nobody", "is called 'nobody'"),
    )
    for asked, name, reason in refused:
        done = asked.run("grant", name, "reader", check=False)
        assert done.returncode != 0
        assert reason in done.stderr, done.stderr
    assert "is now owner" in a.run("grant", "birch", "owner").stdout
    assert "was owner of" in a.run("grant", "birch", "owner").stdout
    eventually(lambda: b.run("grant", "alder", "writer", check=False).returncode == 1, 30)
    done = b.run("grant", "alder", "writer", check=False)
    assert "does not outrank that one" in done.stderr
