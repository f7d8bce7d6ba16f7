"""DittoFS with each front end, the file system below it, bindfs, rclone and gocryptfs in one run.

    sh packaging/dev bench data_path [--rounds 3] [--scale 1.0] [--minutes 8] [--only TEXT] [--json FILE]

Rounds are interleaved: each workload runs on every file system before the next begins, and the order
turns from round to round. Every round starts with empty stores. Two backing stores: tmpfs, where
nothing hides what a file system itself costs, and a directory on a disk.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.bench._machine import can_drop_caches, describe, file_system
from tests.bench._peers import missing_reason
from tests.bench._report import Sample, Samples
from tests.bench._subjects import Ditto, Gocryptfs, Native, Peer, Rclone, Subject
from tests.bench._workloads import WORKLOADS, Material, Workload

MEMORY: Final = Path("/dev/shm")
MAKERS: Final[dict[str, Callable[[Path], Subject]]] = {
    "native": Native,
    "bindfs": lambda directory: Peer("bindfs", directory),
    "rclone": lambda directory: Rclone("rclone", directory),
    "gocryptfs": lambda directory: Gocryptfs("gocryptfs", directory),
    "pyfuse3": lambda directory: Ditto(directory, "pyfuse3", "pyfuse3"),
    "DittoFS": lambda directory: Ditto(directory, "kernel"),
}
DURABILITY: Final = (
    "Durability compared: no workload calls fsync. When close(2) returns, each file system has handed what "
    "was written to the operating system: it survives the death of its process, not a power cut. "
    "DittoFS has also journalled the name; cutting, hashing and sealing follow behind the program's back "
    '(the column "published").'
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench data_path", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files and bytes (1.0)")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no round that would end later (8)")
    parser.add_argument("--subjects", default=",".join(MAKERS), help=f"of {','.join(MAKERS)}")
    parser.add_argument("--backing", default="tmpfs,disk", help="tmpfs,disk or one of them")
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), help="where the disk is (/var/tmp)")
    parser.add_argument("--only", default="", help="workloads with this in their names, e.g. sequential")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    return parser.parse_args(argv)


def available(names: Sequence[str]) -> list[str]:
    """The file systems that can be run here; the others are named."""
    found = []
    for name in names:
        reason = None if name in ("native", "pyfuse3", "DittoFS") else missing_reason(name)
        if reason is None:
            found.append(name)
        else:
            print(f"NOT RUN: {name} ({reason})")
    return found


def measure(subject: Subject, workload: Workload, material: Material, backing: str) -> Sample:
    """Time one workload on one file system, from quiet to quiet."""
    if workload.prepare is not None:
        workload.prepare(subject.root, material)
        subject.settle()
    if workload.is_cold:
        subject.make_cold()
    else:
        os.sync()
    cpu_before_s = subject.cpu_s()
    begin = time.perf_counter()
    workload.run(subject.root, material)
    wall_s = time.perf_counter() - begin
    subject.settle()
    settled_s = time.perf_counter() - begin
    return Sample(backing, workload.name, subject.name, wall_s, settled_s, subject.cpu_s() - cpu_before_s)


def run_round(
    names: Sequence[str], place: Path, backing: str, material: Material, samples: Samples, only: str
) -> None:
    """Every workload once on every file system, all of them on empty stores below `place`."""
    with ExitStack() as stack:
        ground = Path(tempfile.mkdtemp(prefix="dittofs-bench-", dir=place))
        stack.callback(shutil.rmtree, ground)
        subjects: list[Subject] = []
        for name in names:
            subject = MAKERS[name](ground / name)
            subject.start()
            stack.callback(subject.stop)
            subjects.append(subject)
        for workload in (one for one in WORKLOADS if only in one.name):
            for subject in subjects:
                sample = measure(subject, workload, material, backing)
                samples.add(sample)
                print(
                    f"  {backing:6} {workload.name:24} {subject.name:8} {sample.wall_s:8.3f} s"
                    f"  settled {sample.settled_s:8.3f} s  cpu {sample.cpu_s:6.2f} s",
                    file=sys.stderr,
                )


def run_rounds(asked: argparse.Namespace, names: Sequence[str], material: Material) -> tuple[Samples, int]:
    """All rounds that fit into the time; how many there were."""
    places = {"tmpfs": MEMORY, "disk": asked.disk}
    samples = Samples()
    begin, longest_s, done = time.monotonic(), 0.0, 0
    for number in range(asked.rounds):
        round_begin = time.monotonic()
        if round_begin - begin + longest_s > asked.minutes * 60:
            break
        turned = [*names[number % len(names) :], *names[: number % len(names)]]
        for backing in asked.backing.split(","):
            print(f"round {number + 1} of {asked.rounds}, {backing}", file=sys.stderr)
            run_round(turned, places[backing], backing, material, samples, asked.only)
        done += 1
        longest_s = max(longest_s, time.monotonic() - round_begin)
    return samples, done


def main(argv: Sequence[str] | None = None) -> int:
    asked = arguments(argv)
    machine = describe()
    names = available(asked.subjects.split(","))
    with tempfile.TemporaryDirectory(prefix="dittofs-bench-", dir=MEMORY) as directory:
        material = Material(Path(directory), asked.scale)
        samples, rounds = run_rounds(asked, names, material)
    print(f"{machine}; {rounds} rounds interleaved, medians; scale {asked.scale:g}")
    print(
        f"{material.small_files} small files, {material.archive_entries} entries in the archive, "
        f"{material.repository_files} files in the repository, {material.large_bytes >> 20} MiB sequential, "
        f"{len(material.offsets)} random operations in {material.random_file_bytes >> 20} MiB"
    )
    print(DURABILITY)
    caches = "the kernel's caches emptied" if can_drop_caches() else "not the kernel's (only root may)"
    print(f"Cold: the file system's process restarted and {caches}.")
    for backing in asked.backing.split(","):
        kind = file_system(MEMORY if backing == "tmpfs" else asked.disk)
        print(f"\n### Stores on {backing if backing == kind else f'{backing} ({kind})'}\n")
        print(samples.table(backing, names))
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(one) for one in samples.all], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
