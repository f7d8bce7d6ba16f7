"""`daemon`, `device` and `demo` up to what needs a daemon; with it: tests/e2e/test_sharing_commands.py."""

import socket
from pathlib import Path

import msgspec
import pytest

from dittofs.cli.daemon import come_back, daemon_options, only_here
from dittofs.cli.demo import Device, lines, proof
from dittofs.control.faults import Refusal
from dittofs.control.protocol import Custody, MemberStatus, Pending, StatusReport, VolumeStatus
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService


def test_where_the_daemon_listens_and_looks_is_judged_before_it_is_started() -> None:
    assert daemon_options("192.0.2.7", 0, ["nas.local:7347", "[::1]:7"]) == [
        *("--bind", "192.0.2.7", "--port", "0"),
        *("--peer", "nas.local:7347", "--peer", "[::1]:7"),
    ]
    assert daemon_options(None, None, []) == []
    for bind, port, peers in (("not a host", None, []), (None, 70000, []), (None, None, ["nas.local"])):
        with pytest.raises(Refusal) as caught:
            daemon_options(bind, port, peers)
        assert caught.value.code == "usage"


def test_before_the_daemon_ends_what_is_only_here_is_said() -> None:
    custody = Custody(only_here=2, only_here_bytes=1_000_000)
    others = (MemberStatus("laptop", "ab", "owner", is_this=True), MemberStatus("nas", "cd", "writer"))
    pending = Pending(files=1, bytes=500_000)
    volume = VolumeStatus(
        "Shared", "ab", "mounted", "/srv/Shared", copies="2", custody=custody, pending=pending, members=others
    )
    assert only_here(volume) == 'Only on this device: 3 files, 1.5 MB of "Shared"'
    assert only_here(msgspec.structs.replace(volume, members=others[:1])) == ""
    assert only_here(msgspec.structs.replace(volume, copies="on-demand")) == ""
    assert "dittofs mount /srv/Shared" in come_back(StatusReport("1", 1, 0.0, 0, (volume,), ()))
    unmounted = msgspec.structs.replace(volume, state="unmounted")
    assert come_back(StatusReport("1", 1, 0.0, 0, (unmounted,), ())) == ""


def test_a_demonstration_that_is_taken_away_does_not_say_where_to_look() -> None:
    text = "\n".join(proof([Device(name, Path("/a"), Path("/b")) for name in ("laptop", "nas")]))
    assert "what laptop wrote was read, byte for byte, on nas" in text
    assert "Ctrl-C" not in text


def test_an_identity_is_changed_only_when_there_is_one_and_no_daemon_uses_it(
    shell: Shell, service: SmallService
) -> None:
    assert service.files == {}
    assert shell.run("device", "new", "--yes") == 1
    assert "dittofs daemon --stop" in shell.err


def test_a_device_that_was_never_used_has_no_identity_to_change(shell: Shell, home: Path) -> None:
    assert shell.run("device", "new", "--yes") == 1
    assert "no identity yet" in shell.err
    assert not home.exists()
    assert shell.run("device", "old") == 2


def test_a_server_whose_port_is_taken_names_the_option_for_another(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert shell.run("signal", "--bind", "127.0.0.1", "--port", str(port)) == 1
    assert "; no server was started\ndittofs signal --port P" in shell.err


def test_a_demonstration_of_one_device_shows_nothing(shell: Shell) -> None:
    assert shell.run("demo", "--nodes", "1") == 2
    assert shell.run("demo", "--nodes", "99") == 2


def test_a_demonstration_says_where_and_what_to_try() -> None:
    top = Path("/tmp/a demo")
    devices = [Device(name, top / f"home-{name}", top / name) for name in ("laptop", "nas")]
    text = "\n".join(lines(devices))
    assert "  laptop   /tmp/a demo/laptop" in text
    assert "cat '/tmp/a demo/nas/hello.txt'" in text
