"""Nodes and directories for the tests that mount."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.network import Device, Network, network
from tests.e2e.node import Node

FUSE = Path("/dev/fuse")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session", autouse=True)
def fuse() -> None:
    """These tests prove nothing without a kernel: they fail rather than skip."""
    assert FUSE.exists(), (
        "/dev/fuse is missing: these tests mount. Load the module (modprobe fuse), give the container "
        "the device, or leave them out with -m 'not e2e'."
    )


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """A directory on a native file system that other users may enter."""
    directory = Path(tempfile.mkdtemp(prefix="dittofs-e2e-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own; nothing mounted yet."""
    node = Node(tmp_path / "node")
    yield node
    node.close()


@pytest.fixture
def mounted(node: Node) -> Node:
    """A node with its volume mounted on `node.root`."""
    node.mount()
    return node


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    """A network without devices."""
    with network(tmp_path) as made:
        yield made


@pytest.fixture
def pair(net: Network) -> tuple[Network, Device, Device]:
    """Two devices with one volume."""
    a, b = net.device("alder"), net.device("birch")
    net.cable(a, b)
    a.found()
    a.share_with(b)
    return net, a, b


@pytest.fixture
def three(net: Network) -> tuple[Network, Device, Device, Device]:
    """Three devices with one volume, each with a cable to each."""
    a, b, c = (net.device(label) for label in ("alder", "birch", "cedar"))
    net.cable(a, b)
    net.cable(b, c)
    net.cable(a, c)
    a.found()
    a.share_with(b, c)
    return net, a, b, c


@pytest.fixture(scope="session")
def shared_mount(ground: Path) -> Iterator[Path]:
    """One mount for all tests that only look at POSIX meaning; other users may enter it."""
    node = Node(ground / "shared")
    node.options = ("-o", "allow_other") if os.geteuid() == 0 else ()
    node.mount()
    yield node.root
    node.close()


@pytest.fixture(params=["native", "mount"])
def here(request: pytest.FixtureRequest, ground: Path) -> Path:
    """An empty directory, once on a native file system and once on a mount.

    What is expected of the mount is so asked of the kernel's own file system as well.
    """
    top = ground / "native" if request.param == "native" else request.getfixturevalue("shared_mount")
    Path(top).mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="test-", dir=top))
    directory.chmod(0o755)
    return directory
