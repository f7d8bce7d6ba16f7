"""The cases of pjdfstest (github pjd/pjdfstest), built by whoever runs this: PJDFSTEST names its directory.

PJDFSTEST=~/pjdfstest sh packaging/dev test posix     on each front end, 5 min each
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.node import Node

ALL_S = 1800.0
WHERE = os.environ.get("PJDFSTEST", "")


@pytest.mark.posix
@pytest.mark.skipif(not WHERE, reason="PJDFSTEST does not name a directory with a built pjdfstest")
def test_every_case_of_pjdfstest_holds(node: Node) -> None:
    assert os.geteuid() == 0, "pjdfstest acts as several users: run it as root"
    tests = Path(WHERE) / "tests"
    assert (Path(WHERE) / "pjdfstest").exists(), f"{WHERE}/pjdfstest is not built: its README says how"
    node.mount(node.root, "-o", "allow_other,dev,suid")
    node.directory.chmod(0o755)
    done = subprocess.run(
        ["prove", "-r", "--timer", "--failures", str(tests)],
        cwd=node.root,
        capture_output=True,
        text=True,
        timeout=ALL_S,
    )
    print(done.stdout[-20_000:])
    counted = re.search(r"Files=(\d+), Tests=(\d+)", done.stdout)
    assert counted, done.stdout + done.stderr
    assert int(counted[2]) > 8_000
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-20_000:]
