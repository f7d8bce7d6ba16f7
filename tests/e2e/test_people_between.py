"""Users and groups among three devices: what an owner says of people, every receiver enforces."""

import pytest

from tests.e2e.alike import assert_alike
from tests.e2e.network import Device, Network, eventually

Three = tuple[Network, Device, Device, Device]


@pytest.fixture
def three(net: Network) -> Three:
    """alder owns the volume; birch is ada's, cedar is bob's. Each reaches each."""
    alder, birch, cedar = (net.device(label) for label in ("alder", "birch", "cedar"))
    for one, other in ((alder, birch), (alder, cedar), (birch, cedar)):
        net.cable(one, other)
    alder.found()
    for device, user in ((birch, "ada"), (cedar, "bob")):
        alder.run("user", "add", user)
        device.join(alder.invite("--user", user))
    return net, alder, birch, cedar


def role(device: Device, name: str) -> tuple[str, str]:
    """What `device` knows of the role of another, and whose it is."""
    (members,) = (one["devices"] for one in device.json("devices"))
    (found,) = (one for one in members if one["name"] == name)
    return found["role"], found["user"]


def test_who_may_only_read_by_its_user_is_refused_by_all_that_know_until_a_group_gives_more(
    three: Three,
) -> None:
    net, alder, birch, cedar = three
    (birch.root / "letter").write_text("of birch")
    eventually(lambda: (cedar.root / "letter").read_text() == "of birch", 60)
    assert role(alder, "birch") == ("writer", "ada")

    net.pull(alder, birch)
    net.pull(birch, cedar)
    (birch.root / "poem").write_text("written apart")
    done = alder.json("grant", "ada", "reader")
    assert [(one["device"], one["role"], one["was"]) for one in done["changed"]] == [
        ("birch", "reader", "writer")
    ]
    eventually(lambda: role(cedar, "birch") == ("reader", "ada"), 60)
    net.plug(birch, cedar)  # cedar is no owner, and has heard
    eventually(lambda: "UNTAKEN" in birch.run("status", check=False).stdout, 60)
    with pytest.raises(OSError, match="Read-only file system"):
        (birch.root / "refused").write_text("x")
    (cedar.root / "later").write_text("of cedar")
    eventually(lambda: (birch.root / "later").read_text() == "of cedar", 60, "who may read hears of changes")
    assert not (cedar.root / "poem").exists()

    made = alder.run("group", "add", "family", "ada", "bob", "--role", "writer")
    assert "birch            writer (was reader)" in made.stdout
    eventually(lambda: (cedar.root / "poem").read_text() == "written apart", 60)
    left = alder.json("group", "leave", "family", "ada")
    assert [(one["device"], one["role"]) for one in left["changed"]] == [("birch", "reader")]
    eventually(lambda: role(birch, "birch") == ("reader", "ada"), 60)
    with pytest.raises(OSError, match="Read-only file system"):
        (birch.root / "refused").write_text("x")
    net.plug(alder, birch)
    alder.await_in_step()
    assert_alike(alder, birch, cedar)


def test_a_revoked_user_reads_nothing_more_and_comes_back_by_itself_a_removed_one_does_not(
    three: Three,
) -> None:
    _, alder, birch, cedar = three
    alder.await_in_step()
    said = alder.run("revoke", "ada").stdout
    assert "birch            none (was writer)" in said
    eventually(lambda: role(cedar, "birch")[0] == "none", 60)
    eventually(lambda: role(birch, "birch")[0] == "none", 60)
    refused = birch.run("sync", check=False)
    assert refused.returncode == 3
    assert "dittofs grant ada writer Shared" in refused.stderr
    (cedar.root / "secret").write_text("not for ada")
    eventually(lambda: (alder.root / "secret").read_text() == "not for ada", 60)
    assert not (birch.root / "secret").exists()
    assert "ada              none" in alder.run("user", "list").stdout

    alder.run("grant", "ada", "writer")
    eventually(lambda: (birch.root / "secret").read_text() == "not for ada", 60, "nobody joined again")
    (birch.root / "thanks").write_text("of birch")
    eventually(lambda: (cedar.root / "thanks").read_text() == "of birch", 60)

    removed = alder.json("user", "remove", "bob")
    assert [(one["device"], one["role"]) for one in removed["changed"]] == [("cedar", "none")]
    eventually(lambda: "no member" in cedar.run("sync", check=False).stderr, 60)
    (alder.root / "after").write_text("not for bob")
    eventually(lambda: (birch.root / "after").read_text() == "not for bob", 60)
    assert not (cedar.root / "after").exists()
    assert [one["name"] for one in alder.json("user", "list")["users"]] == ["ada"]
