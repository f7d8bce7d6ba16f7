"""Naming devices anew, as signed records to keep and to send: by an owner, or by the device itself."""

from dittofs.errors import FormatError
from dittofs.identity.authoring import NotAllowed, require_owner
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.membership import Membership
from dittofs.identity.records import NUMBER_MAX, Body, Kind, Record, Role, sign_record
from dittofs.labels import LABEL_BYTES_MAX, NOT_FREE, is_free, is_label


def rename(membership: Membership, author: Device, device: DeviceId, name: str) -> bytes:
    """The record that calls the member `device` by another name.

    FormatError for what is no name, or another member's. NotAllowed unless `author` is an owner, or the
    device itself.
    """
    if not is_label(name):
        raise FormatError(
            f"a device is called by 1 to {LABEL_BYTES_MAX} bytes of text that can be printed, without / and "
            "without spaces around it"
        )
    if not is_free(name):
        raise FormatError(f"a device's name is {NOT_FREE}")
    if any(one.name == name for one in membership.all_admitted() if one.device != device):
        raise FormatError(f"another device is called {name!r} already")
    if author.id != device:
        require_owner(membership, author.id, "rename other devices")
    if membership.admitted(device) is None:
        raise NotAllowed("that device is no member of this volume")
    last = membership.naming(device)
    number = min(NUMBER_MAX, 1 + (last.body.number if last else 0))
    signed = _name(membership, author, device, name, number)
    grown = membership.copy()
    grown.add([signed])
    if grown.name(device) != name:
        raise NotAllowed("this device was renamed too often: an owner can do it")
    return signed


def confirm(membership: Membership, device: Device) -> bytes | None:
    """The record by which a device takes up the name that an owner gave it, so that it stays if the owner
    goes; None if there is nothing to take up.
    """
    given = membership.naming(device.id)
    if given is None or given.body.signer == device.id or membership.role(device.id) == Role.NONE:
        return None
    own = membership.own_name(device.id)
    if own is not None and _is_same(own, given):
        return None
    return _name(membership, device, device.id, given.body.name, given.body.number)


def _is_same(own: Record, given: Record) -> bool:
    return (own.body.number, own.body.name) == (given.body.number, given.body.name)


def _name(membership: Membership, author: Device, device: DeviceId, name: str, number: int) -> bytes:
    body = Body(
        v=1,
        volume=membership.genesis.volume_id,
        kind=int(Kind.NAME),
        signer=author.id,
        parents=[],
        subject=device,
        name=name,
        number=number,
    )
    return sign_record(body, author.signing)
