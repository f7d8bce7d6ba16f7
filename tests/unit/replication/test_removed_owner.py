"""A removed owner that tells back-dated records at every connection."""

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from trio.testing import MockClock

from dittofs.identity import users
from dittofs.identity.authoring import Draft
from dittofs.identity.granting import remove
from dittofs.identity.membership import RECORDS_MAX
from dittofs.identity.records import Body, Kind, Record, Role, sign_record
from dittofs.replication.members import HEARD_MAX
from dittofs.sync import messages as wire
from tests.simulation.rig import SeededEntropy
from tests.unit.identity.devices import DESKTOP, LAPTOP
from tests.unit.replication.pair import SECRETS, Attacker, Side, connect, sides, until, until_ended


def back_dated(parents: list[bytes], count: int) -> list[bytes]:
    volume, kind = SECRETS.volume_id, Kind.STANDING
    bodies = [
        Body(v=1, volume=volume, kind=kind, signer=DESKTOP.id, parents=parents, name=f"u{number}", role=2)
        for number in range(count)
    ]
    return [sign_record(body, DESKTOP.signing) for body in bodies]


async def told(nursery: trio.Nursery, target: Side, records: list[bytes]) -> str:
    """What the target says to a removed desktop with these records."""
    attacker = Attacker(target, DESKTOP)
    nursery.start_soon(attacker.serve)
    hello = wire.Hello(wire.VERSION, target.peers.volume, b"\xee" * 16, b"\xcc" * 16, 0, b"\x01" * 32, "x", 0)
    await attacker.say(hello)
    await attacker.hear_a(wire.Members)
    await attacker.say(wire.Members(), wire.encode_records(records))
    return await until_ended(attacker)


async def test_a_removed_owner_neither_fills_the_set_nor_has_many_signatures_checked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sides(Role.OWNER, Role.WRITER) as (target, evil, nas), trio.open_nursery() as nursery:
        flood = back_dated(target.members.membership.heads(), RECORDS_MAX)
        records, secrets = remove(
            target.members.membership, SECRETS, LAPTOP, evil.device.id, SeededEntropy(1)
        )
        target.members.add(records)
        before = target.members.membership.digest()
        checked: list[bytes] = []
        verify = Record.verify

        def counted(record: Record, key: Ed25519PublicKey) -> None:
            checked.append(record.id)
            verify(record, key)

        monkeypatch.setattr(Record, "verify", counted)
        for part in (flood, flood[:1000], flood[-1:]):
            assert "not a member" in await told(nursery, target, part)
        assert target.members.membership.digest() == before
        assert len(checked) <= HEARD_MAX
        records, _ = remove(target.members.membership, secrets, LAPTOP, nas.device.id, SeededEntropy(2))
        assert target.members.add(records)
        nursery.cancel_scope.cancel()


async def test_what_a_revoked_device_tells_and_counts_lets_it_in_again(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER, Role.OWNER) as (a, b, c), trio.open_nursery() as nursery:
        draft = Draft(a.members.membership, LAPTOP)
        users.give_device(draft, b.device.id, None)
        users.give_default(draft, Role.NONE)
        a.members.add(draft.signed)
        c.members.add(a.members.records())
        draft = Draft(a.members.membership, LAPTOP)
        for number in range(HEARD_MAX // 2):
            users.give_default(draft, Role.WRITER if number % 2 == 0 else Role.READER)
        b.members.add([*a.members.records(), *draft.signed])
        assert a.members.role(b.device.id) == Role.NONE != b.members.role(b.device.id)
        connect(nursery, b, c)
        await until(lambda: c.peers.session(b.device.id) is not None)
        assert c.members.membership.digest() == b.members.membership.digest()
        nursery.cancel_scope.cancel()
