"""Options of the daemon in the place of settings."""

import pytest

from dittofs.address import Address
from dittofs.config import Settings
from dittofs.errors import ConfigError
from mountd.daemon import settings_with


def test_options_stand_in_for_settings_and_peers_are_added() -> None:
    settings = Settings("laptop", bind="192.0.2.1", port=7, peers=(Address("nas", 1),))
    assert settings_with(settings, []) == settings
    given = settings_with(
        settings, ["--bind", "127.0.0.1", "--port", "0", "--peer", "nas:1", "--peer", "pc:2"]
    )
    assert (given.bind, given.port) == ("127.0.0.1", 0)
    assert given.peers == (Address("nas", 1), Address("pc", 2))


@pytest.mark.parametrize(
    "words", [["--bind", "a b"], ["--port", "70000"], ["--port", "x"], ["--peer", "nas"]], ids=" ".join
)
def test_an_option_that_is_not_understood_is_named(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="not understood"):
        settings_with(Settings("laptop"), words)
