"""Names that devices are given after they were let in: by owners and by themselves, alike on all replicas."""

import itertools
from typing import Any

import msgspec
import pytest

from dittofs.errors import FormatError
from dittofs.identity.authoring import NotAllowed
from dittofs.identity.granting import remove
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.lookup import Names
from dittofs.identity.membership import Membership
from dittofs.identity.naming import confirm, rename
from dittofs.identity.records import NUMBER_MAX, Body, Kind, Role, sign_record
from dittofs.labels import LABEL_BYTES_MAX
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, NAS, PHONE, STRANGER, Share


@pytest.fixture
def share() -> Share:
    """The laptop and the desktop own it, the phone may read and the nas write."""
    made = Share()
    made.admit(DESKTOP, Role.OWNER, "desktop")
    made.admit(PHONE, Role.READER, "phone")
    made.admit(NAS, Role.WRITER, "nas")
    return made


def named(share: Share, author: Device, device: Device, name: str) -> bytes:
    record = rename(share.membership, author, device.id, name)
    share.membership.add([record])
    return record


def forged(
    share: Share, author: Device, device: Device, name: str = "telephone", number: int = 1, **fields: object
) -> bytes:
    body = Body(
        v=1,
        volume=share.secrets.volume_id,
        kind=int(Kind.NAME),
        signer=author.id,
        parents=[],
        subject=device.id,
        name=name,
        number=number,
    )
    return sign_record(msgspec.structs.replace(body, **fields), author.signing)


@pytest.mark.parametrize("author", [LAPTOP, DESKTOP, PHONE])
def test_owners_and_the_device_itself_name_a_device(share: Share, author: Device) -> None:
    named(share, author, PHONE, "Ada's phone")
    assert share.membership.name(PHONE.id) == "Ada's phone"
    assert [one.name for one in share.membership.members()] == ["Ada's phone", "desktop", "laptop", "nas"]
    assert share.membership.role(PHONE.id) == Role.READER


@pytest.mark.parametrize("author", [PHONE, NAS, STRANGER])
def test_who_is_no_owner_names_no_other_device(share: Share, author: Device) -> None:
    with pytest.raises(NotAllowed, match="only an owner can rename other devices"):
        rename(share.membership, author, DESKTOP.id, "mine")
    before = share.membership.digest()
    with pytest.raises(FormatError, match="had no say"):
        share.membership.add([forged(share, author, DESKTOP, "mine", 99)])
    assert (share.membership.digest(), share.membership.name(DESKTOP.id)) == (before, "desktop")


def test_a_name_that_was_altered_is_refused(share: Share) -> None:
    record = rename(share.membership, PHONE, PHONE.id, "telephone")
    for altered in (record.replace(b"telephone", b"telephony"), record[:-1] + bytes([record[-1] ^ 1])):
        with pytest.raises(FormatError, match="does not hold"):
            share.membership.add([altered])
    assert share.membership.name(PHONE.id) == "phone"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 256},
        {"number": 0},
        {"number": NUMBER_MAX + 1},
        {"role": 4},
        {"subject": b""},
        {"parents": [bytes(32)]},
    ],
)
def test_a_record_that_says_more_than_a_name_or_none_is_refused(share: Share, fields: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        share.membership.add([forged(share, PHONE, PHONE, **fields)])


@pytest.mark.parametrize(
    "name",
    ["", " ", "x" * (LABEL_BYTES_MAX + 1), "é" * 128, "a\nb", "a\x1b[31m", "a/b", " a", "\ud800", "nas"],
)
def test_odd_names_and_those_of_others_are_refused(share: Share, name: str) -> None:
    with pytest.raises(FormatError, match=r"a device is called|another device is called"):
        rename(share.membership, LAPTOP, PHONE.id, name)


def test_the_last_name_counts_whatever_the_order_in_which_they_came(share: Share) -> None:
    fixed = list(share.membership.records.values())
    records = [named(share, LAPTOP, PHONE, "one"), named(share, PHONE, PHONE, "two")]
    records.append(named(share, DESKTOP, PHONE, "three"))
    for order in itertools.permutations(records):
        membership = Membership(share.secrets.genesis)
        membership.add(fixed)
        for record in order:
            membership.add([record])
        assert membership.name(PHONE.id) == "three"
        assert membership.digest() == share.membership.digest()


def test_of_names_given_apart_all_show_the_same_and_an_owners_stands_before_the_devices(share: Share) -> None:
    mine, theirs = (
        rename(share.membership, author, PHONE.id, author.id.hex()[:7]) for author in (PHONE, LAPTOP)
    )
    for order in ((mine, theirs), (theirs, mine)):
        membership = share.membership.copy()
        for record in order:
            membership.add([record])
        assert membership.name(PHONE.id) == LAPTOP.id.hex()[:7]


def test_a_device_that_takes_the_highest_number_is_named_by_owners_all_the_same(share: Share) -> None:
    share.membership.add([forged(share, PHONE, PHONE, "mine for ever", NUMBER_MAX)])
    assert share.membership.name(PHONE.id) == "mine for ever"
    named(share, LAPTOP, PHONE, "phone")
    assert share.membership.name(PHONE.id) == "phone"
    with pytest.raises(NotAllowed, match="too often"):
        rename(share.membership, PHONE, PHONE.id, "again")


def test_who_names_itself_again_and_again_fills_nothing(share: Share) -> None:
    for number in range(1, 50):
        share.membership.add([forged(share, PHONE, PHONE, f"name {number}", number)])
    assert len(share.membership.records) == len(share.membership.parsed()) + 1


def test_what_a_removed_owner_called_others_counts_only_if_they_took_it_up(share: Share) -> None:
    named(share, DESKTOP, PHONE, "by desktop")
    named(share, DESKTOP, NAS, "nas by desktop")
    confirmed = confirm(share.membership, PHONE)
    assert confirmed is not None
    share.membership.add([confirmed])
    assert confirm(share.membership, PHONE) is None
    records, _ = remove(share.membership, share.secrets, LAPTOP, DESKTOP.id, ENTROPY)
    share.membership.add(records)
    share.membership.add([forged(share, DESKTOP, LAPTOP, "back-dated", 7)])
    names = [share.membership.name(DeviceId(one.id)) for one in (PHONE, NAS, LAPTOP)]
    assert names == ["by desktop", "nas", "laptop"]


def test_records_in_one_part_after_the_other_carry_the_names(share: Share) -> None:
    named(share, LAPTOP, PHONE, "telephone")
    signed = list(share.membership.records.values())
    for cut in range(len(signed) + 1):
        membership = Membership(share.secrets.genesis)
        membership.add(signed[:cut])
        membership.add(signed[cut:])
        assert membership.name(PHONE.id) == "telephone"


@pytest.mark.parametrize("digits", [4, 8, 12, 64])
def test_who_is_called_like_the_id_of_another_is_never_taken_for_it(share: Share, digits: int) -> None:
    there = DESKTOP.id.hex()
    share.membership.add([forged(share, PHONE, PHONE, there[:digits])])
    assert share.membership.name(PHONE.id) == there[:digits]
    meant = {one.device for one in share.membership.called(there[:digits])}
    assert meant == ({DESKTOP.id} if digits == 64 else {DESKTOP.id, PHONE.id})
    assert [one.device for one in share.membership.called(there.upper())] == [DESKTOP.id]
    names = share.membership.names()
    assert names.meant(names.digits(there)) == {there}


def test_a_whole_id_of_nobody_means_nobody(share: Share) -> None:
    there = STRANGER.id.hex()
    share.membership.add([forged(share, PHONE, PHONE, there)])
    assert share.membership.called(there) == []


def test_of_several_that_are_meant_each_id_is_told_as_far_as_it_means_that_one() -> None:
    one, other = "a" * 64, "a" * 10 + "b" * 54
    names = Names({one: "laptop", other: "aaaaaaaa"})
    assert names.meant("aaaaaaaa") == names.meant("aaaa") == {one, other}
    assert names.several("aaaa", {one, other}) == (
        'several devices are meant by "aaaa": aaaaaaaaaaaa ("laptop"), aaaaaaaaaabb ("aaaaaaaa"); '
        "give the id of one"
    )


@pytest.mark.parametrize(
    "name",
    ["default", "guest", "device:nas", "user:ada", "group:x", "deadbeef", "0123456789ABCDEF", "a" * 64],
)
def test_no_name_is_chosen_that_means_something_else_where_names_are_typed(share: Share, name: str) -> None:
    with pytest.raises(FormatError, match="hexadecimal digits like an id"):
        rename(share.membership, PHONE, PHONE.id, name)
    for fine in ("cafe", "beef-1", "defaults", "users"):
        named(share, PHONE, PHONE, fine)
