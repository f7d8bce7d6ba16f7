"""Two devices that cannot dial each other meet by way of `dittofs signal`."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.network import Device, Network, eventually, ip
from tests.e2e.signal_server import signalling
from tests.e2e.test_codes import home, typo_of

UNREACHABLE = 'mdns = false\nbind = "127.0.0.1"'
"""Nobody hears this device, and nobody but itself can dial it."""


@pytest.fixture
def apart(net: Network) -> Iterator[tuple[Device, Device, str]]:
    """Two devices that are found by nobody, the first with a volume; and a server that both reach."""
    a, b = net.device("alder"), net.device("birch")
    net.cable(a, b)
    with signalling(a.inside, "--port", "0") as port:
        url = f"ws://{a.addresses[0]}:{port}"
        a.configure(f'{UNREACHABLE}\nsignal = "{url}"')
        b.configure(UNREACHABLE)
        a.found()
        (a.root / "hello.txt").write_text("hello")
        yield a, b, url


def invited(device: Device, *options: str) -> dict[str, str]:
    invitation: dict[str, str] = json.loads(device.run("share", "--json", *options).stdout)
    return invitation


def path_to(device: Device) -> str:
    """How the device sees the only other one."""
    others = [one for one in device.status()["volumes"][0]["members"] if not one["is_this"]]
    return str(others[0].get("path", ""))


def test_a_code_works_by_way_of_the_server_and_the_files_come(apart: tuple[Device, Device, str]) -> None:
    a, b, url = apart
    invitation = invited(a)
    assert invitation["command"] == f"dittofs join {invitation['code']} --signal {url}"
    told = b.run(*invitation["command"].split()[1:], environment=home(b)).stdout
    assert 'Joined "Shared" as writer, invited by alder' in told
    b.root = b.directory / "Shared"
    eventually(lambda: (b.root / "hello.txt").read_text() == "hello", 60)
    (b.root / "back.txt").write_bytes(bytes(1 << 20))
    eventually(lambda: (a.root / "back.txt").read_bytes() == bytes(1 << 20), 60)
    assert path_to(a).startswith("webrtc ")
    b.restart()  # it remembers where they meet
    (a.root / "later.txt").write_text("later")
    eventually(lambda: (b.root / "later.txt").read_text() == "later", 60)


def test_tcp_takes_the_place_of_webrtc_when_it_works(net: Network) -> None:
    a, b = net.device("alder"), net.device("birch")
    net.cable(a, b)
    with signalling(a.inside, "--port", "0") as port:
        for device in (a, b):
            device.configure(f'mdns = false\nsignal = "ws://{a.addresses[0]}:{port}"')
            # No connection for links leaves this machine; the server's port is another one.
            ip(
                "-n",
                device.space,
                "rule",
                "add",
                "priority",
                "1",
                "ipproto",
                "tcp",
                "dport",
                "7347",
                "blackhole",
            )
        a.found()
        b.run(*invited(a)["command"].split()[1:], environment=home(b))
        b.root = b.directory / "Shared"
        eventually(lambda: path_to(b).startswith("webrtc "), 60)
        for device in (a, b):
            ip("-n", device.space, "rule", "delete", "priority", "1")  # of which nobody tells
        took_s = eventually(lambda: path_to(b).startswith("tcp "), 60)
        print(f"TCP used {took_s:.2f} s after it was possible")
        (a.root / "file").write_text("still there")
        eventually(lambda: (b.root / "file").read_text() == "still there", 30)


@pytest.mark.soak
def test_a_connection_that_dies_is_made_anew(net: Network, apart: tuple[Device, Device, str]) -> None:
    a, b, _ = apart
    b.run(*invited(a)["command"].split()[1:], environment=home(b))
    b.root = b.directory / "Shared"
    eventually(lambda: path_to(b).startswith("webrtc "), 60)
    net.lose(a, b)
    eventually(lambda: path_to(b) == "", 120)
    (a.root / "meanwhile").write_text("meanwhile")
    net.find(a, b)
    eventually(lambda: (b.root / "meanwhile").read_text() == "meanwhile", 180)
    assert path_to(b).startswith("webrtc ")


def test_a_wrong_word_by_way_of_the_server_ends_the_invitation(apart: tuple[Device, Device, str]) -> None:
    a, b, url = apart
    code = invited(a)["code"]
    wrong = b.run("join", typo_of(code), b.directory / "mount", "--signal", url, check=False)
    assert (wrong.returncode, "the invitation is void now" in wrong.stderr) == (1, True), wrong.stderr
    right = b.run("join", code, b.directory / "mount", "--signal", url, "--timeout", "5", check=False)
    assert right.returncode == 1, right.stdout
    assert not (b.directory / "mount/hello.txt").exists()
