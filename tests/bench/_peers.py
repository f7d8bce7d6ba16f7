"""The programs DittoFS is compared with: installed from Debian where that is possible."""

import os
import shutil
import subprocess
from typing import Final

INSTALL_S: Final = 300.0


def missing_reason(program: str) -> str | None:
    """Why `program` cannot be run, once its Debian package could not be installed; None if it can."""
    if shutil.which(program):
        return None
    if not shutil.which("apt-get"):
        return "not installed, and this is not Debian"
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", program]
    if os.geteuid():
        return f"not installed: sudo {' '.join(install)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ["apt-get", "update", "-qq"], install):
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=INSTALL_S
            )
        except subprocess.TimeoutExpired:
            break
        if done.returncode == 0 and shutil.which(program):
            return None
    return f"could not be installed: {' '.join(install)}"
