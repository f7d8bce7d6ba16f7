"""Pairing over a link: the messages of `identity.pairing`, each after its length."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
import trio

from dittofs.address import Address
from dittofs.clock import Entropy
from dittofs.errors import DittoError, FormatError
from dittofs.identity.authoring import NotAllowed
from dittofs.identity.codes import Code
from dittofs.identity.invitations import Invitations, PairingRefused, Reason
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.membership import Membership
from dittofs.identity.pairing import Admission, Inviter, Joined, Joiner
from dittofs.identity.pairing_messages import (
    EXPORTED_BYTES,
    EXPORTER_LABEL,
    MESSAGE_BYTES_MAX,
    refusal,
)
from dittofs.identity.tickets import Ticket
from dittofs.links.link import Alpn, HandshakeRefused, Link, LinkBroken
from dittofs.links.tcp import dial

log = structlog.get_logger()

PAIRING_S: Final = 30.0
GREETING_S: Final = 8.0
"""So long a joiner waits for the first word: whoever stalls must not keep it from asking another."""
LENGTH_BYTES: Final = 4
DIAL_S: Final = 5.0


class Left(LinkBroken):
    """A stranger closed its link before it said anything: it looked who is there, or had another address."""


Admit = Callable[[Admission], Awaitable[tuple[Membership, str, Sequence[str]]]]
"""Makes a device a member, durably; returns the members, the volume's name and where this device listens."""


async def invite(
    link: Link, invitations: Invitations, device: Device, admit: Admit, entropy: Entropy
) -> Admission:
    """Serve one joiner. Returns once it has been sent the volume.

    Raises PairingRefused, NotAllowed, FormatError, LinkBroken or Left; whatever happens the link is closed
    by the caller.
    """
    exported = link.exporter(EXPORTER_LABEL, EXPORTED_BYTES)
    inviter = Inviter(invitations, device.id, link.certificate, exported, entropy)
    receiver = _Receiver(link)
    try:
        with trio.fail_after(PAIRING_S):
            hello = await receiver.first(MESSAGE_BYTES_MAX)
            await _send(link, inviter.receive_hello(hello, trio.current_time()))
            confirmation = await receiver.message(MESSAGE_BYTES_MAX)
            admission = inviter.receive_confirmation(confirmation, trio.current_time())
            for message in inviter.answer(*await admit(admission)):
                await _send(link, message)
            await receiver.end()
    except PairingRefused as error:
        with trio.move_on_after(DIAL_S):
            await _send(link, refusal(error.reason))
        raise
    except NotAllowed:
        with trio.move_on_after(DIAL_S):
            await _send(link, refusal(Reason.BARRED))
        raise
    except trio.TooSlowError:
        raise LinkBroken(f"pairing took more than {PAIRING_S:g} s") from None
    finally:
        inviter.close()
    return admission


async def join(device: Device, ticket: Ticket, name: str, entropy: Entropy) -> Joined:
    """Pair with the device that made the ticket, at whichever of its addresses answers first.

    PairingRefused in the inviter's words; HandshakeRefused if it was reached and admits no stranger now;
    LinkBroken with what every address said if none answers.
    """
    addresses = [Address.parse(text) for text in ticket.addresses]
    return await join_at(device, addresses, ticket.device, ticket.token, name, entropy)


async def join_at(
    device: Device,
    addresses: Sequence[Address],
    inviter: DeviceId,
    key: bytes | Code,
    name: str,
    entropy: Entropy,
) -> Joined:
    """Pair with `inviter`, and nobody else, at whichever address answers first. Errors as `join`."""
    failures: list[str] = []
    for address in addresses:
        link: Link | None = None
        try:
            link = await dial_inviter(address, device, lambda who: who == inviter)
            return await join_over(link, device, key, name, entropy)
        except (LinkBroken, OSError) as error:
            if link is not None and isinstance(error, HandshakeRefused):
                raise  # that was the very device: it would say the same elsewhere
            failures.append(str(error))
        finally:
            if link is not None:
                await close(link)
    raise LinkBroken("the inviting device was not reached: " + "; ".join(failures))


async def meet(device: Device, address: Address) -> DeviceId:
    """Who admits strangers to pairing at `address`. LinkBroken, HandshakeRefused."""
    link = await dial_inviter(address, device, lambda _who: True)
    await close(link)
    return link.peer


async def dial_inviter(address: Address, device: Device, admits: Callable[[DeviceId], bool]) -> Link:
    """A link for pairing to whoever `admits` says. LinkBroken, HandshakeRefused."""
    return await dial(
        address.host,
        address.port,
        device,
        alpn=Alpn.PAIRING,
        admits=lambda who, _alpn: admits(who),
        patience_s=DIAL_S,
    )


async def close(link: Link) -> None:
    """Within a second, also when cancelled."""
    with trio.move_on_after(1):
        await link.aclose()


async def join_over(link: Link, device: Device, key: bytes | Code, name: str, entropy: Entropy) -> Joined:
    """Pair over `link`, which the caller closes. PairingRefused, FormatError, LinkBroken."""
    exported = link.exporter(EXPORTER_LABEL, EXPORTED_BYTES)
    joiner = Joiner(device, link.peer, key, name, exported=exported, entropy=entropy)
    receiver = _Receiver(link)
    try:
        with trio.fail_after(PAIRING_S):
            await _send(link, joiner.hello())
            with trio.fail_after(GREETING_S):
                greeting = await receiver.message(joiner.bytes_max)
            await _send(link, joiner.receive_greeting(greeting))
            joiner.receive_answer(await receiver.message(joiner.bytes_max))
            return joiner.receive_volume(await receiver.message(joiner.bytes_max))
    except trio.TooSlowError:
        raise LinkBroken("the other device does not answer in time") from None


async def _send(link: Link, message: bytes) -> None:
    await link.send_all(len(message).to_bytes(LENGTH_BYTES, "big") + message)


class _Receiver:
    """Whole messages of a link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._rest = b""
        self._has_begun = False

    async def first(self, bytes_max: int) -> bytes:
        """As `message`, but Left if nothing comes at all."""
        try:
            return await self.message(bytes_max)
        except LinkBroken as error:
            raise error if self._has_begun else Left(str(error)) from None

    async def message(self, bytes_max: int) -> bytes:
        """The next message. FormatError if it says to be longer, LinkBroken if it never comes."""
        size = int.from_bytes(await self._exactly(LENGTH_BYTES), "big")
        if size > bytes_max:
            raise FormatError(f"a pairing message of {size} bytes; {bytes_max} are allowed")
        return await self._exactly(size)

    async def end(self) -> None:
        """Return when the other side has closed, so that it has all that was sent."""
        try:
            await self._link.receive_some()
        except DittoError as error:
            log.debug("a joiner left without a goodbye", reason=str(error))

    async def _exactly(self, count: int) -> bytes:
        parts, size = [self._rest], len(self._rest)
        while size < count:
            data = await self._link.receive_some()
            if not data:
                raise LinkBroken("the other device closed the link while pairing")
            self._has_begun = True
            parts.append(data)
            size += len(data)
        whole = b"".join(parts)
        self._rest = whole[count:]
        return whole[:count]
