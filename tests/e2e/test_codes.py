"""Join codes between two machines: typed, mistyped, read at an address, and in the middle of a flood."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.network import NAMESPACES, Device, Network, eventually
from tests.e2e.node import COMMAND_S, dittofs_command
from tests.e2e.terminal import Terminal

FLOOD_S = 4.0
FLOODING = """
import os, socket, sys, time
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
place, end = (sys.argv[1], 7347), time.monotonic() + float(sys.argv[2])
junk = [b"ditto?\\0\\x01" + os.urandom(8) + slot.to_bytes(2, "big") + bytes(14) for slot in range(1, 100)]
junk += [os.urandom(n) for n in range(0, 1400, 100)]
sent = 0
while time.monotonic() < end:
    for one in junk:
        made.sendto(one, place)
        sent += 1
print(sent)
"""


@pytest.fixture
def two(net: Network) -> tuple[Device, Device]:
    """The first has a volume with a file; the second has nothing yet."""
    a, b = net.device("alder"), net.device("birch")
    net.cable(a, b)
    a.found()
    (a.root / "hello.txt").write_text("hello")
    return a, b


def home(device: Device) -> dict[str, str]:
    """HOME of whoever uses the device."""
    return {"HOME": str(device.directory)}


@contextmanager
def sharing(device: Device, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`dittofs share --json --wait`; its first line is to be read."""
    process = subprocess.Popen(
        [*device.inside, *dittofs_command(), "share", "--json", "--wait", *options],
        env=device.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=COMMAND_S)


def first_line(process: "subprocess.Popen[str]") -> dict[str, str]:
    assert process.stdout is not None
    line: dict[str, str] = json.loads(process.stdout.readline())
    return line


def in_terminal(device: Device, *words: str) -> Terminal:
    settings = (f"DITTOFS_HOME={device.home}", f"HOME={device.directory}")
    return Terminal("env", *settings, *device.inside, *dittofs_command(), *words)


def typo_of(code: str) -> str:
    slot, first, second = code.split("-")
    return f"{slot}-{first}-{'acid' if second != 'acid' else 'zipper'}"


def test_a_code_typed_on_the_other_machine_shows_the_file_there(two: tuple[Device, Device]) -> None:
    a, b = two
    invitation = json.loads(a.run("share", "--json", "--daemon").stdout)
    told = b.run(*invitation["command"].split()[1:], environment=home(b)).stdout
    assert 'Joined "Shared" as writer, invited by alder' in told
    b.root = b.directory / "Shared"  # nobody said where
    eventually(lambda: (b.root / "hello.txt").read_text() == "hello", 10)
    again = b.run("join", invitation["code"].upper(), environment=home(b)).stdout
    assert 'member of "Shared" already' in again


def test_a_wrong_word_ends_the_invitation_and_both_sides_are_told(two: tuple[Device, Device]) -> None:
    a, b = two
    with sharing(a) as process:
        code = first_line(process)["code"]
        slip = b.run("join", code[:-1] + "#", b.directory / "mount", check=False)
        assert (slip.returncode, "is in no code" in slip.stderr) == (2, True)  # that cost nothing
        wrong = b.run("join", typo_of(code), b.directory / "mount", check=False)
        assert (wrong.returncode, "the invitation is void now" in wrong.stderr) == (1, True), wrong.stderr
        assert "There:  dittofs share" in wrong.stderr
        assert '"how":"burnt"' in process.communicate(timeout=COMMAND_S)[0]
    right = b.run("join", code, b.directory / "mount", check=False)
    assert (right.returncode, "so it is void" in right.stderr) == (1, True), right.stderr
    ticket = a.invite()
    b.join(ticket)  # another one is as good as ever
    logs = (a.home / "state/daemon.log").read_text() + (b.home / "state/daemon.log").read_text()
    assert code.split("-", 1)[1] not in logs


def test_nobody_and_nowhere_are_said_at_once(two: tuple[Device, Device]) -> None:
    a, b = two
    done = b.run("join", "7-cabin-velvet", "--timeout", "1", b.directory / "mount", check=False)
    assert (done.returncode, "no device on this network shows a code" in done.stderr) == (1, True)
    assert "dittofs join HOST:PORT" in done.stderr
    code = json.loads(a.run("share", "--json").stdout)["code"]
    own = a.run("join", code, a.directory / "again", check=False)
    assert (own.returncode, "this very device" in own.stderr) == (1, True)


def test_at_an_address_the_fingerprint_is_compared_and_the_code_asked_for(two: tuple[Device, Device]) -> None:
    a, b = two
    b.configure("mdns = false")  # it hears nobody
    (b.directory / "out").mkdir()
    with in_terminal(a, "share", "--ro") as showing:
        showing.await_output("█▄▄▄▄▄▄▄█".encode())  # a corner of the square
        showing.await_output(b"Waiting...")
        shown = showing._shown.decode()
        code = shown.split("dittofs join ")[1].split()[0]
        address = f"{a.addresses[0]}:7347"
        assert f"dittofs join {address}     fingerprint: " in shown
        fingerprint = shown.split("fingerprint: ")[1].split("\r\n")[0]
        deaf = b.run("join", code, "--timeout", "1", check=False, environment=home(b))
        assert (deaf.returncode, "mdns = false" in deaf.stderr) == (1, True), deaf.stderr
        other = b.run("join", address, "--fingerprint", "ab " * 16, check=False, environment=home(b))
        assert (other.returncode, "it was told nothing" in other.stderr) == (1, True)
        with in_terminal(b, "join", address) as joining:
            joining.await_output(fingerprint.encode())
            joining.await_output(b"[y/N]")
            joining.type(b"y\n")
            joining.await_output(b"The code it shows:")
            joining.type(code.encode() + b"\n")
            joining.await_end()
        showing.await_output(b'joined "Shared" as reader')
        showing.await_end()
    b.root = b.directory / "Shared"
    eventually(lambda: (b.root / "hello.txt").read_text() == "hello", 10)


def test_a_directory_becomes_a_volume_and_is_shared_with_one_command(net: Network) -> None:
    a, b = net.device("alder"), net.device("birch")
    net.cable(a, b)
    a.root = a.directory / "Photos"
    told = a.run("share", a.root, "--name", "Pictures", "--daemon", environment=home(a)).stdout
    assert 'Created share "Pictures"' in told
    code = told.split("dittofs join ")[1].split()[0]
    (a.root / "one.jpg").write_bytes(b"one")
    b.run("join", code, "--ro", environment=home(b))
    b.root = b.directory / "Pictures"
    eventually(lambda: (b.root / "one.jpg").read_bytes() == b"one", 10)
    with pytest.raises(OSError, match="Read-only"):
        (b.root / "two.jpg").touch()
    assert a.run("share", "Pictures", "--name", "Other", check=False).returncode == 1


def test_who_joins_for_one_mount_leaves_with_it_and_keeps_nothing(two: tuple[Device, Device]) -> None:
    a, b = two
    code = json.loads(a.run("share", "--json").stdout)["code"]
    b.run("join", code, "--ephemeral", environment=home(b))
    b.root = b.directory / "Shared"
    eventually(lambda: (b.root / "hello.txt").read_text() == "hello", 10)
    a.run("daemon", "--stop")
    (b.root / "job.log").write_text("built")
    stays = b.run("unmount", b.root, check=False)
    assert (stays.returncode, "on this device" in stays.stderr) == (3, True), stays.stderr
    assert (b.root / "job.log").read_text() == "built"
    a.mount()
    b.await_in_step()
    assert 'Left "Shared"' in b.run("unmount", b.root).stdout
    assert (b.status()["volumes"], list((b.home / "state/volumes").iterdir())) == ([], [])
    eventually(lambda: (a.root / "job.log").read_text() == "built", 10)
    (volume,) = a.status()["volumes"]
    assert [member["name"] for member in volume["members"]] == ["alder"]


def test_a_flood_of_datagrams_costs_the_daemon_little_and_keeps_nobody_out(
    two: tuple[Device, Device],
) -> None:
    a, b = two
    code = json.loads(a.run("share", "--json").stdout)["code"]
    pid = a.daemon_pid()

    def cpu_s() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    before, begun = cpu_s(), time.monotonic()
    flood = subprocess.Popen(
        [
            *("nsenter", f"--net={NAMESPACES / b.space}", sys.executable, "-c", FLOODING),
            *("10.77.1.255", str(FLOOD_S)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        b.run("join", code, environment=home(b))
        sent, _ = flood.communicate(timeout=COMMAND_S)
    finally:
        flood.kill()
    used = (cpu_s() - before) / (time.monotonic() - begun)
    assert int(sent) > 20_000
    assert used < 0.6, f"{used:.2f} CPU s/s while {sent} datagrams came"
    b.root = b.directory / "Shared"
    eventually(lambda: (b.root / "hello.txt").read_text() == "hello", 10)
