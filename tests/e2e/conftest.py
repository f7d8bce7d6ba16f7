"""Nodes and directories for the tests that mount."""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from dittofs.control.options import FRONT_END_DEFAULT, FRONT_ENDS
from tests.e2e.network import Device, Network, network
from tests.e2e.node import Node

FUSE = Path("/dev/fuse")
ON_EACH: Final = frozenset({"test_programs", "test_crash", "test_pjdfstest"})
"""What every front end must pass, beside what has a place `here`: pyfuse3 in soak runs, for they are long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if "net" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.devices)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is shown with what every node of the test says of itself at that moment."""
    report = yield
    if call.when == "call" and report.failed:
        for node in _nodes_of(list(getattr(item, "funcargs", {}).values())):
            report.sections.append((f"node {node.directory.name}", node.account()))
    return report


def _nodes_of(values: Iterable[object]) -> list[Node]:
    found: dict[int, Node] = {}
    for value in values:
        match value:
            case Node():
                found[id(value)] = value
            case Network():
                found |= {id(device): device for device in value.devices}
            case tuple():
                found |= {id(node): node for node in _nodes_of(value)}
    return list(found.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "front_end" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in ON_EACH:
        marks = {"pyfuse3": pytest.mark.soak}
        each = [pytest.param(name, marks=marks.get(name, ())) for name in FRONT_ENDS]
        metafunc.parametrize("front_end", each, scope="session")


@pytest.fixture(scope="session")
def front_end() -> str:
    """The front end under test: in the conformance suite each of them in turn."""
    return FRONT_END_DEFAULT


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
def node(tmp_path: Path, front_end: str) -> Iterator[Node]:
    """A node of the test's own; nothing mounted yet."""
    node = Node(tmp_path / "node", front_end)
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
def shared_mounts(ground: Path) -> Iterator[Callable[[str], Path]]:
    """One mount a front end for all tests that only look at POSIX meaning; other users may enter it."""
    with ExitStack() as stack:

        @cache
        def mounted(front_end: str) -> Path:
            node = Node(ground / f"shared-{front_end}", front_end)
            node.options = ("-o", "allow_other") if os.geteuid() == 0 else ()
            stack.callback(node.close)
            node.mount()
            return node.root

        yield mounted


@pytest.fixture(params=["native", *FRONT_ENDS])
def here(request: pytest.FixtureRequest, ground: Path, shared_mounts: Callable[[str], Path]) -> Path:
    """An empty directory, once on a native file system and once on a mount of each front end.

    What is expected of a mount is so asked of the kernel's own file system as well.
    """
    top = ground / "native" if request.param == "native" else shared_mounts(request.param)
    top.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="test-", dir=top))
    directory.chmod(0o755)
    return directory
