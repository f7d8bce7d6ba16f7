"""Two devices behind different routers: by code, by way of `dittofs signal`, and a file is read."""

from pathlib import Path

import pytest

from tests.e2e.nat import CREDENTIALS, OUTSIDE, TURN_PORT, Internet, behind_routers, relaying
from tests.e2e.network import Network, eventually
from tests.e2e.signal_server import signalling
from tests.e2e.test_codes import home
from tests.e2e.test_signalling import invited, path_to

pytestmark = pytest.mark.heavy


def shared_by_code(internet: Internet, settings: str = "") -> str:
    """Share on one, join on the other, read and write a file; how they are connected then."""
    a, b = internet.devices
    with signalling(internet.space.inside, "--port", "0") as port:
        url = f"ws://{internet.address}:{port}"
        a.configure(f'signal = "{url}"\n{settings}')
        b.configure(settings)
        a.found()
        (a.root / "hello.txt").write_text("hello")
        b.run(*invited(a)["command"].split()[1:], environment=home(b))
        b.root = b.directory / "Shared"
        eventually(lambda: (b.root / "hello.txt").read_text() == "hello", 90)
        (b.root / "back.bin").write_bytes(bytes(range(256)) * 4096)
        eventually(lambda: (a.root / "back.bin").read_bytes() == bytes(range(256)) * 4096, 90)
        path = path_to(b)
        for device in (b, a):  # in the network that is about to go
            device.unmount()
            device.end_daemon()
    return path


def test_through_two_routers_with_stun_alone(net: Network) -> None:
    with behind_routers(net, is_symmetric=False) as internet:
        path = shared_by_code(internet)
    assert path.startswith(f"webrtc {OUTSIDE[0]}.2:"), path


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_through_two_symmetric_routers_with_a_relay(net: Network, tmp_path: Path, transport: str) -> None:
    with behind_routers(net, is_symmetric=True) as internet, relaying(internet, tmp_path):
        turn = f"turn:{CREDENTIALS}@{internet.address}:{TURN_PORT}?transport={transport}"
        path = shared_by_code(internet, f'ice = ["{turn}"]')
    assert path.startswith("webrtc relay "), path
