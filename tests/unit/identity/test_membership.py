"""Members: who may sign what, and what the records of a volume add up to."""

from collections.abc import Iterable

import msgspec
import pytest
from blake3 import blake3

from dittofs.errors import FormatError
from dittofs.identity.authoring import NotAllowed, require_owner
from dittofs.identity.granting import found_volume, grant, remove, resign
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.membership import RECORDS_MAX, VOIDS_MAX, Membership
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Body, Kind, Record, Role, sign_record
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, NAS, PHONE, STRANGER, Share


@pytest.fixture
def share() -> Share:
    return Share()


def signed(share: Share, author: Device, parents: list[bytes], **fields: object) -> bytes:
    body = Body(v=1, volume=share.secrets.volume_id, kind=1, signer=author.id, parents=parents)
    return sign_record(msgspec.structs.replace(body, **fields), author.signing)


def removed(share: Share, author: Device, device: Device) -> None:
    records, share.secrets = remove(share.membership, share.secrets, author, device.id, ENTROPY)
    share.membership.add(records)


def test_the_device_that_founds_a_volume_owns_it(share: Share) -> None:
    (laptop,) = share.membership.members()
    assert (laptop.device, laptop.name, laptop.role) == (LAPTOP.id, "laptop", Role.OWNER)
    assert laptop.signing == LAPTOP.signing.public_key().public_bytes_raw()
    assert laptop.wrapping == LAPTOP.wrapping.public_key().public_bytes_raw()
    assert share.membership.owners() == [laptop]


def test_members_have_the_roles_and_names_they_were_given(share: Share) -> None:
    for device, role in ((DESKTOP, Role.READER), (NAS, Role.STORE), (PHONE, Role.OWNER)):
        share.admit(device, role, role.name)
    assert [(one.name, one.role) for one in share.membership.members()] == [
        ("OWNER", Role.OWNER),
        ("READER", Role.READER),
        ("STORE", Role.STORE),
        ("laptop", Role.OWNER),
    ]
    assert share.membership.role(STRANGER.id) == Role.NONE
    assert share.membership.name(STRANGER.id) == ""


def test_a_removed_device_has_no_role_and_keeps_its_name(share: Share) -> None:
    share.admit(DESKTOP, Role.WRITER, "desktop")
    removed(share, LAPTOP, DESKTOP)
    assert share.membership.role(DESKTOP.id) == Role.NONE
    assert share.membership.name(DESKTOP.id) == "desktop"
    assert [one.name for one in share.membership.members()] == ["laptop"]


def test_a_removed_device_can_be_invited_again(share: Share) -> None:
    share.admit(DESKTOP, Role.OWNER, "desktop")
    removed(share, LAPTOP, DESKTOP)
    share.admit(DESKTOP, Role.WRITER, "desk")
    assert share.membership.role(DESKTOP.id) == Role.WRITER
    assert share.membership.name(DESKTOP.id) == "desk"


@pytest.mark.parametrize("role", [Role.STORE, Role.READER, Role.WRITER])
def test_only_owners_invite_and_the_refusal_names_them(share: Share, role: Role) -> None:
    share.admit(DESKTOP, role, "desktop")
    share.admit(NAS, Role.OWNER, "nas")
    said = f"and this device is a {role.name.lower()} .* its owners: laptop, nas"
    with pytest.raises(NotAllowed, match=f"only an owner can invite, {said}"):
        require_owner(share.membership, DESKTOP.id)
    with pytest.raises(NotAllowed, match=f"only an owner can give roles, {said}"):
        grant(share.membership, share.secrets, DESKTOP, make_publics(PHONE), Role.READER, "phone")
    with pytest.raises(NotAllowed, match=r"only an owner can remove devices.*laptop, nas"):
        remove(share.membership, share.secrets, DESKTOP, NAS.id, ENTROPY)
    with pytest.raises(NotAllowed, match=r"is no member.*laptop, nas"):
        require_owner(share.membership, STRANGER.id)
    require_owner(share.membership, NAS.id)


def test_an_owner_does_not_remove_who_made_it_one_nor_its_equals(share: Share) -> None:
    share.admit(DESKTOP, Role.OWNER, "desktop")
    share.admit(NAS, Role.OWNER, "nas")
    for other in (LAPTOP, NAS):
        with pytest.raises(NotAllowed, match="does not outrank"):
            remove(share.membership, share.secrets, DESKTOP, other.id, ENTROPY)
    assert len(share.membership.owners()) == 3


def test_the_root_removes_a_stolen_founder(share: Share) -> None:
    share.admit(DESKTOP, Role.OWNER, "desktop")
    assert share.secrets.root is not None
    records, _ = remove(share.membership, share.secrets, share.secrets.root, LAPTOP.id, ENTROPY)
    share.membership.add(records)
    assert [one.name for one in share.membership.owners()] == ["desktop"]


def test_what_a_removed_owner_dates_back_is_void(share: Share) -> None:
    share.admit(DESKTOP, Role.OWNER, "desktop")
    before = share.membership.copy()
    share.admit(PHONE, Role.WRITER, "phone", author=DESKTOP)
    removed(share, LAPTOP, DESKTOP)
    late = grant(before, share.secrets, DESKTOP, make_publics(STRANGER), Role.OWNER, "puppet")
    share.membership.add([late])
    assert share.membership.role(STRANGER.id) == Role.NONE
    assert share.membership.role(PHONE.id) == Role.WRITER  # the removal knew of it
    assert not share.membership.counts(blake3(late[:-64]).digest())


def test_whom_a_device_invited_is_listed(share: Share) -> None:
    share.admit(DESKTOP, Role.OWNER, "desktop")
    share.admit(PHONE, Role.WRITER, "phone", author=DESKTOP)
    share.admit(NAS, Role.WRITER, "nas")
    assert [one.name for one in share.membership.granted_by(DESKTOP.id)] == ["phone"]
    assert [one.name for one in share.membership.granted_by(LAPTOP.id)] == ["desktop", "nas"]


@pytest.mark.parametrize("role", [Role.STORE, Role.READER, Role.WRITER, Role.OWNER])
def test_any_member_can_leave(share: Share, role: Role) -> None:
    share.admit(DESKTOP, role, "desktop")
    share.membership.add([resign(share.membership, DESKTOP)])
    assert share.membership.role(DESKTOP.id) == Role.NONE
    with pytest.raises(NotAllowed, match="no member"):
        resign(share.membership, DESKTOP)
    with pytest.raises(NotAllowed, match="no member"):
        remove(share.membership, share.secrets, LAPTOP, DESKTOP.id, ENTROPY)


def test_when_the_last_owner_left_only_the_root_can_make_another(share: Share) -> None:
    share.admit(DESKTOP, Role.WRITER, "desktop")
    share.membership.add([resign(share.membership, LAPTOP)])
    with pytest.raises(NotAllowed, match="the recovery words are needed"):
        require_owner(share.membership, DESKTOP.id)
    root = share.secrets.root
    assert root is not None
    share.membership.add(
        [grant(share.membership, share.secrets, root, make_publics(DESKTOP), Role.OWNER, "desktop")]
    )
    require_owner(share.membership, DESKTOP.id)


def test_a_device_does_not_remove_itself(share: Share) -> None:
    with pytest.raises(NotAllowed, match="it leaves"):
        remove(share.membership, share.secrets, LAPTOP, LAPTOP.id, ENTROPY)


def test_a_member_that_owns_nothing_cannot_fill_the_set(share: Share) -> None:
    given = blake3(share.admit(DESKTOP, Role.WRITER, "desktop")[:-64]).digest()
    other = blake3(share.admit(NAS, Role.WRITER, "nas")[:-64]).digest()
    for parents in ([other], sorted([given, other]), []):
        with pytest.raises(FormatError):
            share.membership.add([signed(share, DESKTOP, parents, subject=DESKTOP.id)])
    for fields in (
        {"subject": NAS.id},
        {"kind": int(Kind.WRAPS)},
        {"kind": int(Kind.GENERATION), "check": bytes(32)},
    ):
        with pytest.raises(FormatError, match="had no say"):
            share.membership.add([signed(share, DESKTOP, [given], **fields)])
    assert len(share.membership.add([signed(share, DESKTOP, [given], subject=DESKTOP.id)])) == 1


def test_a_forged_record_or_one_without_its_past_adds_nothing(share: Share) -> None:
    good = grant(share.membership, share.secrets, LAPTOP, make_publics(DESKTOP), Role.WRITER, "desktop")
    digest = share.membership.digest()
    forged = good[:-1] + bytes([good[-1] ^ 1])
    orphan = signed(share, LAPTOP, [bytes(32)], subject=DESKTOP.id)
    for bad in (forged, orphan, signed(share, STRANGER, share.membership.heads(), subject=DESKTOP.id)):
        with pytest.raises(FormatError):
            share.membership.add([good, bad])
        assert share.membership.digest() == digest
    assert share.membership.add([good, good]) == [blake3(good[:-64]).digest()]
    with pytest.raises(FormatError):
        share.membership.add([forged])


def test_records_are_taken_up_in_any_order_and_once(share: Share) -> None:
    for device in (DESKTOP, NAS, PHONE):
        share.admit(device, Role.WRITER, "one")
    twin = Membership(share.secrets.genesis)
    assert twin.digest() != share.membership.digest()
    assert twin.add(reversed(list(share.membership.records.values()))) == list(share.membership.records)
    assert twin.digest() == share.membership.digest()
    assert twin.add(share.membership.records.values()) == []


def test_a_part_of_the_records_from_the_start_can_be_added_elsewhere(share: Share) -> None:
    for device in (DESKTOP, NAS, PHONE):
        share.admit(device, Role.WRITER, "one")
    records = list(share.membership.records.values())
    for count in range(len(records) + 1):
        Membership(share.secrets.genesis).add(records[:count])


def test_a_volume_has_a_bounded_number_of_records(share: Share) -> None:
    parents = share.membership.heads()
    root = share.secrets.root
    assert root is not None
    volume = share.secrets.volume_id

    def removal(number: int) -> bytes:
        subject = number.to_bytes(32, "big")
        body = Body(v=1, volume=volume, kind=1, signer=volume, parents=parents, subject=subject)
        return sign_record(body, root.signing())

    room = RECORDS_MAX - len(share.membership.records)
    flood = [removal(number) for number in range(room + 1)]
    with pytest.raises(FormatError, match="at most 4096"):
        share.membership.add(flood)
    assert len(share.membership.add(flood[:room])) == room
    with pytest.raises(FormatError, match="at most 4096"):
        share.membership.add(flood[room:])
    assert share.membership.role(DeviceId(bytes(32))) == Role.NONE


def test_founding_twice_changes_nothing_but_the_number_of_records(share: Share) -> None:
    share.membership.add(found_volume(share.secrets, LAPTOP, "laptop"))
    assert [one.name for one in share.membership.owners()] == ["laptop"]


def removed_owner(share: Share) -> list[bytes]:
    """The desktop was an owner and is removed. Returns what the last records were before."""
    share.admit(DESKTOP, Role.OWNER, "desktop")
    parents = share.membership.heads()
    records, _ = remove(share.membership, share.secrets, LAPTOP, DESKTOP.id, ENTROPY)
    share.membership.add(records)
    return parents


def back_dated(share: Share, parents: list[bytes], names: Iterable[str]) -> list[bytes]:
    """What the removed desktop says as if it did not know."""
    volume = share.secrets.volume_id
    bodies = [
        Body(v=1, volume=volume, kind=Kind.STANDING, signer=DESKTOP.id, parents=parents, name=name, role=2)
        for name in names
    ]
    return [sign_record(body, DESKTOP.signing) for body in bodies]


def test_a_removed_owner_cannot_fill_the_set(share: Share) -> None:
    parents = removed_owner(share)
    before = len(share.membership.records)
    flood = back_dated(share, parents, (f"u{number}" for number in range(RECORDS_MAX)))
    for _ in range(2):
        share.membership.add(flood)
        assert len(share.membership.records) == before + VOIDS_MAX
    share.admit(NAS, Role.WRITER, "nas")
    records, _ = remove(share.membership, share.secrets, LAPTOP, NAS.id, ENTROPY)
    assert share.membership.add(records)
    other = Membership(share.secrets.genesis)
    other.add(reversed([*flood, *share.membership.records.values()]))
    assert other.counted() and {one.id for one in other.counted()} == {
        one.id for one in share.membership.counted()
    }


def test_what_was_left_out_is_taken_when_it_counts(share: Share) -> None:
    share.admit(NAS, Role.OWNER, "nas")
    share.admit(DESKTOP, Role.OWNER, "desktop")
    parents = share.membership.heads()
    whole = share.membership.copy()
    flood = back_dated(share, parents, (f"u{number}" for number in range(2 * VOIDS_MAX)))
    whole.add(flood)
    records, _ = remove(share.membership, share.secrets, LAPTOP, DESKTOP.id, ENTROPY)
    share.membership.add(records)
    share.membership.add(flood)
    assert not whole.records.keys() <= share.membership.records.keys()
    root = share.secrets.root
    assert root is not None
    volume = share.secrets.volume_id
    body = Body(v=1, volume=volume, kind=Kind.MEMBER, signer=volume, parents=parents, subject=LAPTOP.id)
    founder_goes = sign_record(body, root.signing())  # before it removed anybody, and it ranks above
    whole.add([*share.membership.records.values(), founder_goes])
    share.membership.add([founder_goes])
    share.membership.add(whole.records.values())
    assert {one.id for one in whole.counted()} == {one.id for one in share.membership.counted()}


def test_a_full_set_refuses_before_any_signature_is_checked(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    share.admit(DESKTOP, Role.OWNER, "desktop")
    flood = back_dated(share, share.membership.heads(), (f"u{number}" for number in range(RECORDS_MAX)))
    checked: list[bytes] = []
    monkeypatch.setattr(Record, "verify", lambda record, _key: checked.append(record.id))
    with pytest.raises(FormatError, match="at most 4096"):
        share.membership.add(flood)
    assert checked == []
