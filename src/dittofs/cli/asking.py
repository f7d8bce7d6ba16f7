"""The daemon as commands reach it, and which volume and path a word on the command line means."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from dittofs.cli.guess import did_you_mean
from dittofs.cli.output import escaped
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import Refusal
from dittofs.control.mountpoint import mounted_around, mounts
from dittofs.control.paths import path_bytes
from dittofs.control.protocol import VolumeStatus


def client() -> Client:
    """The daemon of this DITTOFS_HOME. Nothing is sent yet."""
    return Client(Paths.find().socket)


@dataclass(frozen=True, slots=True)
class Place:
    """A path inside a volume, without a leading slash."""

    volume: str
    path: bytes

    def __str__(self) -> str:
        return escaped(f"{self.volume}:".encode() + self.path)


def locate(word: str | None, volumes: Sequence[VolumeStatus], command: str = "") -> Place:
    """What `word` means: VOLUME:PATH, a local path in a mount, or a path in the only volume.

    None is the volume around the working directory, else the only one. Refuses ("usage",
    "not_found") what means nothing or more than one thing; `command` is one to which a volume was not given.
    """
    if not volumes:
        raise Refusal("not_found", "there is no volume on this device yet", "dittofs mount DIR")
    if word is not None:
        name, colon, path = word.partition(":")
        if colon and any(volume.name == name for volume in volumes):
            return Place(name, os.fsencode(path).strip(b"/"))
    mounted = _in_mount(word or ".", volumes)
    if mounted is not None:
        return mounted
    names = ", ".join(escaped(volume.name) for volume in volumes)
    if word is not None and ":" in word and "/" not in (name := word.partition(":")[0]):
        raise Refusal(
            "not_found",
            f'there is no volume "{escaped(name)}" on this device (it has: {names}); nothing was done',
            f"A name with a colon in it is written {escaped(volumes[0].name)}:{escaped(word)}",
        )
    if word is not None and word.startswith("/"):
        raise Refusal(
            "not_found",
            f"{escaped(word)} is in no mounted volume of this device (it has: {names})",
            "Name a path below a mount, or VOLUME:PATH",
        )
    if len(volumes) > 1:
        mend = (
            _named(command, volumes) if command else f"Write  VOLUME:PATH   as in  {_example(word, volumes)}"
        )
        raise Refusal("usage", f"which volume is meant? This device has: {names}", mend)
    return Place(volumes[0].name, os.fsencode(word or "").strip(b"/"))


def _named(command: str, volumes: Sequence[VolumeStatus]) -> str:
    return escaped(command.replace("VOLUME", shlex.quote(volumes[0].name), 1))


def _example(word: str | None, volumes: Sequence[VolumeStatus]) -> str:
    return escaped(f"{shlex.quote(volumes[0].name)}:{shlex.quote(word) if word else ''}")


def which_volume(
    word: str | None, volumes: Sequence[VolumeStatus], command: str, *, instead: Sequence[str] = ()
) -> str:
    """The volume that `word` means: its name, or a directory that is mounted or in a mount.

    None is the volume around the working directory, else the only one. Refuses ("usage", "not_found");
    `command` is how VOLUME would be given, `instead` what could have stood in its place.
    """
    if word is not None and any(volume.name == word for volume in volumes):
        return word
    if word is None or not volumes:
        return locate(None, volumes, command).volume
    mounted = _in_mount(word, volumes)
    if mounted is not None:
        return mounted.volume
    names = ", ".join(escaped(volume.name) for volume in volumes)
    if instead and "/" not in word:
        guess = did_you_mean(word, [*instead, *(volume.name for volume in volumes)])
        text = (
            f"{escaped(word)} is none of {', '.join(instead)}, and no volume of this device "
            f"(it has: {names}){guess}"
        )
        raise Refusal("usage", text, " ".join([*command.split()[:2], "--help"]))
    text = f"{escaped(word)} is neither a volume of this device (it has: {names}) nor in a mount of one"
    raise Refusal("not_found", text, "dittofs status")


def _in_mount(word: str, volumes: Sequence[VolumeStatus]) -> Place | None:
    parent, name = os.path.split(os.path.abspath(word))  # noqa: PTH100 - Path keeps `..` in what is absent
    path = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118 - a link in the volume is itself meant
    around = mounted_around(path, mounts())
    if around is None or not around.is_ours:
        return None
    inside = os.fsencode(path[len(around.path) :]).strip(b"/")
    by_path = (volume for volume in volumes if path_bytes(volume) == os.fsencode(around.path))
    by_name = (volume for volume in volumes if volume.name == around.source and volume.state == "mounted")
    for volume in (*by_path, *by_name):
        return Place(volume.name, inside)
    return None


def shown_directory(path: bytes | str) -> str:
    """A local directory as people write it: with `~` for the home directory."""
    text = os.fsdecode(path)
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where none is known
    if home != "/" and (text == home or text.startswith(f"{home}/")):
        text = "~" + text[len(home) :]
    return escaped(text)
