"""Devices of one network find each other: real multicast between network namespaces."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest

PATIENCE_S = 30.0
Line = dict[str, object]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=10)


@contextmanager
def namespace(name: str) -> Iterator[str]:
    unique = f"dittofs-{os.getpid()}-{name}"
    ip("netns", "add", unique)
    try:
        yield unique
    finally:
        ip("netns", "delete", unique)


@pytest.fixture
def spaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them; nothing is plugged in or addressed."""
    with namespace("a") as one, namespace("b") as other:
        ip("-n", one, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", other)
        yield one, other


def plug_in(space: str, address: str) -> None:
    ip("-n", space, "link", "set", "cable", "up")
    ip("-n", space, "address", "add", address, "dev", "cable")


class Speaker:
    """A process of `mdns_speaker` in a namespace."""

    def __init__(self, space: str, port: int) -> None:
        self._process = subprocess.Popen(
            [
                *("nsenter", f"--net=/var/run/netns/{space}"),
                *(sys.executable, "-P", "-W", "error", "-m", "tests.e2e.mdns_speaker", str(port)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._left = b""
        self.heard: list[Line] = []

    def say(self, *tags: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(tags).encode() + b"\n")
        self._process.stdin.flush()

    def until(self, is_wanted: Callable[[Line], bool]) -> Line:
        """The next line of which this holds."""
        deadline = monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            assert self._process.stdout is not None
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while monotonic() < deadline:
                while b"\n" in self._left:
                    line, _, self._left = self._left.partition(b"\n")
                    self.heard.append(json.loads(line))
                    if is_wanted(self.heard[-1]):
                        return self.heard[-1]
                if selector.select(deadline - monotonic()):
                    arrived = os.read(self._process.stdout.fileno(), 65536)
                    assert arrived, f"it ended; it had told {self.heard}"
                    self._left += arrived
        raise AssertionError(f"not within {PATIENCE_S} s: it told {self.heard}")

    def leave(self) -> None:
        """Say goodbye and end in good order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(10) == 0
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def __enter__(self) -> "Speaker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self.leave()


def test_two_find_each_other_and_hear_changes_and_goodbyes(spaces: tuple[str, str]) -> None:
    plug_in(spaces[0], "10.90.0.1/24")
    plug_in(spaces[1], "10.90.0.2/24")
    with Speaker(spaces[0], 4001) as one, Speaker(spaces[1], 4002) as other:
        own = one.until(lambda line: "own" in line)["own"]
        one.say("first", "second")
        seen = other.until(lambda line: line.get("tags") == ["first", "second"])
        assert seen["instance"] == own
        assert "10.90.0.1:4001" in str(seen["addresses"])
        back = one.until(lambda line: "instance" in line)
        assert "10.90.0.2:4002" in str(back["addresses"])
        one.say("third")
        other.until(lambda line: line.get("tags") == ["third"])
        one.leave()
        gone = other.until(lambda line: line.get("is_gone") is True)
        assert gone["instance"] == own
        assert own not in [line.get("instance") for line in one.heard]  # nobody finds himself


def test_a_network_that_comes_later_is_noticed(spaces: tuple[str, str]) -> None:
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(Speaker(space, port))
            for space, port in zip(spaces, (4001, 4002), strict=True)
        )
        one.say("tag")
        assert "no multicast" in str(one.until(lambda line: "log" in line)["log"])
        plug_in(spaces[0], "10.90.0.1/24")
        plug_in(spaces[1], "10.90.0.2/24")
        other.until(lambda line: line.get("tags") == ["tag"])
        # Another address on the same cable reaches those who know the first.
        ip("-n", spaces[0], "address", "add", "10.90.0.77/24", "dev", "cable")
        other.until(lambda line: "10.90.0.77:4001" in str(line.get("addresses")))
        one.until(lambda line: "10.90.0.2:4002" in str(line.get("addresses")))
        assert sum("log" in line for line in one.heard) == 1
