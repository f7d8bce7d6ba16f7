"""Where a node keeps things, and its settings, read once."""

import os
import pwd
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from dittofs.address import Address
from dittofs.cache_settings import CACHE_RULES, NO_LIMIT, CacheSettings
from dittofs.errors import ConfigError, FormatError
from dittofs.labels import LABEL_BYTES_MAX, NOT_FREE, default_label, is_free, is_label
from dittofs.server_urls import IceServer, SignalUrl

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
FILE_BYTES_MAX: Final = 64 << 10
PEERS_MAX: Final = 256
ICE: Final = "ice"
ICE_MAX: Final = 8
COUNT_MAX: Final = 1_000_000_000
PROGRAM_WORDS_MAX: Final = 64
MERGE: Final = "merge"


@dataclass(frozen=True, slots=True)
class Paths:
    """The three directories of a node, absolute. None of them need exist."""

    config: Path
    state: Path
    """Keys, journals, chunks: what must not be lost."""
    runtime: Path
    """The control socket: what ends with the session."""

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """All below DITTOFS_HOME if that is set, else where the XDG base directory specification says.

        `ConfigError` if no home directory is known.
        """
        if home := environment.get("DITTOFS_HOME"):
            top = Path(home).absolute()
            return cls(top, top / "state", top / "run")
        config = _base(environment, "XDG_CONFIG_HOME", ".config") / "dittofs"
        state = _base(environment, "XDG_STATE_HOME", ".local/state") / "dittofs"
        return cls(config, state, _runtime(environment) or state / "run")

    @property
    def settings(self) -> Path:
        """The file that `Settings.read` reads."""
        return self.config / "config.toml"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.runtime / "control.sock"


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What becomes of garbage, of devices that stay away, and how fast everything is read again."""

    garbage_grace_hours: float = 24.0
    """So long a chunk that nothing names stays at least."""
    retire_after_days: int = 0
    """A device that was not connected for so long is not waited for any more; 0: only by hand."""
    scrub_bytes_per_second: int = 1 << 20
    """How fast what is stored is read and verified in the background; 0: never."""


@dataclass(frozen=True, slots=True)
class BrakeSettings:
    """How much another device may remove or rewrite within a time before that is held and not shown."""

    is_on: bool = True
    share: float = 0.25
    """Of the files of a volume."""
    files: int = 1_000
    """So many are held whatever their share."""
    least: int = 20
    """Fewer are never held, however small the volume."""
    seconds: int = 60


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """For how many hours changes are kept one by one, and for how many days by the hour, day and week."""

    all_hours: int = 24
    hourly_days: int = 7
    daily_days: int = 30
    weekly_days: int = 365


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose. Every field has a default; a file that says anything else is refused."""

    label: str
    """What people call this device, on one line: it becomes part of names of conflicting versions."""
    log_level: str = "info"
    """One of `LOG_LEVELS`."""
    bind: str = ""
    """The address to listen on; empty: every one of this machine."""
    port: int | None = None
    """The port to listen on, 0 for any free one; None: the usual one, or any if that is taken."""
    peers: tuple[Address, ...] = ()
    """Where other devices may be, beside those that are found."""
    uses_mdns: bool = True
    """Whether this device is found, and finds others, on local networks by itself."""
    signal: SignalUrl | None = None
    """The signalling server that all volumes use; None: none."""
    ice: tuple[IceServer, ...] = ()
    """STUN and TURN servers, beside the signalling server itself."""
    bluetooth: str | None = None
    """The Bluetooth controller to use, like `hci1`, or empty for the first that is on; None: none."""
    storage: StorageSettings = StorageSettings()
    """How the chunk store is kept."""
    cache: CacheSettings = NO_LIMIT
    brake: BrakeSettings = BrakeSettings()
    """When the removals of another device are held."""
    history: HistorySettings = HistorySettings()
    """How much of the past is kept."""
    merge_programs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Patterns as in `.gitignore`, and the words of the program that merges files like that."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings in a TOML file; the defaults if it is absent.

        `ConfigError` names the file, the line where it can be told, what is wrong and what may stand there.
        """
        try:
            with path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return cls(default_label(socket.gethostname()))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        return cls.parse(data, str(path), default_label(socket.gethostname()))

    @classmethod
    def parse(cls, data: bytes, origin: str, label: str) -> Self:
        """The settings in TOML `data`, which came from `origin`; `label` is the default. Errors as `read`."""
        given = _parse(data, origin)
        network = given.get("network", {})
        port = network.get("port")
        peers = network.get("peers", [])
        signal, ice = network.get("signal"), network.get(ICE, [])
        return cls(
            label=str(given.get("device", {}).get("label", label)),
            log_level=str(given.get("log", {}).get("level", "info")),
            bind=str(network.get("bind", "")),
            port=port if isinstance(port, int) else None,
            peers=tuple(map(Address.parse, peers)) if isinstance(peers, list) else (),
            uses_mdns=network.get("mdns", True) is True,
            signal=SignalUrl.parse(signal) if isinstance(signal, str) else None,
            ice=tuple(map(IceServer.parse, ice)) if isinstance(ice, list) else (),
            bluetooth=_bluetooth(network.get("bluetooth", False)),
            storage=_storage(given.get("storage", {}), given.get("check", {})),
            cache=CacheSettings.of(given.get("cache", {})),
            brake=_brake(given.get("brake", {})),
            history=_history(given.get("history", {})),
            merge_programs=tuple(
                (pattern, tuple(words))
                for pattern, words in given.get(MERGE, {}).items()
                if isinstance(words, list)
            ),
        )


def _bluetooth(given: object) -> str | None:
    return given if isinstance(given, str) else "" if given is True else None


def _storage(storage: Mapping[str, object], check: Mapping[str, object]) -> StorageSettings:
    default = StorageSettings()
    grace = storage.get("garbage_grace_hours", default.garbage_grace_hours)
    days = storage.get("retire_after_days", default.retire_after_days)
    scrub = check.get("scrub_bytes_per_second", default.scrub_bytes_per_second)
    return StorageSettings(
        garbage_grace_hours=float(grace) if isinstance(grace, int | float) else default.garbage_grace_hours,
        retire_after_days=days if isinstance(days, int) else default.retire_after_days,
        scrub_bytes_per_second=scrub if isinstance(scrub, int) else default.scrub_bytes_per_second,
    )


def _history(given: Mapping[str, object]) -> HistorySettings:
    return HistorySettings(**{name: value for name, value in given.items() if isinstance(value, int)})


def _brake(given: Mapping[str, object]) -> BrakeSettings:
    default = BrakeSettings()
    share, files = given.get("share", default.share), given.get("files", default.files)
    least, seconds = given.get("least", default.least), given.get("seconds", default.seconds)
    return BrakeSettings(
        is_on=given.get("on", True) is True,
        share=float(share) if isinstance(share, int | float) else default.share,
        files=files if isinstance(files, int) else default.files,
        least=least if isinstance(least, int) else default.least,
        seconds=seconds if isinstance(seconds, int) else default.seconds,
    )


def _is_host(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(Address.of(value, 1))
    except FormatError:
        return False


def _is_program(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= PROGRAM_WORDS_MAX
        and all(isinstance(word, str) and word and "\0" not in word for word in value)
        and any("{out}" in word for word in value[1:])
    )


def _is_pattern(text: str) -> bool:
    import pathspec  # late: few settings have one, and every command reads the settings

    try:
        pathspec.GitIgnoreSpec.from_lines([text])
    except ValueError:
        return False
    return bool(text.strip()) and text[0] not in "!#"


def _is_bluetooth(value: object) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, str) and re.fullmatch(r"hci[0-9]{1,3}", value) is not None
    )


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 16


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= COUNT_MAX


def _is_natural(value: object) -> bool:
    return value is not False and (value == 0 or _is_count(value))


def _is_hours(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _lists(parse: Callable[[str], object], most: int) -> Callable[[object], bool]:
    def holds(value: object) -> bool:
        try:
            return isinstance(value, list) and len(value) <= most and all(map(parse, value))
        except (FormatError, TypeError):
            return False

    return holds


@dataclass(frozen=True, slots=True)
class _Rule:
    holds: Callable[[Any], bool]
    says: str


_KNOWN: Final[Mapping[str, Mapping[str, _Rule]]] = {
    "device": {
        "label": _Rule(
            lambda value: isinstance(value, str) and is_label(value) and is_free(value),
            f"a text of 1 to {LABEL_BYTES_MAX} printable bytes without /, and {NOT_FREE}",
        )
    },
    "log": {"level": _Rule(LOG_LEVELS.__contains__, f"one of {', '.join(LOG_LEVELS)}")},
    "network": {
        "bind": _Rule(_is_host, "an address of this machine"),
        "port": _Rule(_is_port, "a number from 0 to 65535"),
        "peers": _Rule(_lists(Address.parse, PEERS_MAX), f"a list of at most {PEERS_MAX} like host:port"),
        "mdns": _Rule(lambda value: isinstance(value, bool), "true or false"),
        "signal": _Rule(
            lambda value: _lists(SignalUrl.parse, 1)([value]), "like wss://host or ws://host:port"
        ),
        "bluetooth": _Rule(_is_bluetooth, 'true, false, or a controller like "hci1"'),
        ICE: _Rule(_lists(IceServer.parse, ICE_MAX), f"a list of at most {ICE_MAX} like stun:host:port"),
    },
    "storage": {
        "garbage_grace_hours": _Rule(_is_hours, "a number of hours from 0 on"),
        "retire_after_days": _Rule(_is_natural, "a whole number of days; 0: never"),
    },
    "cache": {name: _Rule(*rule) for name, rule in CACHE_RULES.items()},
    "check": {"scrub_bytes_per_second": _Rule(_is_natural, "a whole number of bytes; 0: never")},
    "brake": {
        "on": _Rule(lambda value: isinstance(value, bool), "true or false"),
        "share": _Rule(_is_share, "a part of the files, above 0 and at most 1"),
        "files": _Rule(_is_count, "a whole number from 1 on"),
        "least": _Rule(_is_count, "a whole number from 1 on"),
        "seconds": _Rule(_is_count, "a whole number from 1 on"),
    },
    "history": {
        "all_hours": _Rule(_is_count, "a whole number from 1 on"),
        "hourly_days": _Rule(_is_count, "a whole number from 1 on"),
        "daily_days": _Rule(_is_count, "a whole number from 1 on"),
        "weekly_days": _Rule(_is_count, "a whole number from 1 on"),
    },
    MERGE: {},  # its names are patterns
}
_PROGRAM: Final = _Rule(
    _is_program, 'a list of words like ["program", "{base}", "{ours}", "{theirs}", "{out}"], with {out}'
)
_HEADER: Final = re.compile(r"""\s*\[\s*["']?(?P<table>[^"'\]\s]+)["']?\s*\]""")
_SETTING: Final = re.compile(r"""\s*["']?(?P<name>[^"'=\s]+)["']?\s*=""")


def _parse(data: bytes, origin: str) -> dict[str, dict[str, object]]:
    """The settings named in a file, table by table; every table and name is one of `_KNOWN`."""
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{origin} is longer than {FILE_BYTES_MAX >> 10} KiB")
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin} is not TOML in UTF-8: {error}") from error
    for table, settings in document.items():
        if table not in _KNOWN:
            raise ConfigError(
                f"{_place(origin, text, '', table)}: there is no {table!r}, only: "
                + ", ".join(f"[{known}]" for known in _KNOWN)
            )
        if not isinstance(settings, dict):
            raise ConfigError(f"{_place(origin, text, '', table)}: {table} is a table: write [{table}]")
        for name, value in settings.items():
            rule = _KNOWN[table].get(name)
            if table == MERGE and _is_pattern(name):
                rule = _PROGRAM
            place = _place(origin, text, table, name)
            if rule is None:
                known = ", ".join(_KNOWN[table]) or "patterns as in .gitignore"
                raise ConfigError(f"{place}: there is no setting {name!r} in [{table}], only: {known}")
            if not rule.holds(value):
                given = "what was given" if name == ICE else repr(value)  # with a password in it
                raise ConfigError(f"{place}: {name} is {rule.says}, not {given}")
    return document


def _place(origin: str, text: str, table: str, name: str) -> str:
    """`file:line` of a setting, or of a table when `table` is ""; `file` if no line plainly sets it."""
    here = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            here = header["table"]
            if not table and here == name:
                return f"{origin}:{number}"
        elif (setting := _SETTING.match(line)) and here == table and setting["name"] == name:
            return f"{origin}:{number}"
    return origin


def _base(environment: Mapping[str, str], variable: str, below_home: str) -> Path:
    # "All paths must be absolute. If a relative path is encountered it must be ignored." (XDG)
    path = Path(environment.get(variable, ""))
    return path if path.is_absolute() else _home(environment) / below_home


def _home(environment: Mapping[str, str]) -> Path:
    if Path(home := environment.get("HOME", "")).is_absolute():
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError as error:
        raise ConfigError("no home directory is known: set DITTOFS_HOME") from error


def _runtime(environment: Mapping[str, str]) -> Path | None:
    """XDG_RUNTIME_DIR if it is this user's: `su` and `sudo -E` leave somebody else's."""
    path = Path(environment.get("XDG_RUNTIME_DIR", ""))
    try:
        is_own = path.is_absolute() and path.stat().st_uid == os.geteuid()
    except OSError:
        is_own = False
    return path / "dittofs" if is_own else None
