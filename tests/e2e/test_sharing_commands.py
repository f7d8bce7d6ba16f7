"""Two devices on one machine, by the real commands: from the invitation to the farewell."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dittofs.control.client import Client
from dittofs.control.protocol import AliveEvent, FilesEvent, PeerEvent
from tests.e2e.network import eventually
from tests.e2e.node import COMMAND_S, Node, await_end, dittofs_command, mounts_below

SETTINGS = """\
[device]
label = "{label}"
[network]
bind = "127.0.0.1"
port = 0
mdns = false
"""


def device(directory: Path, label: str) -> Node:
    node = Node(directory)
    node.home.mkdir()
    (node.home / "config.toml").write_text(SETTINGS.format(label=label))
    return node


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Node]:
    node = device(tmp_path / "laptop", "laptop")
    node.mount(node.root, "--name", "Shared")
    yield node
    node.run("unmount", "--all", "--force", check=False)
    node.close()


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[Node]:
    node = device(tmp_path / "desktop", "desktop")
    yield node
    node.run("unmount", "--all", "--force", check=False)
    node.close()


def join(inviter: Node, joiner: Node, *arguments: str) -> str:
    """Share and join; what the joiner was told."""
    ticket = inviter.json("share", *arguments)["ticket"]
    return joiner.run("join", ticket, joiner.root).stdout


def test_a_file_written_here_is_read_there_and_everything_is_told_truthfully(
    laptop: Node, desktop: Node
) -> None:
    (laptop.root / "letter.txt").write_text("Dear reader\n")
    (laptop.root / "big").write_bytes(bytes(range(256)) * 20_000)
    ticket = laptop.json("share")["ticket"]
    told = desktop.run("join", ticket, desktop.root).stdout
    assert 'Joined "Shared" as writer, invited by laptop' in told
    assert (desktop.root / "letter.txt").read_text() == "Dear reader\n"
    assert (desktop.root / "big").stat().st_size == 256 * 20_000

    again = desktop.run("join", ticket, desktop.root).stdout
    assert 'member of "Shared" already' in again
    assert "It is mounted" in again

    (desktop.root / "answer.txt").write_text("Dear writer\n")
    for node in (desktop, laptop):
        assert node.json("sync", "--timeout", "30")["is_safe"]
    assert (laptop.root / "answer.txt").read_text() == "Dear writer\n"
    (volume,) = laptop.status()["volumes"]
    assert volume["custody"]["only_here"] == volume["custody"]["missing"] == 0
    assert volume["custody"]["safe"] == 3
    assert [(one["name"], one["role"], one["is_online"]) for one in volume["members"]] == [
        ("laptop", "owner", True),
        ("desktop", "writer", True),
    ]
    assert "SAFE        3 files" in laptop.run("status").stdout
    assert "desktop" in laptop.run("devices").stdout
    pinged = laptop.run("ping", "desktop", "-c", "3", "-i", "0.05").stdout.splitlines()
    assert (len(pinged), "ms   tcp 127.0.0.1:" in pinged[0]) == (4, True)
    assert "desktop: 3 of 3 answered; least" in pinged[-1]


def test_what_is_only_here_stands_against_unmounting_and_leaving(laptop: Node, desktop: Node) -> None:
    join(laptop, desktop)
    desktop.end_daemon()
    alone = laptop.run("ping", "desktop", "-c", "1", "-W", "0.5", check=False)
    assert (alone.returncode, "0 of 1 answered" in alone.stdout) == (1, True)
    (laptop.root / "alone.txt").write_text("nowhere else")
    for words in (("unmount", laptop.root), ("leave", "Shared"), ("sync", "--timeout", "1")):
        done = laptop.run(*words, check=False)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "1 file" in done.stderr
    assert laptop.root.is_mount()
    done = laptop.run("status", check=False)
    assert done.returncode == 3
    assert "ONLY HERE   1 file" in done.stdout
    desktop.mount()
    assert laptop.run("sync", "--timeout", "30").returncode == 0
    laptop.unmount()


def test_a_device_leaves_and_one_is_removed(laptop: Node, desktop: Node, tmp_path: Path) -> None:
    phone = device(tmp_path / "phone", "phone")
    try:
        join(laptop, desktop)
        join(laptop, phone, "--role", "reader")
        assert laptop.run("leave", "Shared", check=False).returncode == 1  # the last owner
        laptop.run("sync", "--timeout", "30")
        left = desktop.json("leave", "Shared")
        assert left["is_resigned"]
        assert Path(left["place"]).is_dir()
        assert desktop.status()["volumes"] == []
        assert not desktop.root.is_mount()
        assert laptop.json("devices", "remove", "phone")["device"] == "phone"
        (volume,) = laptop.status()["volumes"]
        assert [one["name"] for one in volume["members"]] == ["laptop"]
        assert laptop.run("leave", "Shared").returncode == 0  # it holds nothing and nobody else is there
    finally:
        phone.run("unmount", "--all", "--force", check=False)
        phone.close()


def test_a_device_that_is_not_to_be_heard_of_offers_its_ticket_first(laptop: Node) -> None:
    told = laptop.run("share", "--daemon").stdout  # mdns = false
    assert told.startswith("On the other computer, run:\n\n  dittofs join 'dittofs://join/1?d=")
    assert "and type the code " in told
    assert "dittofs join 127.0.0.1:" in told


def test_a_ticket_that_is_of_no_use_says_why_and_changes_nothing(laptop: Node, desktop: Node) -> None:
    ticket = laptop.json("share")["ticket"]
    for wrong, code, says in (
        ("nonsense", 2, '"nonsense" is no code, no ticket and no HOST:PORT'),
        (ticket[:-3], 2, "the token"),
        (ticket[:-2] + ("BA" if ticket[-2:] != "BA" else "CA"), 1, "the other device"),
    ):
        done = desktop.run("join", wrong, desktop.root, check=False)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
        assert not desktop.root.is_mount()
    nobody = desktop.run("join", "127.0.0.1:1", desktop.root, check=False)
    assert nobody.returncode == 1
    for said in ("nobody was reached at 127.0.0.1:1", "dittofs share", "firewall", "TCP port 1?"):
        assert said in nobody.stderr
    full = desktop.directory / "full"
    full.mkdir()
    (full / "mine").touch()
    assert "not empty" in desktop.run("join", ticket, full, check=False).stderr
    assert "Joined" in desktop.run("join", ticket, desktop.root).stdout  # it is as good as before
    own = laptop.json("share")["ticket"]
    done = laptop.run("join", own, laptop.directory / "again", check=False)
    assert "this very device" in done.stderr


def enter_words(node: Node, words: str) -> subprocess.CompletedProcess[str]:
    """`dittofs recovery --enter`, with the words typed."""
    return subprocess.run(
        [*dittofs_command(), "recovery", "--enter"],
        env=node.environment,
        input=words + "\n",
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )


def test_a_join_that_was_refused_for_a_name_waits_for_all_names_when_it_is_repeated(
    laptop: Node, desktop: Node
) -> None:
    for number in range(300):
        (laptop.root / f"{number}.txt").write_text(str(number))
    own = desktop.directory / "own"
    desktop.run("mount", own, "--name", "Shared")
    ticket = laptop.json("share")["ticket"]
    refused = desktop.run("join", ticket, desktop.root, check=False)
    assert (refused.returncode, "--name" in refused.stderr) == (1, True)
    told = desktop.run("join", ticket, desktop.root, "--name", "Other").stdout
    assert "300 files" in told
    assert len(list(desktop.root.glob("*.txt"))) == 300
    which = desktop.run("sync", check=False)
    assert "dittofs sync Other" in which.stderr


def test_a_ticket_that_is_over_is_no_matter_of_the_network(
    laptop: Node, desktop: Node, tmp_path: Path
) -> None:
    join(laptop, desktop)  # or it would not listen
    ticket = laptop.json("share")["ticket"]
    port = laptop.status()["network"]["port"]
    settings = laptop.home / "config.toml"
    settings.write_text(settings.read_text().replace("port = 0", f"port = {port}"))
    laptop.end_daemon()
    laptop.mount()  # it has forgotten its invitations, and admits no stranger
    eventually(lambda: laptop.status()["network"], 30)
    phone = device(tmp_path / "phone", "phone")
    try:
        refused = phone.run("join", ticket, phone.root, check=False)
        assert refused.returncode == 1
        assert "was reached and has no open invitation" in refused.stderr
        assert "There:  dittofs share" in refused.stderr
    finally:
        phone.close()


def test_a_device_that_was_removed_is_told_how_to_go_on(laptop: Node, desktop: Node) -> None:
    join(laptop, desktop)
    (desktop.root / "kept.txt").write_text("kept")
    desktop.run("sync", "--timeout", "30")
    laptop.run("devices", "remove", "desktop")
    eventually(lambda: desktop.status()["volumes"][0]["role"] == "none", 30)
    for words, code in ((("sync",), 3), (("leave", "Shared"), 3), (("add", "/etc/hostname"), 1)):
        done = desktop.run(*words, check=False)
        assert done.returncode == code, done.stderr
        assert 'no member of "Shared" any more' in done.stderr
        assert "dittofs leave --force Shared" in done.stderr
    desktop.run("unmount", "--force", desktop.root)
    assert "NO MEMBER" in desktop.run("mount", desktop.root).stderr
    assert (desktop.root / "kept.txt").read_text() == "kept"
    left = desktop.run("leave", "--force", "Shared")
    assert "had ended its membership" in left.stderr


def test_a_directory_written_to_while_the_daemon_was_away_is_told(laptop: Node) -> None:
    laptop.expects_errors = True
    stopped = laptop.run("daemon", "--stop").stdout
    assert f"dittofs mount {laptop.root}" in stopped
    (laptop.root / "notes").write_text("written beside the volume")
    laptop.run("mount", laptop.directory / "second", "--name", "Second")  # starts the daemon
    eventually(lambda: laptop.status()["volumes"][1]["state"] == "failed", 30)
    looked = laptop.run("status", check=False)
    assert (looked.returncode, "1 entry written while nothing was mounted" in looked.stdout) == (5, True)
    (laptop.root / "notes").unlink()
    laptop.mount()
    assert laptop.run("status", check=False).returncode == 0


def test_recovery_words_are_shown_once_and_copies_are_set_for_all(laptop: Node, desktop: Node) -> None:
    join(laptop, desktop)
    shown = laptop.json("recovery")
    assert len(shown["words"]) == 17
    assert "RECOVERY" in laptop.run("status", check=False).stdout
    assert desktop.json("recovery")["state"] == "absent"
    typed = " ".join(shown["words"])
    refused = enter_words(desktop, f"{typed} {shown['words'][0]}")
    assert (refused.returncode, "nothing was changed" in refused.stderr) == (2, True)
    assert enter_words(desktop, typed).returncode == 0
    assert {one["role"] for one in desktop.json("devices")[0]["devices"]} == {"owner"}
    laptop.run("copies", "all")
    laptop.run("sync", "--timeout", "30")
    assert desktop.json("copies")["copies"] == "all"
    assert desktop.run("copies", "1", check=False).returncode == 2
    desktop.run("leave", "Shared")
    join(laptop, desktop, "--role", "reader")
    refused = desktop.run("copies", "3", check=False)
    assert (refused.returncode, "is a reader" in refused.stderr) == (1, True)
    refused = desktop.run("share", check=False)
    assert (refused.returncode, "its owners: laptop" in refused.stderr) == (1, True)
    log = (laptop.home / "state/daemon.log").read_text()
    assert not any(
        f" {word} {other} " in log for word, other in zip(shown["words"], shown["words"][1:], strict=False)
    )


def test_sharing_waits_until_somebody_comes(laptop: Node, desktop: Node) -> None:
    waiting = subprocess.Popen(
        [*dittofs_command(), "share", "--json", "--wait"],
        env=laptop.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert waiting.stdout is not None
        invitation = json.loads(waiting.stdout.readline())
        desktop.run("join", invitation["ticket"], desktop.root)
        ended = json.loads(waiting.stdout.readline())
        assert (ended["how"], ended["name"], ended["role"]) == ("joined", "desktop", "writer")
        waiting.stdout.close()
        assert waiting.wait(30) == 0
    finally:
        if waiting.poll() is None:
            os.kill(waiting.pid, signal.SIGKILL)
            await_end(waiting.pid)
            waiting.wait()


def test_a_device_with_a_fresh_identity_keeps_its_data_and_rejoins(laptop: Node, desktop: Node) -> None:
    join(laptop, desktop)
    (desktop.root / "kept.txt").write_text("kept")
    desktop.run("sync", "--timeout", "30")
    assert "daemon --stop" in desktop.run("device", "new", "--yes", check=False).stderr
    desktop.end_daemon()
    said = desktop.run("device", "new", check=False)
    assert (said.returncode, "1 volume (Shared)" in said.stderr) == (1, True)
    renewed = desktop.json("device", "new", "--yes")
    assert renewed["id"] != renewed["was"]

    desktop.mount()
    assert (desktop.root / "kept.txt").read_text() == "kept"
    with pytest.raises(OSError, match="Read-only"):
        (desktop.root / "more.txt").write_text("x")
    looked = desktop.run("status", check=False)
    assert (looked.returncode, "NO MEMBER" in looked.stdout) == (5, True)
    laptop.run("devices", "remove", "desktop")
    assert 'has joined "Shared" again' in join(laptop, desktop)
    (desktop.root / "more.txt").write_text("more")
    desktop.run("sync", "--timeout", "30")
    assert (laptop.root / "more.txt").read_text() == "more"

    laptop.unmount()
    laptop.end_daemon()
    laptop.run("device", "new", "--yes")
    laptop.mount()  # it has the owner key
    (volume,) = laptop.status()["volumes"]
    assert volume["role"] == "owner"
    assert [one["role"] for one in volume["members"]] == ["owner", "writer", "owner"]


def test_a_demonstration_shows_one_file_on_all_devices_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*dittofs_command(), "demo", "--nodes", "2", "--once", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [one["name"] for one in json.loads(done.stdout)] == ["laptop", "desktop"]
    assert list(tmp_path.iterdir()) == []
    assert mounts_below(tmp_path) == []


def test_peers_and_files_are_told_as_events(laptop: Node, desktop: Node) -> None:
    heard = Client(laptop.home / "run/control.sock").events()
    assert isinstance(next(heard), AliveEvent)
    join(laptop, desktop)
    (desktop.root / "note.txt").write_text("from the desktop")
    wanted = {"peer", "files"}
    while wanted:
        match next(heard):
            case PeerEvent(name="desktop", is_online=True):
                wanted.discard("peer")
            case FilesEvent(device="desktop", paths=paths) if "note.txt" in paths:
                wanted.discard("files")
