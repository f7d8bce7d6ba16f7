"""Where things lie, and what a settings file may say."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.config import FILE_BYTES_MAX, Paths, Settings
from dittofs.errors import ConfigError
from dittofs.labels import default_label

DEFAULTS = Settings(label="laptop", log_level="info")


def parse(text: str) -> Settings:
    return Settings.parse(text.encode(), "config.toml", "laptop")


def test_dittofs_home_holds_everything_of_a_node(tmp_path: Path) -> None:
    paths = Paths.find({"DITTOFS_HOME": str(tmp_path), "HOME": "/home/me", "XDG_STATE_HOME": "/elsewhere"})
    for path in (paths.config, paths.state, paths.runtime, paths.settings, paths.socket):
        assert path.is_relative_to(tmp_path)
    assert len({tmp_path, paths.state, paths.runtime}) == 3, "a home others may list, private state"


def test_a_relative_dittofs_home_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Paths.find({"DITTOFS_HOME": "node"}).state == tmp_path / "node/state"


def test_without_dittofs_home_the_xdg_directories_are_used(tmp_path: Path) -> None:
    paths = Paths.find(
        {
            "DITTOFS_HOME": "",
            "HOME": "/home/me",
            "XDG_CONFIG_HOME": "/c",
            "XDG_STATE_HOME": "/s",
            "XDG_RUNTIME_DIR": str(tmp_path),
        }
    )
    assert paths == Paths(Path("/c/dittofs"), Path("/s/dittofs"), tmp_path / "dittofs")


@pytest.mark.parametrize("value", ["", "relative"])
def test_without_usable_xdg_variables_the_defaults_below_home_are_used(value: str) -> None:
    paths = Paths.find(
        {"HOME": "/home/me", "XDG_CONFIG_HOME": value, "XDG_STATE_HOME": value, "XDG_RUNTIME_DIR": value}
    )
    state = Path("/home/me/.local/state/dittofs")
    assert paths == Paths(Path("/home/me/.config/dittofs"), state, state / "run")


def test_a_runtime_directory_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    paths = Paths.find({"HOME": "/home/me", "XDG_RUNTIME_DIR": str(tmp_path)})
    assert paths.runtime == Path("/home/me/.local/state/dittofs/run")


def test_an_absent_file_gives_the_defaults(tmp_path: Path) -> None:
    assert Settings.read(tmp_path / "config.toml") == Settings(default_label(os.uname().nodename), "info")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be read"):
        Settings.read(tmp_path)


@pytest.mark.parametrize(("said", "controller"), [("true", ""), ("false", None), ('"hci1"', "hci1")])
def test_bluetooth_is_off_unless_it_or_a_controller_is_named(said: str, controller: str | None) -> None:
    assert DEFAULTS.bluetooth is None
    assert parse(f"[network]\nbluetooth = {said}").bluetooth == controller


@pytest.mark.parametrize("said", ['"eth0"', '""', "1", '"hci1/../x"'])
def test_what_is_no_controller_is_refused(said: str) -> None:
    with pytest.raises(ConfigError, match=r"config.toml:2: bluetooth is true, false, or a controller"):
        parse(f"[network]\nbluetooth = {said}")


def test_a_file_too_long_to_be_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer than 64 KiB"):
        parse("#" * (FILE_BYTES_MAX + 1))


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse("") == DEFAULTS
    assert parse("[device]\n[log]\n") == DEFAULTS


def test_settings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('# mine\n[device]\nlabel = "Büro PC"\n\n[log]\nlevel = "debug"\n')
    assert Settings.read(file) == Settings("Büro PC", "debug")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[device]\n\nlabl = "x"', "config.toml:3: there is no setting 'labl' in [device], only: label"),
        (
            '\n[devise]\nlabel = "x"',
            "config.toml:2: there is no 'devise', only: [device], [log], [network]",
        ),
        (
            'label = "x"',
            "config.toml:1: there is no 'label', only: [device], [log], [network]",
        ),
        ('[log]\nlevel = "loud"', "config.toml:2: level is one of debug, info, warning, error, not 'loud'"),
        ("[log]\nlevel = 3", "config.toml:2: level is one of debug, info, warning, error, not 3"),
        ('device = "x"', "config.toml:1: device is a table: write [device]"),
        ('log.levle = "x"', "config.toml: there is no setting 'levle' in [log], only: level"),
        ("[log]\nlevel = \n", "config.toml is not TOML in UTF-8: Invalid value (at line 2, column 9)"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_may_stand_there(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(text)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    "label", ["", " ", "a/b", "a\\nb", " a", "é" * 33, "\\u202E", "default", "user:a", "deadbeef"]
)
def test_a_label_that_cannot_be_part_of_a_name_is_refused(label: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml:2: label is a text of 1 to 64"):
        parse(f'[device]\nlabel = "{label}"')


def test_the_default_label_is_the_host_name_without_its_domain() -> None:
    assert default_label("laptop.example.org") == "laptop"
    assert default_label("") == default_label("x" * 65) == default_label("a\udc80") == "device"


@given(st.binary(max_size=200) | st.text(alphabet="[]=\"\\'{},.\n#abdeilov ").map(str.encode))
@example(b"a=" + b"[" * 20_000)
@example(b"\xff")
@example(b'[device]\nlabel = "\\ud800"')
def test_any_bytes_are_settings_or_a_config_error(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(Settings.parse(data, "config.toml", "laptop"), Settings)


def test_when_the_removals_of_another_device_are_held_can_be_chosen() -> None:
    given = b"[brake]\nshare = 0.5\nfiles = 10000\nleast = 5\nseconds = 10\n"
    chosen = Settings.parse(given, "config.toml", "laptop").brake
    assert (chosen.is_on, chosen.share, chosen.files, chosen.least, chosen.seconds) == (
        True,
        0.5,
        10_000,
        5,
        10,
    )
    assert not Settings.parse(b"[brake]\non = false\n", "config.toml", "laptop").brake.is_on
    for wrong in (b"share = 25", b"share = 0", b"files = 0", b"least = true", b"on = 1", b"seconds = 1.5"):
        with pytest.raises(ConfigError, match=r"config\.toml:2"):
            Settings.parse(b"[brake]\n" + wrong, "config.toml", "laptop")


def test_merge_programs_stand_by_pattern_and_are_lists_of_words() -> None:
    text = (
        '[merge]\n"*.odt" = ["merge-odt", "{base}", "{ours}", "{theirs}", "{out}"]\n"a b/" = ["x", "{out}"]'
    )
    assert parse(text).merge_programs == (
        ("*.odt", ("merge-odt", "{base}", "{ours}", "{theirs}", "{out}")),
        ("a b/", ("x", "{out}")),
    )
    for wrong in ('"*.odt" = "merge"', '"*.odt" = []', '"*.odt" = ["merge"]', '"*.odt" = [1, "{out}"]'):
        with pytest.raises(ConfigError, match=r"config.toml:2: \*.odt is a list of words"):
            parse(f"[merge]\n{wrong}")
    with pytest.raises(ConfigError, match=r"patterns as in \.gitignore"):
        parse('[merge]\n"!x" = ["merge", "{out}"]')


def test_a_host_that_is_called_like_an_id_has_another_label() -> None:
    assert default_label("3f2a1b00cdef.example.org") == "device-3f2a1b00cdef"
    assert (default_label("default"), default_label("a b")) == ("device-default", "a b")
    assert default_label("a" * 64) == "device"
