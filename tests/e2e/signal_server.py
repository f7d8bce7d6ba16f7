"""`dittofs signal` as a process, in a network of the test's choice."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.e2e.node import COMMAND_S, dittofs_command


@contextmanager
def signalling(inside: Sequence[str], *options: str) -> Iterator[int]:
    """The server's port, once clients can connect."""
    process = subprocess.Popen(
        [*inside, *dittofs_command(), "signal", "--json", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())["port"])
    finally:
        process.terminate()
        process.communicate(timeout=COMMAND_S)
