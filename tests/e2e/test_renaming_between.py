"""A device that is called otherwise: everybody shows the new name for all it ever wrote."""

import json

import pytest

from tests.e2e.alike import assert_alike
from tests.e2e.network import Device, Network, eventually

Pair = tuple[Network, Device, Device]


def names(device: Device) -> set[str]:
    return {str(one["name"]) for one in device.json("devices")[0]["devices"]}


def writers(device: Device, *options: str) -> dict[str, str]:
    """Path -> who made it, by the log."""
    lines = device.run("log", "--json", *options).stdout.splitlines()
    return {
        str(one["path"]): str(one["device"]) for one in map(json.loads, lines) if one["what"] == "created"
    }


def test_a_renamed_device_has_its_present_name_in_all_that_tells_of_what_it_wrote(pair: Pair) -> None:
    net, a, b = pair
    (b.root / "before").write_text("of birch")
    (b.root / "both").write_text("base")
    b.run("snapshot", "create", "early")
    b.await_in_step()
    net.pull(a, b)
    (b.root / "both").write_text("of birch, apart")
    (a.root / "both").write_text("of alder")
    net.plug(a, b)
    eventually(lambda: len(list(a.root.glob("both*"))) == 2, 60)
    a.await_in_step()
    already = {path.name for path in a.root.iterdir()}
    assert any(name.startswith("both (conflict, birch, ") for name in already)

    done = a.json("devices", "rename", "birch", "Willow tree")
    assert (done["device"], done["was"]) == ("Willow tree", "birch")
    eventually(lambda: names(b) == {"alder", "Willow tree"}, 30)
    (b.root / "after").write_text("of the willow")
    eventually(lambda: (a.root / "after").read_text() == "of the willow", 60)
    for device in (a, b):
        assert {path.name for path in device.root.iterdir()} == already | {"after"}
        found = writers(device)
        assert (found["before"], found["after"]) == ("Willow tree", "Willow tree")
        assert {"before", "after"} <= writers(device, "--device", "Willow tree").keys()
        assert device.json("snapshot", "list")["snapshots"][0]["device"] == "Willow tree"
        sides = device.run("conflicts", check=False).stdout
        assert "Willow tree" in sides
        assert "birch (" not in sides
    refused = a.run("log", "--device", "birch", check=False)
    assert (refused.returncode, "Willow tree" in refused.stderr) == (1, True)

    net.pull(a, b)
    (b.root / "after").write_text("of the willow, later")
    (a.root / "after").write_text("of alder, later")
    net.plug(a, b)
    eventually(lambda: len(list(a.root.glob("after (conflict, *"))) == 1, 60)
    (made,) = a.root.glob("after (conflict, *")
    assert made.name.startswith("after (conflict, Willow tree, ")

    b.restart()
    a.restart()
    eventually(lambda: names(a) == names(b) == {"alder", "Willow tree"}, 30)
    b.run("undo", "--device", "Willow tree", "--since", "1h", check=False)
    eventually(lambda: not (a.root / "before").exists(), 60)
    a.await_in_step()
    assert_alike(a, b)


def test_a_reader_renames_itself_and_nobody_else_and_odd_names_are_refused(pair: Pair) -> None:
    _, a, b = pair
    a.run("grant", "birch", "reader")
    eventually(lambda: "READER" in b.run("status", check=False).stdout, 60)
    done = b.run("devices", "rename", "alder", "mine", check=False)
    assert (done.returncode, "only an owner can rename other devices" in done.stderr) == (1, True), (
        done.stderr
    )
    for name in ("", "x" * 255, "a\x1b[31mred", "a\nb", "a/b"):
        done = b.run("devices", "rename", "birch", name, check=False)
        assert (done.returncode, "a device is called by 1 to 64 bytes" in done.stderr) == (2, True), (
            done.stderr
        )
    done = b.run("devices", "rename", "birch", "alder", check=False)
    assert (done.returncode, "another device is called" in done.stderr) == (2, True), done.stderr
    assert names(a) == names(b) == {"alder", "birch"}
    assert "is called tablet" in b.run("devices", "rename", "birch", "tablet").stdout
    eventually(lambda: names(a) == {"alder", "tablet"}, 30)
    assert "was called that" in a.run("devices", "rename", "tablet", "tablet").stdout


@pytest.mark.parametrize("heard", ["apart", "joined"])
def test_a_name_given_while_a_device_is_away_is_known_to_it_and_to_who_joins_later(
    net: Network, heard: str
) -> None:
    a, b, c = (net.device(label) for label in ("alder", "birch", "cedar"))
    net.cable(a, b)
    net.cable(a, c)
    a.found()
    a.share_with(b)
    (b.root / "file").write_text("of birch")
    b.await_in_step()
    if heard == "apart":
        net.pull(a, b)
    a.run("devices", "rename", "birch", "willow")
    a.share_with(c)
    eventually(lambda: writers(c).get("file") == "willow", 60)
    net.plug(a, b)
    eventually(lambda: names(b) == {"alder", "willow", "cedar"}, 60)
    assert writers(b)["file"] == "willow"
