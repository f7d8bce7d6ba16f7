"""Who holds what is counted for contents that files have now, not for those they had a moment ago."""

from trio.testing import MockClock

from dittofs.identity.records import Role
from tests.unit.replication.pair import sides, until


async def test_a_content_that_was_replaced_before_anybody_looked_is_not_counted(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, _):
        custody = a.peers.custody
        await until(lambda: not custody.is_counting)
        for text in (b"first", b"second", b"third"):
            await a.write("file", text)
        await until(lambda: not custody.is_counting)
        assert (custody.tally().only_here, custody.tally().only_here_bytes) == (1, 5)
        await a.write("file", b"fourth")
        await a.rig.unlink("file")
        await a.rig.publish()
        await until(lambda: not custody.is_counting)
        assert custody.tally().only_here == 0
