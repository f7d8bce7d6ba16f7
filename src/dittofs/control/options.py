"""What may follow `mount -o`: parsed and judged the same way by command and daemon."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dittofs.control.faults import Refusal

FUSE_CONF: Final = Path("/etc/fuse.conf")
READ_BYTES_MIN: Final = 4096

# word -> (what it sets, to what). Of two that contradict each other the later one counts, as in mount(8).
_SWITCHES: Final[Mapping[str, tuple[str, bool]]] = {
    "ro": ("ro", True),
    "rw": ("ro", False),
    "allow_other": ("allow_other", True),
    "allow_root": ("allow_root", True),
    "dev": ("dev", True),
    "nodev": ("dev", False),
    "suid": ("suid", True),
    "nosuid": ("suid", False),
    "exec": ("noexec", False),
    "noexec": ("noexec", True),
    "atime": ("noatime", False),
    "relatime": ("noatime", False),
    "noatime": ("noatime", True),
    "nodiratime": ("nodiratime", True),
    "sync": ("sync", True),
    "async": ("sync", False),
    "dirsync": ("dirsync", True),
    "default_permissions": ("default_permissions", True),  # always on
}
_WITH_VALUE: Final = ("fsname", "max_read", "frontend")
FRONT_ENDS: Final = ("kernel", "pyfuse3")
FRONT_END_DEFAULT: Final = "kernel"
# For mount(8), which reads them from /etc/fstab and may pass them on; a file system has nothing to do.
_FOR_MOUNT: Final = (
    *("defaults", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev"),
    *("nostrictatime", "norelatime"),
)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Options that make sense together."""

    kernel: tuple[str, ...] = ()
    """For libfuse, beyond the defaults; sorted. `default_permissions` and `fsname` are not among them."""
    fsname: str = ""
    """What mount(8) and df(1) show as the source; empty: not chosen."""
    front_end: str = FRONT_END_DEFAULT
    """What speaks with the kernel: one of FRONT_ENDS."""
    warnings: tuple[str, ...] = ()
    """Sentences for the user."""

    @property
    def trusts_root(self) -> bool:
        """Whether set-id bits or device files act here: then whoever may write becomes root."""
        return "dev" in self.kernel or "suid" in self.kernel


def split_options(text: str) -> tuple[str, ...]:
    """The options in one `-o` argument: separated by commas; a backslash makes the next character plain."""
    words, word, characters = [], "", iter(text)
    for character in characters:
        if character == "\\":
            word += next(characters, "")
        elif character == ",":
            words.append(word)
            word = ""
        else:
            word += character
    return tuple(one for one in (*words, word) if one)


def parse_options(
    words: Iterable[str], *, is_root: bool | None = None, fuse_conf: Path = FUSE_CONF
) -> MountOptions:
    """The options in force. Refuses ("usage") what is unknown, contradictory or not allowed to this user."""
    as_root = os.geteuid() == 0 if is_root is None else is_root
    switches: dict[str, bool] = {}
    values: dict[str, str] = {}
    for word in words:
        name, has_value, value = word.partition("=")
        if word in _SWITCHES:
            switch, is_on = _SWITCHES[word]
            switches[switch] = is_on
        elif has_value and name in _WITH_VALUE:
            values[name] = _value(name, value)
        elif word not in _FOR_MOUNT and not name.startswith("x-"):
            raise Refusal("usage", f"-o {word!r} is not an option of a mount", "dittofs mount --help")
    on = {switch for switch, is_on in switches.items() if is_on} - {"default_permissions"}
    _check_together(on, as_root, fuse_conf)
    kernel = on | {f"max_read={values['max_read']}"} if "max_read" in values else on
    return MountOptions(
        tuple(sorted(kernel)),
        values.get("fsname", ""),
        values.get("frontend", FRONT_END_DEFAULT),
        _warnings(on),
    )


def _value(name: str, value: str) -> str:
    if name == "max_read":
        if not (value.isascii() and value.isdigit()) or int(value) < READ_BYTES_MIN:
            text = f"-o max_read={value!r} is not a number of bytes of at least {READ_BYTES_MIN}"
            raise Refusal("usage", text, "-o max_read=131072")
    elif name == "frontend":
        if value not in FRONT_ENDS:
            text = f"-o frontend={value!r} is none of {', '.join(FRONT_ENDS)}"
            raise Refusal("usage", text, f"-o frontend={FRONT_END_DEFAULT}")
    elif not value or not value.isprintable() or "," in value:
        raise Refusal("usage", f"-o {name}= needs a printable text without commas", f"-o {name}=shared")
    return value


def _check_together(on: set[str], as_root: bool, fuse_conf: Path) -> None:
    if {"allow_other", "allow_root"} <= on:
        text = "-o allow_other lets everybody in, -o allow_root only root: give one of them"
        raise Refusal("usage", text)
    for word in sorted(on & {"dev", "suid"}):
        if not as_root:
            raise Refusal(
                "usage",
                f"-o {word} is for root: with it, whoever may write to the volume becomes root here",
                f"Leave it out, or mount as root: sudo dittofs mount -o {word} DIR",
            )
    for word in sorted(on & {"allow_other", "allow_root"}):
        if not as_root and not is_user_allow_other(fuse_conf):
            raise Refusal(
                "refused",
                f"-o {word} needs the line user_allow_other in {fuse_conf}",
                f"echo user_allow_other | sudo tee -a {fuse_conf}",
            )


def _warnings(on: set[str]) -> tuple[str, ...]:
    found = []
    if "suid" in on:
        found.append("suid: a set-user-id program that any writer of this volume puts here runs as root.")
    if "dev" in on:
        found.append(
            "dev: device files that any writer of this volume makes open the devices of this machine."
        )
    return tuple(found)


def is_user_allow_other(fuse_conf: Path = FUSE_CONF) -> bool:
    """Whether users other than root may let others into their mounts (mount.fuse3(8), CONFIGURATION)."""
    try:
        text = fuse_conf.read_text(errors="replace")
    except OSError:
        return False
    return any(line.partition("#")[0].strip() == "user_allow_other" for line in text.splitlines())
