"""Pairing over a link: the messages of `identity.pairing`, each after its length."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
import trio

from dittofs.address import Address
from dittofs.errors import DittoError, FormatError
from dittofs.identity.invitations import Invitations, PairingRefused
from dittofs.identity.keys import Device
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
LENGTH_BYTES: Final = 4
DIAL_S: Final = 5.0

Admit = Callable[[Admission], Awaitable[tuple[Membership, str, Sequence[str]]]]
"""Makes a device a member, durably; returns the members, the volume's name and where this device listens."""


async def invite(link: Link, invitations: Invitations, device: Device, admit: Admit) -> Admission:
    """Serve one joiner. Returns once it has been sent the volume.

    Raises PairingRefused, FormatError or LinkBroken; whatever happens the link is closed by the caller.
    """
    exported = link.exporter(EXPORTER_LABEL, EXPORTED_BYTES)
    inviter = Inviter(invitations, device.id, link.certificate, exported)
    receiver = _Receiver(link)
    try:
        with trio.fail_after(PAIRING_S):
            hello = await receiver.message(MESSAGE_BYTES_MAX)
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
    except trio.TooSlowError:
        raise LinkBroken(f"pairing took more than {PAIRING_S:g} s") from None
    finally:
        inviter.close()
    return admission


async def join(device: Device, ticket: Ticket, name: str) -> Joined:
    """Pair with the device that made the ticket, at whichever of its addresses answers first.

    PairingRefused in the inviter's words; HandshakeRefused if it was reached and admits no stranger now;
    LinkBroken with what every address said if none answers.
    """
    failures: list[str] = []
    for text in ticket.addresses:
        address = Address.parse(text)
        link: Link | None = None
        try:
            link = await dial(
                address.host,
                address.port,
                device,
                alpn=Alpn.PAIRING,
                admits=lambda who, _alpn: who == ticket.device,
                patience_s=DIAL_S,
            )
            return await _join(link, device, ticket, name)
        except (LinkBroken, OSError) as error:
            if link is not None and isinstance(error, HandshakeRefused):
                raise  # that was the very device: it would say the same elsewhere
            failures.append(str(error))
        finally:
            if link is not None:
                with trio.move_on_after(1):
                    await link.aclose()
    raise LinkBroken("the inviting device was not reached: " + "; ".join(failures))


async def _join(link: Link, device: Device, ticket: Ticket, name: str) -> Joined:
    joiner = Joiner(device, ticket, name, link.exporter(EXPORTER_LABEL, EXPORTED_BYTES))
    receiver = _Receiver(link)
    try:
        with trio.fail_after(PAIRING_S):
            await _send(link, joiner.hello())
            await _send(link, joiner.receive_greeting(await receiver.message(joiner.bytes_max)))
            joiner.receive_answer(await receiver.message(joiner.bytes_max))
            return joiner.receive_volume(await receiver.message(joiner.bytes_max))
    except trio.TooSlowError:
        raise LinkBroken(f"pairing took more than {PAIRING_S:g} s") from None


async def _send(link: Link, message: bytes) -> None:
    await link.send_all(len(message).to_bytes(LENGTH_BYTES, "big") + message)


class _Receiver:
    """Whole messages of a link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._rest = b""

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
            parts.append(data)
            size += len(data)
        whole = b"".join(parts)
        self._rest = whole[count:]
        return whole[:count]
