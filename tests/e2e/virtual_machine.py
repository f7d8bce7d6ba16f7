"""A virtual machine with Debian's own kernel that sees this machine's root, and writes into memory alone."""

import gzip
import os
import re
import subprocess
from pathlib import Path
from typing import Final

BOOT: Final = Path("/boot")
MODULES: Final = Path("/lib/modules")
NEEDED: Final = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""Modules that reach the root; what the guest needs beyond these it loads from there."""
MEMORY_MB: Final = 1536

PANIC: Final = "Kernel panic - not syncing: Fatal exception"
"""What the console says when a fault of the kernel itself has ended the machine."""

_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
{loads}
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose host /lower
/bin/busybox mount -t tmpfs none /upper
/bin/busybox mkdir /upper/top /upper/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/top,workdir=/upper/work none /root
for each in dev proc sys; do /bin/busybox mount --move /$each /root/$each; done
for each in run dev/shm; do
    /bin/busybox mkdir -p /root/$each
    /bin/busybox mount -t tmpfs none /root/$each
done
export TMPDIR=/run  # /tmp stays what it is on this machine: the project may lie there
exec /bin/busybox switch_root /root /bin/sh -c '{script}'
"""
_FOLDERS: Final = ("bin", "modules", "lower", "upper", "root", "proc", "sys", "dev")


def kernel() -> Path:
    """The newest kernel that has its modules."""
    found = [one for one in BOOT.glob("vmlinuz-*") if (MODULES / one.name.removeprefix("vmlinuz-")).is_dir()]
    assert found, "no kernel is installed: sh packaging/dev test bluetooth"
    return max(found, key=lambda one: [int(number) for number in re.findall(r"[0-9]+", one.name)])


def run_in_machine(script: str, place: Path, patience_s: float) -> str:
    """What the machine's console said until it ended. `script` is for a shell, without single quotes.

    It is ended after `patience_s`. KVM is not asked for: it is not everywhere, and not sound where it nests.
    """
    assert "'" not in script
    image = kernel()
    initrd = place / "initrd.gz"
    _make_initrd(initrd, image.name.removeprefix("vmlinuz-"), script, place / "initrd")
    console = place / "console.txt"
    command = [
        *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", "2", "-m", str(MEMORY_MB)),
        *(
            "-kernel",
            str(image),
            "-initrd",
            str(initrd),
            "-append",
            "console=ttyS0 quiet oops=panic panic=-1 mitigations=off",
        ),
        *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", f"file:{console}"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience_s, check=False
        )
        said = done.stderr
    except subprocess.TimeoutExpired:
        said = f"it was ended after {patience_s:g} s"
    heard = console.read_text(errors="replace") if console.exists() else ""
    return f"{heard}\n{said}".replace("\r", "")


def _make_initrd(initrd: Path, version: str, script: str, root: Path) -> None:
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    names = [root / "bin/busybox"]
    names[0].write_bytes(Path("/bin/busybox").read_bytes())
    loads = []
    for module in _modules(version):
        (root / "modules" / module.name).write_bytes(module.read_bytes())
        loads.append(f"/bin/busybox insmod /modules/{module.name}")
    init = root / "init"
    init.write_text(_INIT.format(loads="\n".join(loads), script=script))
    for program in (init, *names):
        program.chmod(0o755)
    every = "\n".join(os.path.relpath(one, root) for one in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        cwd=root,
        input=every.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    initrd.write_bytes(gzip.compress(packed, 1))


def _modules(version: str) -> list[Path]:
    """What is to be loaded, in that order."""
    found: dict[Path, None] = {}
    for name in NEEDED:
        listed = subprocess.run(
            ["/sbin/modprobe", "--set-version", version, "--show-depends", name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found |= {Path(line.split()[1]): None for line in listed.splitlines() if line.startswith("insmod ")}
    return list(found)
