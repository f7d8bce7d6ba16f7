"""Numbers of copies that paths have, between daemons: what is sent where, after renames and removals too."""

import os

from tests.e2e.network import Device, Network, eventually

SIZE = 400_000


def here(device: Device, name: str) -> bool:
    """Whether all of a file is on the device."""
    listed = device.run("list", "--missing", f"Shared:{name.rpartition('/')[0]}", "-v", check=False).stdout
    return name.rpartition("/")[2] not in listed


def copies(device: Device, path: str = "") -> tuple[str, dict[str, str]]:
    """What holds at a path, and the paths below with a number of their own."""
    said = device.json("copies", f"Shared:{path}")
    return str(said["copies"]), {str(one["path"]): str(one["copies"]) for one in said["rules"]}


def test_each_folder_is_on_as_many_devices_as_was_said_for_it_wherever_it_is_moved(
    three: tuple[Network, Device, Device, Device],
) -> None:
    _, a, b, c = three
    for folder in ("films", "thesis"):
        (a.root / folder).mkdir()
    assert "every device holds thesis" in a.run("copies", "all", a.root / "thesis").stdout
    a.run("copies", "Shared:films", "on-demand")
    eventually(lambda: copies(c) == ("2", {"films": "on-demand", "thesis": "all"}), 30)
    data = {name: os.urandom(SIZE) for name in ("films/one", "thesis/one", "plain")}
    for name, content in data.items():
        (a.root / name).write_bytes(content)
    a.await_in_step(60)
    eventually(lambda: here(b, "thesis/one") and here(c, "thesis/one"), 60)
    assert not here(b, "films/one")
    assert not here(c, "films/one")
    assert here(b, "plain") or here(c, "plain")
    status = a.run("status").stdout
    assert "SAFE        2 files on 2 or more devices" in status, status
    assert "ONLY HERE   1 file, 400 kB, as copies = on-demand has it" in status, status
    assert "COPIES      2, and another number for 2 paths" in status, status

    kept = a.run("evict", a.root / "thesis", check=False)
    assert (kept.returncode, "copies = all has every device hold it" in kept.stdout) == (1, True)
    assert (b.root / "films/one").read_bytes() == data["films/one"]
    eventually(lambda: a.run("evict", a.root / "films", check=False).returncode == 0, 60)

    (b.root / "films/one").rename(b.root / "thesis/film")
    eventually(lambda: here(a, "thesis/film") and here(c, "thesis/film"), 60, "a file moved under `all`")
    (a.root / "thesis").rename(a.root / "dissertation")
    eventually(lambda: copies(c) == ("2", {"films": "on-demand", "dissertation": "all"}), 30)
    inherited = c.run("copies", c.root / "dissertation/film").stdout
    assert ", as dissertation has it" in inherited, inherited
    a.restart()
    assert copies(a, "dissertation") == ("all", {})

    (c.root / "films").rmdir()
    eventually(lambda: copies(a) == copies(b) == ("2", {"dissertation": "all"}), 30)
    assert "before: all" in b.run("copies", "inherit", b.root / "dissertation").stdout
    eventually(lambda: copies(a) == ("2", {}), 30)


def test_a_reader_changes_no_number_and_what_means_nothing_is_refused(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    (a.root / "films").mkdir()
    (a.root / ".dittoignore").write_text("scratch\n")
    (a.root / "scratch").write_text("here alone")
    a.run("copies", "all", "Shared:films")
    a.run("grant", "birch", "reader")
    eventually(lambda: "READER" in b.run("status", check=False).stdout, 60)
    for wish in (("copies", "2", "Shared:films"), ("copies", "inherit", "Shared:films"), ("copies", "all")):
        refused = b.run(*wish, check=False)
        assert (refused.returncode, "only writers and owners" in refused.stderr) == (1, True), refused.stderr
    for path, words in (
        ("absent", "absent"),
        ("scratch", "is on this device only"),
        (".dittofs/at", "is on this device only"),
    ):
        refused = a.run("copies", "all", f"Shared:{path}", check=False)
        assert (refused.returncode, words in refused.stderr) == (1, True), refused.stderr
    for number in ("0", "1", "1001"):
        refused = a.run("copies", number, "Shared:films", check=False)
        assert (refused.returncode, "it is all as before" in refused.stderr) == (2, True), refused.stderr
    assert copies(a) == copies(b) == ("2", {"films": "all"})
