"""limit, and what status and devices show of it, against a small service."""

import pytest

from dittofs.cli.completion import candidates
from dittofs.control.protocol import MemberStatus
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService


def test_limits_are_shown_set_and_taken_away(shell: Shell, service: SmallService) -> None:
    assert shell.run("limit") == 0
    assert shell.out.splitlines() == [
        "Sending   as fast as it goes",
        "Receiving   as fast as it goes",
        "To limit it:  dittofs limit up 2MB/s",
    ]
    assert shell.run("limit", "up", "2", "MB/s") == 0
    assert shell.run("limit", "up", "500kB/s", "--device", "nas") == 0
    assert shell.run("limit", "up", "off", "--at", "mon-sun") == 0
    assert shell.out.splitlines() == [
        "Sending   as fast as it goes; nas 500 kB/s",
        "Receiving   as fast as it goes",
        "  up   2 MB/s",
        "  up   500 kB/s   nas   (now)",
        "  up   off   00:00-24:00   (now)",
        "To take one away:  dittofs limit up off     all of them:  dittofs limit clear",
    ]
    assert shell.run("limit", "--json") == 0
    assert shell.json()["rules"][1] == {
        "direction": "up",
        "rate": 500_000,
        "device": "nas",
        "id": "ab" * 32,
        "at": "",
        "counts_now": True,
    }
    assert shell.run("limit", "clear") == 0
    assert not service.limits


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("upp", "2MB/s"), "did you mean 'up'?"),
        (("up",), "takes one rate, or off; nothing was changed"),
        (("up", "2Mb/s"), "is no rate"),
        (("up", "1MB/s", "--at", "mon-fry"), "'fry' is no day of the week"),
        (("up", "1MB/s", "--at", ""), "--at is empty"),
        (("--device", "nas"), "say up or down and a rate"),
    ],
)
def test_what_is_no_limit_is_refused_with_the_reason_and_changes_nothing(
    shell: Shell, service: SmallService, words: tuple[str, ...], complaint: str
) -> None:
    assert shell.run("limit", *words) == 2
    assert complaint in shell.err and "nothing was changed" in shell.err
    assert not service.limits


def test_status_and_devices_say_what_is_limited_now(shell: Shell, service: SmallService) -> None:
    service.others = [MemberStatus("nas", "cd" * 32, "writer", is_online=True, limit_down=1_000_000)]
    service.limited = 2_000_000, 0, ("limits:3 is passed over: it is no rule",)
    shell.run("status")
    assert "  LIMIT       sending at most 2 MB/s    dittofs limit" in shell.out
    assert "  LIMIT       nas: receiving at most 1 MB/s    dittofs limit" in shell.out
    assert "  LIMIT       limits:3 is passed over: it is no rule    dittofs limit" in shell.out
    assert shell.run("devices", "-v") == 0
    assert "receiving at most 1 MB/s" in shell.out
    assert shell.out.splitlines()[-1] == "All together sending at most 2 MB/s.   dittofs limit"


def test_the_words_of_limit_are_completed() -> None:
    assert candidates(["limit", ""]) == ["up ", "down ", "clear "]
    assert candidates(["limit", "--"]) == ["--at ", "--device ", "--help ", "--json "]
