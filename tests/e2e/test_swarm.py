"""A file that several devices want: they give it to each other; the first one sends little more than one.

Bytes are held, times are printed. `sh packaging/dev bench swarm` has the figures of the design.
"""

from pathlib import Path

import pytest

from tests.e2e.network import network
from tests.e2e.spreading import four, spread

SENT_MAX = 1.7
"""Of the file, by the device that had it first: three times it would be without the others' help."""


@pytest.mark.soak
def test_three_devices_that_want_a_file_give_it_to_each_other(tmp_path: Path) -> None:
    with network(tmp_path) as net:
        found = spread(four(net, "200mbit"), 256 << 20)
        print(f"all bytes there after {', '.join(f'{one:.1f}' for one in found.took_s)} s")
        print(f"sent, in files: {', '.join(f'{one:.2f}' for one in found.sent)}; {found.cpu_s:.1f} CPU s")
        assert found.sent[0] <= SENT_MAX
