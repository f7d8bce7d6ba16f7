"""The file of limits: kept, read again, and never a reason not to start."""

from pathlib import Path

import pytest

from dittofs.blocking import run_in_thread
from dittofs.clock import SystemClock
from dittofs.errors import ConfigError
from dittofs.limits import FILE_BYTES_MAX, HEAD, Limits
from dittofs.rate_limits import Direction, RateLimit


def opened(place: Path) -> Limits:
    limits = Limits(place, SystemClock())
    limits.read()
    return limits


async def test_what_was_chosen_holds_at_once_and_after_a_restart(tmp_path: Path) -> None:
    place = tmp_path / "config"  # not there yet
    limits = opened(place)
    assert not limits.rules and not limits.allowances.rate(Direction.UP)
    await limits.choose([RateLimit.parse("up 2MB/s")], run_in_thread)
    assert limits.allowances.rate(Direction.UP) == 2_000_000
    again = opened(place)
    assert again.allowances.rate(Direction.UP) == 2_000_000 and not again.problems


@pytest.mark.logs_warning("a limit is passed over")
async def test_a_bad_line_stops_nothing_and_is_kept_as_a_remark(tmp_path: Path) -> None:
    (tmp_path / "limits").write_text("# my own words\nup 2MB/s\ndown 1MB/s at fry 08:00-09:00\n")
    limits = opened(tmp_path)
    assert limits.allowances.rate(Direction.UP) == 2_000_000
    assert limits.problems == (
        f"{tmp_path / 'limits'}:3 is passed over: 'fry' is no day of the week: "
        "those are mon, tue, wed, thu, fri, sat, sun",
    )
    await limits.choose([*limits.rules, RateLimit.parse("down 1MB/s")], run_in_thread)
    assert (tmp_path / "limits").read_text().splitlines() == [
        HEAD,
        "# my own words",
        "# passed over: down 1MB/s at fry 08:00-09:00",
        "up 2MB/s",
        "down 1MB/s",
    ]
    assert not opened(tmp_path).problems


@pytest.mark.logs_warning("a limit is passed over")
@pytest.mark.parametrize("data", [b"\xff\x00\n", b"up 1MB/s\n" * FILE_BYTES_MAX, b"\0" * 1000])
def test_a_file_of_junk_stops_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "limits").write_bytes(data)
    assert opened(tmp_path).problems


@pytest.mark.logs_warning("a limit is passed over")
async def test_a_file_that_could_not_be_read_is_not_overwritten_until_it_is_moved_away(
    tmp_path: Path,
) -> None:
    text = "# mine\n" * 10_000 + "up 500kB/s\n"
    (tmp_path / "limits").write_text(text)
    limits = opened(tmp_path)
    for rules in ([RateLimit.parse("down 1MB/s")], []):
        with pytest.raises(ConfigError, match="move it away first"):
            await limits.choose(rules, run_in_thread)
    assert (tmp_path / "limits").read_text() == text
    assert not limits.rules and limits.problems
    (tmp_path / "limits").rename(tmp_path / "limits.mine")
    limits.read()
    await limits.choose([RateLimit.parse("down 1MB/s")], run_in_thread)
    assert opened(tmp_path).rules == limits.rules


async def test_no_file_is_written_that_would_not_be_read_again(tmp_path: Path) -> None:
    text = "# mine\n" * ((FILE_BYTES_MAX - 20) // 7) + "up 1MB/s\n"
    (tmp_path / "limits").write_text(text)
    limits = opened(tmp_path)
    before = limits.rules
    assert before
    with pytest.raises(ConfigError, match="would be longer than 64 KiB"):
        await limits.choose([*before, RateLimit.parse("down 1MB/s")], run_in_thread)
    assert (tmp_path / "limits").read_text() == text
    assert limits.rules == before == opened(tmp_path).rules
