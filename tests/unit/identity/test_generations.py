"""Generations: who can open what, and what owners owe the others."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dittofs.errors import FormatError
from dittofs.identity.authoring import Draft
from dittofs.identity.generations import head_generations, is_stale, mend, unwrap
from dittofs.identity.granting import grant, remove, resign
from dittofs.identity.keys import Device, DeviceId, VolumeSecrets, create_device
from dittofs.identity.membership import Membership
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Kind, Record, Role, Wrap
from dittofs.identity.wraps import Wrapped, open_previous, open_wrap, seal_previous, seal_wrap
from dittofs.ids import VolumeId
from tests.simulation.disk import SimulatedDisk
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, NAS, PHONE, STRANGER, Share
from tests.unit.identity.files import Counted, key_files

VOLUME = VolumeId(bytes(range(32)))
WRAPPED = Wrapped(b"V" * 32, b"G" * 32)
KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
SEALED = bytes.fromhex(
    "016de1e8d6b7c7dea348ed85694e00352db3bf4cd2f4f666055da4aedf775a3a7fb56eefa59558350eb022e7fc2c05d9"
    "28d5bf1f3a8a4a512e3d7a825b09eaa6d8ffc54141ed16cec7b201886772e51747315994c2397433fec185584b7b023d"
    "fb3c02b5f288a0b63199e584cb4d7d1b1a"
)


@pytest.fixture
def share() -> Share:
    share = Share()
    share.admit(DESKTOP, Role.WRITER, "desktop")
    share.admit(NAS, Role.OWNER, "nas")
    return share


def removed(share: Share, author: Device, device: Device) -> VolumeSecrets:
    """`device` removed; the secrets as `author` has them then."""
    known = unwrap(share.membership, author)
    records, secrets = remove(share.membership, known, author, device.id, ENTROPY)
    share.membership.add(records)
    return secrets


def test_a_wrap_of_these_bytes_is_opened() -> None:
    assert len(SEALED) == 113
    assert open_wrap(SEALED, b"r" * 32, KEY, VOLUME) == WRAPPED


def test_a_wrap_is_for_one_recipient_in_one_volume() -> None:
    sealed = seal_wrap(WRAPPED, b"r" * 32, KEY.public_key(), VOLUME)
    assert sealed != SEALED
    assert open_wrap(sealed, b"r" * 32, KEY, VOLUME) == WRAPPED
    assert open_wrap(sealed, b"s" * 32, KEY, VOLUME) is None
    assert open_wrap(sealed, b"r" * 32, KEY, VolumeId(bytes(32))) is None
    assert open_wrap(sealed, b"r" * 32, LAPTOP.wrapping, VOLUME) is None
    for bad in (b"", sealed[:-1], b"\x02" + sealed[1:], sealed[:1] + bytes(112), sealed[:-1] + b"?"):
        assert open_wrap(bad, b"r" * 32, KEY, VOLUME) is None


def test_an_older_generation_is_sealed_under_a_younger_one_as_these_bytes() -> None:
    sealed = seal_previous(b"o" * 32, b"8 bytes.", b"y" * 32, VOLUME, Counted())
    assert sealed.hex() == (
        "5feceb66ffc86f38d952786c5d6885331424ca222f3cd106ca8fc6cdbd1563d82ebf6a4c106d18e0"
        "78c5c306ce596ff4f7a6bb8f125f66f0cb0a672c"
    )
    assert open_previous(sealed, b"8 bytes.", b"y" * 32, VOLUME) == b"o" * 32
    assert open_previous(sealed, b"8 bytes?", b"y" * 32, VOLUME) is None
    assert open_previous(sealed, b"8 bytes.", b"z" * 32, VOLUME) is None
    assert open_previous(sealed[:-1], b"8 bytes.", b"y" * 32, VOLUME) is None


def test_the_check_of_a_generation_is_these_bytes() -> None:
    assert WRAPPED.check().hex() == "0e325f1c3f860bfca167abb3a8aa0489079b10e0e2c7099dff3e7827b694bb87"
    assert "V" * 32 not in repr(WRAPPED)


def test_readers_and_above_and_the_root_can_open_the_volume(share: Share) -> None:
    share.admit(PHONE, Role.STORE, "phone")
    for device in (LAPTOP, DESKTOP, NAS):
        assert unwrap(share.membership, device) == share.secrets.without_root()
    assert share.secrets.root is not None
    assert unwrap(share.membership, share.secrets.root) == share.secrets.without_root()
    for device in (PHONE, STRANGER):
        with pytest.raises(FormatError, match="no member record holds"):
            unwrap(share.membership, device)


def test_who_is_removed_cannot_open_what_comes_after_and_the_others_open_all(share: Share) -> None:
    before = unwrap(share.membership, DESKTOP)
    secrets = removed(share, LAPTOP, DESKTOP)
    assert secrets.current == share.membership.current.name != before.current
    assert not is_stale(share.membership)
    assert unwrap(share.membership, DESKTOP) == before
    assert unwrap(share.membership, DESKTOP, before) == before
    assert unwrap(share.membership, NAS) == secrets
    assert share.secrets.root is not None
    assert unwrap(share.membership, share.secrets.root) == secrets


def test_who_joins_later_opens_every_earlier_generation(share: Share) -> None:
    removed(share, LAPTOP, DESKTOP)
    share.admit(DESKTOP, Role.READER, "desktop")
    secrets = removed(share, NAS, DESKTOP)
    share.membership.add([grant(share.membership, secrets, NAS, make_publics(PHONE), Role.READER, "phone")])
    assert len(secrets.generations) == 3
    assert unwrap(share.membership, PHONE) == secrets


def test_what_is_known_is_kept_with_the_root_key_and_never_replaced(share: Share) -> None:
    removed(share, NAS, DESKTOP)
    known = share.secrets
    opened = unwrap(share.membership, LAPTOP, known)
    assert opened.root == known.root
    assert known.generations.items() < opened.generations.items()


def test_two_generations_begun_apart_have_one_winner_and_all_are_opened(share: Share) -> None:
    share.admit(PHONE, Role.WRITER, "phone")
    here, there = share.membership.copy(), share.membership.copy()
    first, _ = remove(here, share.secrets, LAPTOP, DESKTOP.id, ENTROPY)
    second, _ = remove(there, share.secrets, NAS, PHONE.id, ENTROPY)
    here.add(first)
    there.add(second)
    here.add(second)
    there.add(first)
    assert here.current.name == there.current.name
    assert len(head_generations(here)) == 2
    assert is_stale(here), "each was wrapped to whom the other removed"
    known = unwrap(here, NAS)
    assert len(known.generations) == 3
    records, mended = mend(here, known, NAS, ENTROPY)
    here.add(records)
    assert not is_stale(here)
    assert head_generations(here) == [mended.current]
    assert unwrap(here, LAPTOP) == mended
    for device in (DESKTOP, PHONE):
        assert mended.current not in unwrap(here, device).generations


def test_a_resignation_makes_owners_owe_a_generation(share: Share) -> None:
    share.membership.add([resign(share.membership, DESKTOP)])
    assert is_stale(share.membership)
    records, secrets = mend(share.membership, share.secrets, LAPTOP, ENTROPY)
    share.membership.add(records)
    assert secrets.root == share.secrets.root
    assert not is_stale(share.membership)
    assert mend(share.membership, secrets, LAPTOP, ENTROPY) == ([], secrets)
    assert unwrap(share.membership, NAS).current == secrets.current


def test_who_was_invited_while_a_generation_began_is_given_it_by_the_next_owner(share: Share) -> None:
    apart = share.membership.copy()
    share.admit(PHONE, Role.WRITER, "phone", author=NAS)
    records, secrets = remove(apart, share.secrets, LAPTOP, DESKTOP.id, ENTROPY)
    share.membership.add(records)
    lagging = unwrap(share.membership, PHONE)
    assert lagging.current != share.membership.current.name, "the nearest it can open"
    records, _ = mend(share.membership, secrets, LAPTOP, ENTROPY)
    assert [record.kind for record in added(share.membership, records)] == [Kind.WRAPS]
    assert unwrap(share.membership, PHONE) == secrets.without_root()


def added(membership: Membership, records: list[bytes]) -> list[Record]:
    return [membership.record(identity) for identity in membership.add(records)]


def test_a_wrap_of_another_secret_is_not_taken_for_the_generation(share: Share) -> None:
    secrets = removed(share, LAPTOP, DESKTOP)
    share.admit(PHONE, Role.STORE, "phone")
    false = Wrapped(secrets.secret, bytes(32))
    draft = Draft(share.membership, NAS)
    key = make_publics(PHONE).wrapping_key()
    draft.wraps([Wrap(secrets.current, PHONE.id, seal_wrap(false, PHONE.id, key, secrets.volume_id))])
    share.membership.add(draft.signed)
    with pytest.raises(FormatError, match="no member record holds"):
        unwrap(share.membership, PHONE)
    known = VolumeSecrets(secrets.genesis, b"another V".ljust(32), {bytes(8): bytes(32)}, bytes(8), None)
    with pytest.raises(FormatError, match="no generation"):
        unwrap(share.membership, LAPTOP, known)


def test_a_generation_begun_by_who_lost_its_say_is_opened_but_never_current(share: Share) -> None:
    apart = share.membership.copy()
    share.admit(PHONE, Role.WRITER, "phone")
    removed(share, LAPTOP, NAS)
    apart.add([resign(apart, DESKTOP)])
    records, begun = mend(apart, unwrap(apart, NAS), NAS, ENTROPY)
    share.membership.add(apart.records.values())
    share.membership.add(records)
    opened = unwrap(share.membership, LAPTOP)
    assert begun.current in opened.generations
    assert begun.current not in {one.name for one in share.membership.generations()}
    assert opened.current == share.membership.current.name


def test_more_members_than_one_record_holds_wraps_for_all_get_the_generation(share: Share) -> None:
    crowd = [create_device(key_files(SimulatedDisk()), ENTROPY) for _ in range(140)]
    for number, device in enumerate(crowd):
        share.admit(device, Role.READER, f"device {number}")
    secrets = removed(share, LAPTOP, DESKTOP)
    assert {unwrap(share.membership, device).current for device in crowd} == {secrets.current}
    share.membership.add([resign(share.membership, device) for device in crowd[:50]])
    records, secrets = mend(share.membership, secrets, NAS, ENTROPY)
    share.membership.add(records)
    assert unwrap(share.membership, crowd[-1]) == secrets
    assert secrets.current not in unwrap(share.membership, crowd[0]).generations
    assert share.membership.role(DeviceId(crowd[0].id)) == Role.NONE
