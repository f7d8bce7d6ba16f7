"""Users, groups and the default: what is said of them, down to the role of each device."""

from collections.abc import Callable

import pytest

from dittofs.errors import ConfigError, FormatError
from dittofs.identity import users
from dittofs.identity.authoring import Draft, NotAllowed
from dittofs.identity.generations import is_stale, mend, unwrap
from dittofs.identity.granting import let_in, remove, resign
from dittofs.identity.keys import Device
from dittofs.identity.membership import Membership
from dittofs.identity.people import GUEST, By, Standing
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Role
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, NAS, PHONE, STRANGER, Share

NOTHING = Standing(Role.NONE)


def say(share: Share, write: Callable[[Draft], None], author: Device = LAPTOP) -> Membership:
    """What `author` says, taken up."""
    draft = Draft(share.membership, author)
    write(draft)
    share.membership.add(draft.signed)
    return share.membership


def invite(share: Share, device: Device, name: str, role: Role | None = None, user: str = "") -> None:
    share.membership.add(
        let_in(share.membership, share.secrets, LAPTOP, make_publics(device), role, name, user)
    )


@pytest.fixture
def share() -> Share:
    """Ada's phone and desktop, and a nas that is nobody's: none was given a role of its own."""
    share = Share()
    say(share, lambda draft: users.add_user(draft, "ada", [], None))
    invite(share, PHONE, "phone", user="ada")
    invite(share, DESKTOP, "desktop", user="ada")
    invite(share, NAS, "nas")
    return share


def roles(share: Share) -> list[Role]:
    return [share.membership.role(device.id) for device in (PHONE, DESKTOP, NAS)]


def test_who_was_given_nothing_may_do_what_the_default_says_and_that_is_writing_at_first(
    share: Share,
) -> None:
    assert roles(share) == [Role.WRITER] * 3
    assert share.membership.standing(NAS.id) == Standing(Role.WRITER, By.DEFAULT)
    say(share, lambda draft: users.give_default(draft, Role.READER))
    assert roles(share) == [Role.READER] * 3
    say(share, lambda draft: users.give_default(draft, Role.NONE))
    assert roles(share) == [Role.NONE] * 3
    say(share, lambda draft: users.give_default(draft, None))
    assert roles(share) == [Role.WRITER] * 3


def test_all_devices_of_a_user_have_another_role_at_once(share: Share) -> None:
    say(share, lambda draft: users.give_user(draft, "ada", Role.READER))
    assert roles(share) == [Role.READER, Role.READER, Role.WRITER]
    assert share.membership.standing(PHONE.id) == Standing(Role.READER, By.USER)
    say(share, lambda draft: users.give_user(draft, "ada", None))
    assert roles(share) == [Role.WRITER] * 3


def test_a_user_has_the_greatest_of_what_was_given_to_them_and_their_groups(share: Share) -> None:
    say(share, lambda draft: users.give_default(draft, Role.NONE))
    say(share, lambda draft: users.add_group(draft, "family", ["ada"], Role.READER))
    assert share.membership.standing(PHONE.id) == Standing(Role.READER, By.GROUP, "family")
    say(share, lambda draft: users.add_group(draft, "editors", ["ada"], Role.WRITER))
    assert share.membership.standing(PHONE.id) == Standing(Role.WRITER, By.GROUP, "editors")
    say(share, lambda draft: users.leave_group(draft, "editors", ["ada"]))
    assert roles(share) == [Role.READER, Role.READER, Role.NONE]
    say(share, lambda draft: users.give_group(draft, "family", Role.NONE))
    assert roles(share)[0] == Role.NONE
    say(share, lambda draft: users.give_user(draft, "ada", Role.READER))
    assert share.membership.standing(PHONE.id) == Standing(Role.READER, By.USER)


def test_a_group_that_is_revoked_leaves_nothing_to_who_has_nothing_else(share: Share) -> None:
    say(share, lambda draft: users.add_group(draft, "family", ["ada"], Role.WRITER))
    say(share, lambda draft: users.give_group(draft, "family", Role.NONE))
    assert roles(share) == [Role.NONE, Role.NONE, Role.WRITER]
    say(share, lambda draft: users.remove_group(draft, "family"))
    assert (share.membership.people.groups(), roles(share)) == ([], [Role.WRITER] * 3)


def test_what_a_device_was_given_itself_stands_before_its_user_but_not_before_a_revocation(
    share: Share,
) -> None:
    say(share, lambda draft: users.give_device(draft, PHONE.id, Role.READER))
    say(share, lambda draft: users.give_user(draft, "ada", Role.WRITER))
    assert roles(share) == [Role.READER, Role.WRITER, Role.WRITER]
    say(share, lambda draft: users.give_user(draft, "ada", Role.NONE))
    assert roles(share) == [Role.NONE, Role.NONE, Role.WRITER]
    say(share, lambda draft: users.give_user(draft, "ada", Role.WRITER))
    say(share, lambda draft: users.give_device(draft, PHONE.id, None))
    assert roles(share) == [Role.WRITER] * 3


def test_guests_may_read_until_another_role_is_set_for_them(share: Share) -> None:
    invite(share, PHONE, "phone", user=GUEST)
    assert share.membership.standing(PHONE.id) == Standing(Role.READER, By.DEFAULT)
    say(share, lambda draft: users.give_default(draft, Role.NONE))
    assert roles(share) == [Role.READER, Role.NONE, Role.NONE]
    say(share, lambda draft: users.give_user(draft, GUEST, Role.WRITER))
    assert share.membership.role(PHONE.id) == Role.WRITER
    say(share, lambda draft: users.remove_user(draft, GUEST))
    assert share.membership.admitted(PHONE.id) is None
    invite(share, PHONE, "phone", user=GUEST)
    assert share.membership.role(PHONE.id) == Role.WRITER


def test_removing_a_user_takes_out_every_device_and_brings_a_generation(share: Share) -> None:
    before = share.secrets.current
    say(share, lambda draft: users.add_group(draft, "family", ["ada"], Role.WRITER))
    say(share, lambda draft: users.remove_user(draft, "ada"))
    assert [one.name for one in share.membership.all_admitted()] == ["laptop", "nas"]
    assert (share.membership.people.users(), share.membership.people.users_in("family")) == ([], [])
    records, secrets = mend(share.membership, share.secrets, LAPTOP, ENTROPY)
    share.membership.add(records)
    assert secrets.current != before
    assert not is_stale(share.membership)
    assert secrets.current in unwrap(share.membership, NAS).generations
    assert secrets.current not in unwrap(share.membership, PHONE).generations


def test_a_device_that_another_owner_lets_in_while_its_user_is_removed_may_do_nothing(share: Share) -> None:
    share.admit(NAS, Role.OWNER, "nas")
    apart = share.membership.copy()
    late = let_in(apart, share.secrets, NAS, make_publics(DESKTOP), Role.WRITER, "desktop", "ada")
    say(share, lambda draft: users.remove_user(draft, "ada"))
    share.membership.add(late)
    assert share.membership.role(DESKTOP.id) == Role.NONE
    assert share.membership.people.users() in ([], ["ada"])


def test_who_may_not_read_for_a_while_cannot_open_what_is_stored_then_and_all_of_it_after(
    share: Share,
) -> None:
    say(share, lambda draft: users.give_user(draft, "ada", Role.NONE))
    assert is_stale(share.membership)
    records, secrets = mend(share.membership, share.secrets, LAPTOP, ENTROPY)
    share.membership.add(records)
    assert not is_stale(share.membership)
    assert secrets.current not in unwrap(share.membership, PHONE).generations
    say(share, lambda draft: users.give_user(draft, "ada", Role.READER))
    records, secrets = mend(share.membership, secrets, LAPTOP, ENTROPY)
    share.membership.add(records)
    assert unwrap(share.membership, PHONE) == secrets.without_root()


def test_a_device_that_may_do_nothing_now_can_leave_and_can_be_taken_out(share: Share) -> None:
    say(share, lambda draft: users.give_user(draft, "ada", Role.NONE))
    share.membership.add([resign(share.membership, PHONE)])
    records, _ = remove(share.membership, share.secrets, LAPTOP, DESKTOP.id, ENTROPY)
    share.membership.add(records)
    say(share, lambda draft: users.add_user(draft, "ada", [], Role.WRITER))
    assert roles(share) == [Role.NONE, Role.NONE, Role.WRITER]


def test_of_a_grant_and_a_revocation_that_were_made_apart_the_revocation_counts(share: Share) -> None:
    share.admit(NAS, Role.OWNER, "nas")
    share.admit(STRANGER, Role.OWNER, "tower")
    here, there = Draft(share.membership, NAS), Draft(share.membership, STRANGER)
    users.give_user(here, "ada", Role.WRITER)
    users.give_user(there, "ada", Role.READER)
    share.membership.add([*here.signed, *there.signed])
    assert share.membership.role(PHONE.id) == Role.READER
    here, there = Draft(share.membership, NAS), Draft(share.membership, STRANGER)
    users.add_group(here, "family", ["ada"], Role.WRITER)
    users.give_user(there, "ada", Role.NONE)
    share.membership.add([*there.signed, *here.signed])
    assert share.membership.role(PHONE.id) == Role.NONE


def test_what_a_removed_owner_says_of_people_and_dates_back_is_void(share: Share) -> None:
    share.admit(NAS, Role.OWNER, "nas")
    say(share, lambda draft: users.give_user(draft, "ada", Role.READER))
    late = Draft(share.membership, NAS)
    users.give_user(late, "ada", Role.WRITER)
    users.add_group(late, "family", ["ada"], Role.WRITER)
    users.give_default(late, Role.NONE)
    records, _ = remove(share.membership, share.secrets, LAPTOP, NAS.id, ENTROPY)
    share.membership.add(records)
    share.membership.add(late.signed)
    assert share.membership.standing(PHONE.id) == Standing(Role.READER, By.USER)
    assert (share.membership.people.default, share.membership.people.groups()) == (Role.WRITER, [])


def test_only_owners_say_anything_of_people(share: Share) -> None:
    with pytest.raises(NotAllowed, match=r"only an owner can give roles, .* its owners: laptop"):
        say(share, lambda draft: users.give_user(draft, "ada", Role.WRITER), NAS)
    before = share.membership.digest()
    forged = Draft(share.membership, LAPTOP)
    forged.author = NAS
    with pytest.raises(FormatError, match="no say"):
        forged.standing(Role.WRITER, user="ada")
    assert share.membership.digest() == before


def test_a_user_may_have_an_owners_device_which_is_an_owner_whatever_the_user_may(share: Share) -> None:
    share.admit(NAS, Role.OWNER, "nas")
    say(share, lambda draft: users.add_user(draft, "ada", [NAS.id], Role.READER))
    assert roles(share) == [Role.READER, Role.READER, Role.OWNER]
    say(share, lambda draft: users.give_user(draft, "ada", Role.NONE))
    assert roles(share) == [Role.NONE] * 3


def test_nobody_takes_the_last_owner_out_by_its_user(share: Share) -> None:
    say(share, lambda draft: users.add_user(draft, "ada", [LAPTOP.id], None))
    for write in (
        lambda draft: users.remove_user(draft, "ada"),
        lambda draft: users.give_user(draft, "ada", Role.NONE),
        lambda draft: users.give_device(draft, LAPTOP.id, Role.READER),
    ):
        with pytest.raises(NotAllowed, match="this very device"):
            say(share, write)
    assert share.membership.role(LAPTOP.id) == Role.OWNER


def test_who_does_not_outrank_an_owner_does_not_revoke_it_by_its_user(share: Share) -> None:
    share.admit(NAS, Role.OWNER, "nas")
    say(share, lambda draft: users.add_user(draft, "ada", [LAPTOP.id], None))
    with pytest.raises(NotAllowed, match="does not outrank"):
        say(share, lambda draft: users.remove_user(draft, "ada"), NAS)


@pytest.mark.parametrize("role", [Role.OWNER, Role.STORE])
def test_only_devices_are_owners_or_stores(share: Share, role: Role) -> None:
    with pytest.raises(FormatError, match="only a device"):
        say(share, lambda draft: users.give_user(draft, "ada", role))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is called by"),
        ("a/b", "is called by"),
        ("user:ada", "is called by"),
        (" ada", "is called by"),
        ("x" * 65, "is called by"),
        ("\x1b[2J", "is called by"),
        ("phone", "a device already"),
        ("ada", "a user already"),
        ("default", "given nothing already"),
        ("guest", "guests belong to already"),
        ("reader", "a role already"),
        ("owner", "a role already"),
        ("inherit", "takes a role away already"),
    ],
)
def test_odd_names_and_those_that_mean_something_else_are_refused(
    share: Share, name: str, reason: str
) -> None:
    with pytest.raises(FormatError, match=reason):
        say(share, lambda draft: users.add_group(draft, name, [], None))


def test_what_is_not_there_is_named_with_what_is(share: Share) -> None:
    for write, reason in (
        (lambda draft: users.give_user(draft, "bob", Role.READER), 'no user "bob"; there are: ada'),
        (lambda draft: users.join_group(draft, "family", ["ada"]), 'no group "family"; there are: none'),
        (lambda draft: users.take_from_user(draft, "ada", [NAS.id]), '"nas" is no device of ada'),
    ):
        with pytest.raises(ConfigError, match=reason):
            say(share, write)


def test_saying_again_what_is_so_signs_nothing(share: Share) -> None:
    say(share, lambda draft: users.add_group(draft, "family", ["ada"], Role.READER))
    before = len(share.membership.records)
    say(share, lambda draft: users.add_user(draft, "ada", [PHONE.id], None))
    say(share, lambda draft: users.add_group(draft, "family", ["ada"], Role.READER))
    invite(share, PHONE, "phone", user="ada")
    assert len(share.membership.records) == before


def test_a_device_of_a_user_who_was_removed_comes_back_by_a_new_invitation_as_nobodys(share: Share) -> None:
    say(share, lambda draft: users.remove_user(draft, "ada"))
    invite(share, PHONE, "phone")
    invite(share, DESKTOP, "desktop", Role.READER)
    assert roles(share) == [Role.WRITER, Role.READER, Role.WRITER]
    assert share.membership.people.user_of(PHONE.id) == ""
    assert share.membership.people.users() == []


@pytest.mark.parametrize("role", [None, Role.WRITER])
def test_a_device_of_a_user_who_was_revoked_comes_back_by_a_new_invitation_and_opens_what_is_stored(
    share: Share, role: Role | None
) -> None:
    say(share, lambda draft: users.give_user(draft, "ada", Role.NONE))
    records, share.secrets = mend(share.membership, share.secrets, LAPTOP, ENTROPY)
    share.membership.add(records)
    invite(share, PHONE, "phone", role)
    assert roles(share) == [Role.WRITER, Role.NONE, Role.WRITER]
    assert unwrap(share.membership, PHONE) == share.secrets.without_root()
    before = len(share.membership.records)
    invite(share, PHONE, "phone", role)
    assert len(share.membership.records) == before


def test_whom_an_invitation_would_let_in_for_nothing_is_not_let_in(share: Share) -> None:
    say(share, lambda draft: users.give_default(draft, Role.NONE))
    with pytest.raises(NotAllowed, match="may do nothing"):
        invite(share, DESKTOP, "desktop", user="ada")
