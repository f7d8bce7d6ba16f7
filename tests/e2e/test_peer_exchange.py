"""Devices that nothing on the network announces meet through a member that knows both."""

from tests.e2e.network import Device, Network, eventually

PATIENCE_S = 60.0


def path_between(one: Device, other: Device) -> str:
    """How a device is connected with another; empty: it is not."""
    members = one.status()["volumes"][0]["members"]
    return next((str(member["path"]) for member in members if member["name"] == other.label), "")


def test_two_that_know_the_same_one_meet_directly_with_discovery_off(net: Network) -> None:
    a, b, c = devices = [net.device(label) for label in ("alder", "birch", "cedar")]
    net.switch(devices)
    for device in devices:
        device.configure("mdns = false")
    a.found()
    a.share_with(b, role="owner")
    b.share_with(c)  # who is told where birch is, and nothing of alder
    eventually(lambda: path_between(a, c) and path_between(c, a), PATIENCE_S)
    assert any(host in path_between(a, c) for host in c.addresses)
    b.unmount()
    b.end_daemon()
    eventually(lambda: not path_between(a, b), PATIENCE_S)
    (a.root / "file").write_text("by the direct way")
    eventually(lambda: (c.root / "file").read_text() == "by the direct way", PATIENCE_S)
