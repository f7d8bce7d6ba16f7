"""The rate that is shown is what a busy session carried, not its pauses."""

from dittofs.replication.meter import BUSY_BYTES, Meter


def test_the_rate_is_that_of_the_busy_seconds() -> None:
    meter = Meter()
    assert meter.rate == 0
    for half_second in range(1, 21):
        meter.note(half_second / 2, half_second * 500_000)
    assert round(meter.rate) == 1_000_000
    meter.note(100.0, 20 * 500_000)
    meter.note(100.5, 20 * 500_000 + BUSY_BYTES - 1)
    assert round(meter.rate) == 1_000_000, "a pause, and a ping"
    meter.note(101.0, 20 * 500_000 + BUSY_BYTES + 2_000_000)
    assert meter.rate > 1_500_000
