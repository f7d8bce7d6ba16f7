"""What is to be sent is bounded, whatever it is made of."""

import pytest

from dittofs.replication.outbox import MESSAGE_BYTES, QUEUED_BYTES_MAX, NotReading, Outbox
from dittofs.sync import messages as wire


@pytest.mark.parametrize("message", [wire.Absent((1,)), wire.Pong(1)], ids=["absent", "pong"])
async def test_answers_without_a_body_that_nobody_reads_end_the_link_too(
    message: wire.Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = QUEUED_BYTES_MAX // 128
    monkeypatch.setattr("dittofs.replication.outbox.QUEUED_BYTES_MAX", most)
    outbox = Outbox()
    with pytest.raises(NotReading):
        for _ in range(2 * most // MESSAGE_BYTES):
            outbox.put(message)
    assert outbox.urgent_bytes <= most
