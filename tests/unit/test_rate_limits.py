"""Rules about how fast bytes go: taken, said, and which of them counts."""

import pytest

from dittofs.errors import FormatError
from dittofs.rate_limits import (
    RULES_MAX,
    Direction,
    RateLimit,
    in_force,
    parse_rate,
    rate_text,
    read_rules,
    with_rule,
)

NAS = "ab" * 32


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("2MB/s", 2_000_000),
        ("2 MB", 2_000_000),
        ("500kB/s", 500_000),
        ("1.5M", 1_500_000),
        ("1MiB/s", 1 << 20),
        ("20Mbit/s", 2_500_000),
        ("64000", 64_000),
        ("off", None),
        ("1GB/s", 10**9),
    ],
)
def test_a_rate_is_taken_in_the_usual_units_and_said_so_that_it_is_taken_again(
    text: str, rate: int | None
) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(rate_text(rate)) == rate


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2Mb/s", "no rate"),  # bits or bytes?
        ("fast", "no rate"),
        ("-1MB/s", "no rate"),
        ("0", "too little"),
        ("31kB/s", "the least is 32kB/s"),
        ("999999999999GB/s", "more than anything"),
        ("9" * 400, "no rate"),
    ],
)
def test_what_is_no_rate_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(FormatError, match=complaint):
        parse_rate(text)


def rules(*lines: str) -> tuple[RateLimit, ...]:
    return tuple(map(RateLimit.parse, lines))


def counting(found: tuple[RateLimit, ...], day: int, hour: int) -> list[str]:
    return [str(rule) for rule in in_force(found, day, hour * 60).values()]


def test_of_rules_that_overlap_the_last_one_counts() -> None:
    found = rules("up 2MB/s", "up 500kB/s at mon-fri 08:00-18:00", "up off at mon-fri 12:00-13:00")
    assert counting(found, 0, 9) == ["up 500kB/s at mon-fri 08:00-18:00"]
    assert counting(found, 0, 12) == ["up off at mon-fri 12:00-13:00"]
    assert counting(found, 5, 12) == ["up 2MB/s"]
    assert counting(tuple(reversed(found)), 0, 12) == ["up 2MB/s"]


def test_a_device_and_a_direction_have_rules_of_their_own() -> None:
    found = rules("up 2MB/s", f"up 1MB/s device {NAS}", "down 3MB/s")
    assert sorted(counting(found, 0, 0)) == ["down 3MB/s", "up 1MB/s device " + NAS, "up 2MB/s"]


def test_a_rule_of_no_time_takes_the_place_of_all_before_it_about_the_same() -> None:
    found = rules("up 2MB/s", "up off at sat,sun", "down 1MB/s", f"up 1MB/s device {NAS}")
    assert with_rule(found, RateLimit.parse("up 3MB/s")) == rules(
        "down 1MB/s", f"up 1MB/s device {NAS}", "up 3MB/s"
    )
    assert with_rule(found, RateLimit.parse("up off")) == rules("down 1MB/s", f"up 1MB/s device {NAS}")


def test_a_rule_of_the_same_time_takes_the_place_of_one() -> None:
    found = rules("up 2MB/s", "up off at sat,sun", "up 1MB/s at mon")
    assert with_rule(found, RateLimit.parse("up 5MB/s at sat,sun")) == rules(
        "up 2MB/s", "up 1MB/s at mon", "up 5MB/s at sat,sun"
    )


def test_there_are_only_so_many_rules() -> None:
    found: tuple[RateLimit, ...] = ()
    for minute in range(RULES_MAX):
        line = f"up 1MB/s at {minute // 60:02}:{minute % 60:02}-24:00"
        found = with_rule(found, RateLimit.parse(line))
    with pytest.raises(FormatError, match="no more fit"):
        with_rule(found, RateLimit.parse("down 1MB/s"))


def test_a_line_that_is_no_rule_is_named_and_the_others_count() -> None:
    found, problems = read_rules(
        "# mine\n\nup 2MB/s\nup 1MB/s at mon-fry 08:00-18:00\nsideways 1MB/s\nup 1MB/s device nas\n", "limits"
    )
    assert found == rules("up 2MB/s")
    assert list(problems) == [4, 5, 6]
    assert problems[4].startswith("limits:4 is passed over: 'fry' is no day of the week")


def test_every_rule_is_said_as_a_line_that_is_taken() -> None:
    for rule in rules("up 2MB/s", "down off", f"up 33kB/s device {NAS} at sat 10:00-11:00"):
        assert RateLimit.parse(str(rule)) == rule
    assert RateLimit.parse("up 2MB/s").about == (Direction.UP, None)
