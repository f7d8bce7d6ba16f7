"""A large file to three other devices, each behind an uplink of its own: how long, and who sends how much.

    sh packaging/dev bench swarm [--mib 256] [--rate 200mbit] [--rounds 3]

Four daemons in network namespaces around one switch; tc(8) tbf on every device's way out. Needs root.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.bench._machine import describe
from tests.bench._report import table
from tests.e2e.network import network
from tests.e2e.spreading import Spread, four, spread

DONE_S: Final = 20.0
SENT: Final = 1.7


def row(number: int, found: Spread) -> list[str]:
    last, sent = max(found.took_s), found.sent[0]
    return [
        str(number),
        _held(last, DONE_S, "{:.1f}"),
        ", ".join(f"{one:.1f}" for one in found.took_s),
        _held(sent, SENT, "{:.2f}"),
        ", ".join(f"{one:.2f}" for one in found.sent[1:]),
        f"{found.cpu_s:.1f}",
    ]


def _held(value: float, limit: float, form: str) -> str:
    text = form.format(value)
    return text if value <= limit else f"**{text}**"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rate", default="200mbit")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(describe())
    rows, seconds = [], []
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, network(Path(directory)) as net:
            found = spread(four(net, options.rate), options.mib << 20)
        rows.append(row(number, found))
        seconds.append(max(found.took_s))
        print(rows[-1], file=sys.stderr)
    head = ["round", f"all done s (≤ {DONE_S:g})", "each s", f"first one sent, files (≤ {SENT:g})"]
    print(table([*head, "others sent", "CPU s"], rows))
    print(f"\nmedian {statistics.median(seconds):.1f} s")


if __name__ == "__main__":
    main()
