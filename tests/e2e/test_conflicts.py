"""Conflicts on real daemons: seen, compared, decided, merged; and what must never become one."""

import json
import os
import socket
import threading
from pathlib import Path

from tests.e2e.alike import are_alike, assert_alike
from tests.e2e.network import Device, Network, await_next_second, eventually

Pair = tuple[Network, Device, Device]
BASE = "".join(f"line {number}\n" for number in range(1, 21))


def apart(pair: Pair, name: str, base: str | bytes, one: str | bytes, other: str | bytes) -> None:
    """Both devices write one file while the cable is pulled, birch later; then they meet again."""
    net, a, b = pair
    write(a.root / name, base)
    eventually(lambda: read(b.root / name) == base, 20)
    a.await_in_step()
    net.pull(a, b)
    write(a.root / name, one)
    await_next_second()  # in the name of a conflict entry it tells them apart
    write(b.root / name, other)
    net.plug(a, b)
    eventually(lambda: are_alike(a, b), 20, "both trees are identical")


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def read(path: Path) -> str | bytes:
    content = path.read_bytes()
    return content if b"\0" in content else content.decode()


def conflicts(device: Device, *words: str) -> list[dict[str, object]]:
    done = device.run("conflicts", *words, "--json", check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == (4 if found else 0), done.stdout + done.stderr
    return found


def shown(device: Device) -> dict[str, str | bytes]:
    return {path.name: read(path) for path in device.root.iterdir() if path.is_file()}


def test_a_simultaneous_edit_is_one_conflict_everywhere_that_each_way_of_deciding_ends(pair: Pair) -> None:
    _, a, b = pair
    for number, keep in enumerate(("mine", "theirs", "both", "birch", "shown")):
        name = f"f{number}.bin"
        apart(pair, name, b"\0base", b"\0of alder", b"\0of birch")
        for device in (a, b):
            (one,) = conflicts(device)
            sides = one["sides"]
            assert isinstance(sides, list)
            assert [side["device"] for side in sides] == ["birch", "alder"]
        done = a.run("conflicts", "resolve", f"Shared:{name}", "--keep", keep)
        assert "No conflicts left." in done.stdout
        eventually(lambda: not conflicts(b), 20)
        eventually(lambda: are_alike(a, b), 20)
        kept = {read(path) for path in b.root.iterdir() if path.name.startswith(f"f{number}")}
        wanted: dict[str, set[str | bytes]] = {
            "mine": {b"\0of alder"},
            "both": {b"\0of alder", b"\0of birch"},
        }
        assert kept == wanted.get(keep, {b"\0of birch"})
    assert (b.root / "f2 (alder).bin").exists()
    assert_alike(a, b)


def test_clean_text_is_merged_by_both_devices_into_one_version_and_the_rest_is_shown_and_decided(
    pair: Pair, tmp_path: Path
) -> None:
    net, a, b = pair
    one, other = BASE.replace("line 2\n", "LINE 2\n"), BASE.replace("line 19\n", "LINE 19\n")
    merged = one.replace("line 19\n", "LINE 19\n")
    apart(pair, "notes.txt", BASE, one, other)
    eventually(lambda: shown(a) == shown(b) == {"notes.txt": merged}, 20, "they are merged")
    assert not conflicts(a)

    mine, theirs = BASE.replace("line 5\n", "five\n"), BASE.replace("line 5\n", "fuenf\n")
    apart(pair, "same.txt", BASE, mine, theirs)
    done = a.run("conflicts", "show", "Shared:same.txt", check=False)
    assert done.returncode == 4
    assert "Merge of both: no: both changed the same lines" in done.stdout
    done = a.run("conflicts", "diff", "Shared:same.txt", check=False)
    assert done.returncode == 4
    assert "-fuenf" in done.stdout
    assert "+five" in done.stdout
    assert "--- base" in done.stdout
    refused = a.run("conflicts", "resolve", "Shared:same.txt", "--keep", "merged", check=False)
    assert refused.returncode == 4
    assert "nothing was done" in refused.stderr
    own = tmp_path / "own"
    own.write_text(BASE.replace("line 5\n", "five, fuenf\n"))
    a.run("conflicts", "resolve", "Shared:same.txt", "--keep", "merged", "--file", own)
    eventually(lambda: are_alike(a, b) and not conflicts(b), 20)
    assert (b.root / "same.txt").read_text() == own.read_text()
    net.pull(a, b)
    write(a.root / "new.txt", "of alder\n")
    write(b.root / "new.txt", "of birch\n")
    net.plug(a, b)
    eventually(lambda: are_alike(a, b) and bool(conflicts(a)), 20)
    refused = a.run("conflicts", "resolve", "Shared:new.txt", "--keep", "merged", check=False)
    assert refused.returncode == 4
    assert "they were made apart under one name, so there is no version" in refused.stderr
    assert "dittofs conflicts resolve Shared:new.txt --keep both" in refused.stderr


def test_rules_of_the_volume_end_conflicts_on_every_device(pair: Pair) -> None:
    _, a, b = pair
    a.run("conflicts", "policy", "set", "*.csv", "both")
    b.run("conflicts", "policy", "set", "*.cfg", "mine")
    rules = eventually_rules(a, 2)
    assert [(rule["pattern"], rule["policy"], rule["device"]) for rule in rules] == [
        ("*.csv", "both", ""),
        ("*.cfg", "mine", "birch"),
    ]
    one, other = BASE.replace("line 2\n", "LINE 2\n"), BASE.replace("line 19\n", "LINE 19\n")
    apart(pair, "x.cfg", BASE, one, other)
    eventually(lambda: shown(a) == shown(b) == {"x.cfg": other}, 20, "birch's is kept on both")
    apart(pair, "y.csv", BASE, one, other)
    apart(pair, "z.txt", BASE, one, other)
    merged = one.replace("line 19\n", "LINE 19\n")
    eventually(lambda: shown(a)["z.txt"] == shown(b)["z.txt"] == merged, 20, "what came later is merged")
    for device in (a, b):
        (left,) = conflicts(device)
        assert left["path"] == "y.csv", "no rule lets it be merged"
    a.run("conflicts", "policy", "remove", "*.csv")
    eventually(lambda: not conflicts(a) and not conflicts(b), 20, "it is merged once no rule forbids it")


def eventually_rules(device: Device, count: int) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []

    def have() -> bool:
        found[:] = device.json("conflicts", "policy")["rules"]
        return len(found) == count

    eventually(have, 20)
    return sorted(found, key=lambda rule: rule["policy"])


def test_a_merge_program_of_the_settings_is_run_on_the_device_that_has_it(net: Network) -> None:
    a, b = net.device("alder"), net.device("birch")
    net.cable(a, b)
    program = b.directory / "join"
    program.write_text('#!/bin/sh\ncat "$1" "$2" "$3" > "$4"\n')
    program.chmod(0o755)
    words = json.dumps([str(program), "{base}", "{ours}", "{theirs}", "{out}"])
    b.configure(f'[merge]\n"*.bin" = {words}\n')
    a.found()
    a.share_with(b)
    apart((net, a, b), "f.bin", b"\0base ", b"\0alder ", b"\0birch ")
    eventually(lambda: shown(a) == shown(b) == {"f.bin": b"\0base \0alder \0birch "}, 20)


def test_a_conflict_raises_an_event_and_status_points_to_it(pair: Pair) -> None:
    _, a, _ = pair
    lines: list[str] = []
    ready, done = threading.Event(), threading.Event()

    def listen() -> None:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(a.home / "run/control.sock"))
            stream.sendall(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            stream.settimeout(40)
            while not done.is_set():
                text = stream.recv(1 << 16).decode()
                ready.set()
                lines.extend(text.splitlines())
                if '"type":"conflict"' in text:
                    done.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert ready.wait(20)
    apart(pair, "f.bin", b"\0base", b"\0of alder", b"\0of birch")
    assert done.wait(20)
    listener.join(20)
    (event,) = [json.loads(line) for line in lines if '"type":"conflict"' in line]
    assert event == {"type": "conflict", "volume": "Shared", "conflicts": 1}
    report = a.run("status", check=False)
    assert "CONFLICTS   1 conflict    dittofs conflicts" in report.stdout


def test_what_must_be_no_conflict_is_none_and_every_change_is_seen(pair: Pair) -> None:
    """Sync tools are known to fail at these: same content with another time, same length within a second and
    one inode, appends without a new time, kinds that change, an edit against a removal.
    """
    net, a, b = pair
    for name in ("touched", "same length", "appended", "kind", "dir", "edited"):
        write(a.root / name, f"content of {name}")
    a.await_in_step()
    eventually(lambda: are_alike(a, b), 20)
    net.pull(a, b)
    # The same content, written on both sides at other times, and only touched.
    write(a.root / "new", "made on both")
    write(b.root / "new", "made on both")
    os.utime(b.root / "new", (1, 1))
    os.utime(a.root / "touched", (1_000, 1_000))
    write(b.root / "touched", "content of touched")
    # Same length, within a second, one inode, the same time.
    before = (a.root / "same length").stat()
    with (a.root / "same length").open("r+") as file:
        file.write("CONTENT")
    os.utime(a.root / "same length", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (a.root / "same length").stat().st_ino == before.st_ino
    # An append that leaves the time as it was.
    before = (a.root / "appended").stat()
    with (a.root / "appended").open("a") as file:
        file.write(" and more")
    os.utime(a.root / "appended", ns=(before.st_atime_ns, before.st_mtime_ns))
    # Kinds that change on one side: file -> directory -> symlink.
    (a.root / "kind").unlink()
    (a.root / "kind").mkdir()
    write(a.root / "kind/inside", "inside")
    (a.root / "dir").unlink()
    (a.root / "dir").symlink_to("kind")
    # An edit against a removal.
    write(a.root / "edited", "edited while the other removed it")
    (b.root / "edited").unlink()
    net.plug(a, b)
    eventually(lambda: are_alike(a, b), 20)
    for device in (a, b):
        assert not conflicts(device)
        assert (device.root / "new").read_text() == "made on both"
        assert (device.root / "same length").read_text() == "CONTENT of same length"
        assert (device.root / "appended").read_text() == "content of appended and more"
        assert (device.root / "kind/inside").read_text() == "inside"
        assert os.readlink(device.root / "dir") == "kind"
        assert (device.root / "edited").read_text() == "edited while the other removed it"
    # And back, and against a change of the other side: nothing is lost.
    net.pull(a, b)
    (a.root / "dir").unlink()
    (a.root / "dir").mkdir()
    write(b.root / "kind/more", "more")
    (a.root / "kind/inside").unlink()
    (a.root / "kind").rmdir()
    write(a.root / "kind", "a file again")
    net.plug(a, b)
    eventually(lambda: are_alike(a, b), 20)
    assert (a.root / "kind/more").read_text() == "more"
    (other,) = [path for path in a.root.iterdir() if path.name.startswith("kind (")]
    assert other.read_text() == "a file again"
    assert (b.root / "dir").is_dir()
    assert_alike(a, b)
