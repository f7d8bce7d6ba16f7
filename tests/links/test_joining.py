"""Joining by code over real links: who is asked, who is believed, what a liar, a proxy and a mute get."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from dittofs.address import Address
from dittofs.discovery.beacon import Heard, State
from dittofs.errors import DittoError
from dittofs.identity import users
from dittofs.identity.authoring import Draft
from dittofs.identity.codes import Code
from dittofs.identity.exchange import inviter_exchange
from dittofs.identity.invitations import Invitations, PairingRefused, Reason
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.membership import Membership
from dittofs.identity.pairing import Admission, Joined, admit
from dittofs.identity.pairing_messages import (
    EXPORTED_BYTES,
    EXPORTER_LABEL,
    Answer,
    Greeting,
    Hello,
    decode,
    encode,
    inviter_mac,
)
from dittofs.identity.records import Role
from dittofs.links.link import Admits, Alpn, HandshakeRefused, Link, LinkBroken
from dittofs.links.tcp import dial, listen
from dittofs.replication import finding, pairing
from dittofs.replication.finding import CANDIDATES_MAX, NobodyFound, SeveralFound, join_by_code
from dittofs.replication.meeting import Hear
from tests.links.devices import anybody, new_device
from tests.unit.identity.devices import DESKTOP, LAPTOP, Share

PATIENCE_S = 10.0
Serve = Callable[[Link], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What people wait for others who may answer too."""
    monkeypatch.setattr(finding, "SETTLE_S", 0.3)


class Inviting:
    """The laptop, with an open invitation."""

    def __init__(self) -> None:
        self.share = Share()
        self.invitations = Invitations()
        self.invitation = self.invitations.open(
            self.share.secrets.volume_id, Role.WRITER, os.urandom, trio.current_time()
        )
        self.code = self.invitation.code
        self.ended: list[str] = []

    async def serve(self, link: Link) -> None:
        try:
            await pairing.invite(link, self.invitations, LAPTOP, self._admit, os.urandom)
        except DittoError as error:
            self.ended.append(type(error).__name__)

    async def _admit(self, admission: Admission) -> tuple[Membership, str, Sequence[str]]:
        membership = self.share.membership
        membership.add(admit(membership, self.share.secrets, LAPTOP, admission))
        return membership, "Shared", ["127.0.0.1:7347"]

    def names(self) -> list[str]:
        return [member.name for member in self.share.membership.members()]


@asynccontextmanager
async def listening(device: Device, serve: Serve, admits: Admits = anybody) -> AsyncIterator[Heard]:
    """Where `device` serves links; as somebody hears of it who asks for the code's number."""
    async with trio.open_nursery() as nursery:
        endpoints = await nursery.start(
            partial(listen, device, serve, nursery, admits=admits, bind="127.0.0.1")
        )
        yield Heard(Address("127.0.0.1", endpoints[0][1]), State.OPEN)
        nursery.cancel_scope.cancel()


async def join(code: Code, *heard: Heard, patience_s: float = PATIENCE_S, device: Device = DESKTOP) -> Joined:
    """Join by `code` where this is heard, in this order."""

    async def look_for(slot: int, hear: Hear) -> None:
        assert slot == code.slot
        for one in heard:
            hear(one)
            await trio.sleep(0.1)  # so that they are asked in this order
        await trio.sleep_forever()

    with trio.fail_after(30):
        return await join_by_code(
            device, code, "desktop", look_for=look_for, patience_s=patience_s, entropy=os.urandom
        )


def wrong(code: Code) -> Code:
    return Code(code.slot, ("acid" if code.words[0] != "acid" else "zipper", *code.words[1:]))


async def lie(link: Link, device: Device, asked: list[DeviceId]) -> None:
    """Answer as an inviter that guesses the words wrong would."""
    receiver = pairing._Receiver(link)
    try:
        hello = decode(await receiver.message(4096), Hello)
        exchange = inviter_exchange(b"guess-guess", link.peer, device.id, os.urandom)
        secret = exchange.secret(hello.a)
        await pairing._send(link, encode(Greeting(exchange.said)))
        await receiver.message(4096)
        asked.append(device.id)  # now it knows whether it guessed right
        await pairing._send(link, encode(Answer(inviter_mac(secret, bytes(32)))))
        await receiver.end()
    except DittoError:
        return


async def test_who_types_the_code_is_let_in() -> None:
    laptop = Inviting()
    async with listening(LAPTOP, laptop.serve) as here:
        joined = await join(laptop.code, here)
    assert (joined.name, joined.inviter) == ("Shared", LAPTOP.id)
    assert laptop.names() == ["desktop", "laptop"]


async def test_several_addresses_of_one_device_are_one_candidate() -> None:
    laptop = Inviting()
    async with listening(LAPTOP, laptop.serve) as here:
        nowhere = Heard(Address("127.0.0.1", 1), State.OPEN)
        again = Heard(Address("localhost", here.address.port), State.OPEN)
        await join(laptop.code, nowhere, here, again)
    assert laptop.names() == ["desktop", "laptop"]


async def test_a_wrong_code_is_told_as_such_and_the_right_one_refused_then() -> None:
    laptop = Inviting()
    async with listening(LAPTOP, laptop.serve) as here:
        for code, reason in ((wrong(laptop.code), Reason.WRONG), (laptop.code, Reason.BURNT)):
            with pytest.raises(PairingRefused) as refused:
                await join(code, here)
            assert refused.value.reason == reason
    assert laptop.names() == ["laptop"]
    assert laptop.ended == ["PairingRefused"] * 2


async def test_a_liar_is_passed_over_for_the_device_that_knows_the_code() -> None:
    laptop, liar = Inviting(), new_device()
    asked: list[DeviceId] = []
    async with (
        listening(liar, lambda link: lie(link, liar, asked)) as there,
        listening(LAPTOP, laptop.serve) as here,
    ):
        joined = await join(laptop.code, there, here)
    assert asked == [liar.id]
    assert joined.inviter == LAPTOP.id


async def test_liars_have_three_guesses_together() -> None:
    laptop = Inviting()
    asked: list[DeviceId] = []
    liars = [new_device() for _ in range(CANDIDATES_MAX + 2)]

    async def serving(nursery: trio.Nursery, liar: Device) -> Heard:
        async def held(*, task_status: trio.TaskStatus[Heard]) -> None:
            async with listening(liar, lambda link: lie(link, liar, asked)) as there:
                task_status.started(there)
                await trio.sleep_forever()

        heard: Heard = await nursery.start(held)
        return heard

    async with trio.open_nursery() as nursery:
        places = [await serving(nursery, liar) for liar in liars]
        with pytest.raises(SeveralFound, match="none knows it"):
            await join(laptop.code, *places)
        nursery.cancel_scope.cancel()
    assert len(set(asked)) == len(asked) == CANDIDATES_MAX


async def test_a_device_that_is_mute_does_not_keep_the_right_one_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pairing, "GREETING_S", 0.5)
    laptop, mute = Inviting(), new_device()

    async def keep_silent(_link: Link) -> None:
        await trio.sleep_forever()

    async with listening(mute, keep_silent) as there, listening(LAPTOP, laptop.serve) as here:
        joined = await join(laptop.code, there, here, patience_s=0.3)
    assert joined.inviter == LAPTOP.id


async def test_who_gives_up_a_join_waits_for_nobody_and_every_link_is_closed() -> None:
    mutes = [new_device(), new_device()]
    begun, ended = trio.Event(), [trio.Event(), trio.Event()]

    async def keep_silent(link: Link, end: trio.Event) -> None:
        with suppress(DittoError):
            while await link.receive_some():
                begun.set()
        end.set()

    async with (
        listening(mutes[0], lambda link: keep_silent(link, ended[0])) as one,
        listening(mutes[1], lambda link: keep_silent(link, ended[1])) as other,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(join, Code(7, ("cabin", "velvet")), one, other)
            await begun.wait()
            await trio.sleep(0.5)  # so that the other one waits for its turn
            given_up = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - given_up < 3
        with trio.fail_after(3):
            for end in ended:
                await end.wait()


async def test_a_proxy_in_the_middle_lets_nobody_in() -> None:
    """It ends TLS on both sides with a key of its own, and hands every byte on."""
    laptop, proxy = Inviting(), new_device()
    async with listening(LAPTOP, laptop.serve) as behind:

        async def pass_on(link: Link) -> None:
            host, port = behind.address.host, behind.address.port
            onward = await dial(host, port, proxy, alpn=Alpn.PAIRING, admits=anybody)

            async def carry(one: Link, other: Link) -> None:
                try:
                    while data := await one.receive_some():
                        await other.send_all(data)
                except DittoError:
                    pass
                nursery.cancel_scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry, link, onward)
                nursery.start_soon(carry, onward, link)
            await onward.aclose()

        async with listening(proxy, pass_on) as between:
            with pytest.raises(PairingRefused) as refused:
                await join(laptop.code, between)
    assert refused.value.reason == Reason.WRONG
    assert laptop.names() == ["laptop"]


async def test_what_was_recorded_on_one_link_lets_nobody_in_on_another() -> None:
    """A replay of the joiner's words, by who knows neither its key nor the code."""
    laptop, thief = Inviting(), new_device()
    said: list[bytes] = []

    async def record(link: Link) -> None:
        receiver = pairing._Receiver(link)
        said.append(await receiver.message(4096))
        exchange = inviter_exchange(b"guess-guess", link.peer, thief.id, os.urandom)
        await pairing._send(link, encode(Greeting(exchange.said)))
        said.append(await receiver.message(4096))

    async with listening(thief, record) as there:
        with pytest.raises(LinkBroken):
            await join(laptop.code, there)
    async with listening(LAPTOP, laptop.serve) as here:
        link = await dial(here.address.host, here.address.port, thief, alpn=Alpn.PAIRING, admits=anybody)
        assert len(link.exporter(EXPORTER_LABEL, EXPORTED_BYTES)) == EXPORTED_BYTES
        receiver = pairing._Receiver(link)
        await pairing._send(link, said[0])
        await receiver.message(4096)
        await pairing._send(link, said[1])
        with pytest.raises(PairingRefused):
            decode(await receiver.message(4096), Answer)
        await link.aclose()
    assert laptop.names() == ["laptop"]


@pytest.mark.parametrize(
    ("state", "reason"), [(State.LATE, Reason.LATE), (State.BURNT, Reason.BURNT), (State.USED, Reason.USED)]
)
async def test_a_code_whose_time_is_over_is_told_as_such_without_asking(state: State, reason: Reason) -> None:
    over = Heard(Address("127.0.0.1", 1), state)
    finding_s = trio.current_time()
    with pytest.raises(PairingRefused) as refused:
        await join(Code(7, ("cabin", "velvet")), over)
    assert refused.value.reason == reason
    assert trio.current_time() - finding_s < finding.SETTLE_S + 1


async def test_a_false_word_that_it_is_over_does_not_stand_against_the_device_that_shows_it() -> None:
    laptop = Inviting()
    async with listening(LAPTOP, laptop.serve) as here:
        over = Heard(Address("127.0.0.1", 1), State.LATE)
        assert (await join(laptop.code, over, here)).inviter == LAPTOP.id


async def test_nobody_found_and_nobody_reached_and_oneself_are_told_apart() -> None:
    code = Code(7, ("cabin", "velvet"))
    with pytest.raises(NobodyFound, match="begins with 7"):
        await join(code, patience_s=0.2)
    with pytest.raises(LinkBroken, match="found and not reached"):
        await join(code, Heard(Address("127.0.0.1", 1), State.OPEN), patience_s=0.5)
    laptop = Inviting()
    async with listening(LAPTOP, laptop.serve) as here:
        with pytest.raises(PairingRefused) as refused:
            await join(laptop.code, here, device=LAPTOP)
        assert refused.value.reason == Reason.OWN
    async with listening(LAPTOP, laptop.serve, admits=lambda *_: False) as closed:
        with pytest.raises(HandshakeRefused, match="no open invitation"):
            await join(laptop.code, closed, patience_s=0.5)
    assert laptop.invitation.attempts_by_code == 0


async def test_a_flood_of_hints_is_dialled_within_bounds() -> None:
    laptop = Inviting()
    async with listening(LAPTOP, laptop.serve) as here:
        false = [Heard(Address("127.0.0.1", port), State.OPEN) for port in range(1, 10_000)]

        async def look_for(_slot: int, hear: Hear) -> None:
            hear(here)
            for one in false:
                hear(one)
            await trio.sleep_forever()

        with trio.fail_after(30):
            joined = await join_by_code(
                DESKTOP, laptop.code, "desktop", look_for=look_for, patience_s=5, entropy=os.urandom
            )
    assert joined.inviter == LAPTOP.id


async def test_at_an_address_only_the_device_with_that_key_is_told_anything() -> None:
    laptop, other = Inviting(), new_device()
    asked: list[DeviceId] = []
    async with (
        listening(LAPTOP, laptop.serve) as here,
        listening(other, lambda link: lie(link, other, asked)) as there,
    ):
        assert await pairing.meet(DESKTOP, here.address) == LAPTOP.id
        with pytest.raises(LinkBroken):
            await pairing.join_at(DESKTOP, [there.address], LAPTOP.id, laptop.code, "desktop", os.urandom)
        joined = await pairing.join_at(DESKTOP, [here.address], LAPTOP.id, laptop.code, "desktop", os.urandom)
    assert (joined.inviter, asked) == (LAPTOP.id, [])
    assert laptop.ended == ["Left"]  # looking who is there burns nothing


async def test_who_cannot_be_let_in_is_told_so() -> None:
    laptop = Inviting()
    say = Draft(laptop.share.membership, LAPTOP)
    users.give_default(say, Role.NONE)
    laptop.share.membership.add(say.signed)
    laptop.invitation.role = None
    async with listening(LAPTOP, laptop.serve) as here:
        with pytest.raises(PairingRefused) as refused:
            await join(laptop.code, here)
    assert refused.value.reason == Reason.BARRED
    assert (laptop.ended, laptop.names()) == (["NotAllowed"], ["laptop"])
