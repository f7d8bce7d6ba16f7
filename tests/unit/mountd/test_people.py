"""Roles by the local API: what is refused and why, and what is told of it."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio

from dittofs.blocking import run_in_thread
from dittofs.cli.grant import tell_people
from dittofs.cli.people import say_changes
from dittofs.clock import SystemClock, system_entropy
from dittofs.config import Paths, Settings
from dittofs.control.faults import Refusal
from dittofs.control.limiting import LimitRequest
from dittofs.control.people import GrantRequest, GroupRequest, PeopleRequest, UserRequest
from dittofs.control.sharing import Invitation, RemoveRequest, ShareRequest
from dittofs.identity.keys import Device
from dittofs.identity.pairing import Admission
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Body, Kind, Role, sign_record
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from mountd.authors import author
from mountd.limiting import LimitDesk
from mountd.members import MemberDesk
from mountd.mounting import Mounting
from mountd.people import PeopleDesk
from mountd.reports import Reports
from mountd.sharing import Sharing
from tests.unit.identity.devices import DESKTOP, PHONE

NAME = "Shared"


class Owner:
    """A device that owns a volume."""

    def __init__(self, node: Node, opened: SharedVolume, mounting: Mounting) -> None:
        self.node, self.opened, self.mounting = node, opened, mounting
        self.desk = PeopleDesk(node, Reports(node, mounting))
        self.sharing = Sharing(node)

    async def do(self, *words: str) -> object:
        """As the commands would ask."""
        match words:
            case ("grant", name, ("reader" | "writer" | "owner" | "inherit") as role):
                return await self.desk.grant(GrantRequest(NAME, name, role))
            case ("revoke", name):
                return await self.desk.grant(GrantRequest(NAME, name, "none"))
            case ("user", ("add" | "leave" | "remove") as action, name, *devices):
                return await self.desk.user(UserRequest(NAME, action, name, tuple(devices)))
            case ("group", ("add" | "join" | "leave" | "remove") as action, name, *users):
                return await self.desk.group(GroupRequest(NAME, action, name, tuple(users)))
            case ("share", *user):
                return await self.sharing_role("".join(user))
        raise AssertionError(words)

    async def sharing_role(self, user: str) -> str:
        """What an invitation for a device of `user` says that it will be."""
        async with aclosing(self.sharing.share(ShareRequest(NAME, user=user))) as items:
            invitation = await anext(items)
        assert isinstance(invitation, Invitation)
        return invitation.role

    async def calls_itself(self, device: Device, name: str) -> None:
        """By the protocol alone, which no command of an honest device says."""
        membership = self.opened.membership
        last = membership.naming(device.id)
        body = Body(
            v=1,
            volume=self.opened.id,
            kind=int(Kind.NAME),
            signer=device.id,
            parents=[],
            subject=device.id,
            name=name,
            number=1 + (last.body.number if last else 0),
        )
        membership.add([sign_record(body, device.signing)])
        assert membership.name(device.id) == name

    async def let_in(self, device: Device, name: str, user: str = "") -> None:
        publics = make_publics(device)
        await self.opened.admit(Admission(self.opened.id, None, publics, name, is_again=False, user=user))


@asynccontextmanager
async def owner_in(directory: Path) -> AsyncIterator[Owner]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            node = Node(
                Paths.find({"DITTOFS_HOME": str(directory)}),
                Settings("laptop", bind="127.0.0.1", port=0, uses_mdns=False),
                clock=SystemClock(),
                entropy=system_entropy,
                run_blocking=run_in_thread,
                nursery=nursery,
            )
            node.start()
            opened = await node.open(NAME, trusts_root=False)
            yield Owner(node, opened, Mounting(node, nursery))
            await node.close()
            nursery.cancel_scope.cancel()


async def test_what_cannot_be_said_of_people_is_refused_with_the_reason_and_nothing_is_signed(
    tmp_path: Path,
) -> None:
    refused = (
        ("grant bbo reader", "not_found", "no device, user or group of \"Shared\" .* did you mean 'bob'"),
        ("grant user:eve reader", "not_found", 'no user "eve"; there are: ada, bob'),
        ("grant device:eve reader", "refused", "no device of \"Shared\" is called 'eve'"),
        ("grant ada owner", "usage", "only a device can be an owner"),
        ("grant default owner", "usage", "only a device can be an owner"),
        ("grant bob reader", "usage", '"bob" is a device and a user'),
        ("grant laptop reader", "usage", "this very device"),
        ("revoke laptop", "usage", "this very device"),
        ("revoke ada", "forbidden", "this very device"),
        ("user remove ada", "forbidden", "this very device"),
        ("user add phone", "usage", "a device already"),
        ("user add default", "usage", "already"),
        ("user add eve tablet", "refused", "no device of \"Shared\" is called 'tablet'"),
        ("user leave bob phone", "not_found", "is no device of bob"),
        ("user remove eve", "not_found", 'no user "eve"'),
        ("user add guest", "usage", "guests need no adding"),
        ("group add ada", "usage", "a user already"),
        ("group add guest", "usage", "already"),
        ("group join family ada", "not_found", 'no group "family"; there are: none yet'),
        ("group add family eve", "not_found", 'no user "eve"'),
        ("share eve", "not_found", 'no user "eve"'),
    )
    async with owner_in(tmp_path) as owner:
        await owner.do("user", "add", "ada", "laptop")
        await owner.do("user", "add", "bob")
        await owner.let_in(PHONE, "phone", "ada")
        await owner.let_in(DESKTOP, "bob")
        before = owner.opened.membership.digest()
        for words, code, reason in refused:
            with pytest.raises(Refusal, match=reason) as refusal:
                await owner.do(*words.split())
            assert (refusal.value.code, bool(refusal.value.mend)) == (code, True), words
            assert "nothing was changed" in str(refusal.value), words
        assert owner.opened.membership.digest() == before


async def test_nobody_is_invited_to_do_nothing(tmp_path: Path) -> None:
    async with owner_in(tmp_path) as owner:
        await owner.do("revoke", "default")
        with pytest.raises(Refusal, match="may do nothing"):
            await owner.do("share")
        assert (await owner.sharing_role("guest")) == "reader"


async def test_who_is_told_of_a_change_is_told_what_it_does_to_every_device(tmp_path: Path) -> None:
    async with owner_in(tmp_path) as owner:
        await owner.do("user", "add", "ada")
        await owner.let_in(PHONE, "phone", "ada")
        await owner.let_in(DESKTOP, "tower", "ada")
        secrets = owner.opened.secrets.current
        own = await owner.desk.grant(GrantRequest(NAME, "tower", "reader"))
        assert (own.kind, own.was, own.may) == ("device", "inherit", "reader")
        both = await owner.desk.grant(GrantRequest(NAME, "ada", "none"))
        assert [(one.device, one.role, one.was) for one in both.changed] == [
            ("phone", "none", "writer"),
            ("tower", "none", "reader"),
        ]
        assert owner.opened.secrets.current != secrets, "what is stored from now on they cannot open"
        back = await owner.desk.grant(GrantRequest(NAME, "ada", "writer"))
        assert [(one.device, one.role) for one in back.changed] == [("phone", "writer"), ("tower", "reader")]
        assert back.kept == ("tower",)
        await owner.desk.group(GroupRequest(NAME, "add", "family", ("ada",), "reader"))
        report = owner.desk.people(PeopleRequest(NAME))
        (ada,), (family,) = report.users, report.groups
        assert (ada.role, ada.may, ada.by, ada.groups) == ("writer", "writer", "user", ("family",))
        assert (ada.devices, family.users, family.role) == (("phone", "tower"), ("ada",), "reader")
        assert (report.default, report.guest) == ("writer", "reader")
        again = await owner.desk.user(UserRequest(NAME, "add", "ada", ("phone",)))
        assert (again.is_new, again.is_changed, again.changed) == (False, False, ())
        gone = await owner.desk.user(UserRequest(NAME, "remove", "ada"))
        assert ([one.role for one in gone.changed], gone.user) == (["none", "none"], None)
        assert [one.name for one in owner.opened.membership.all_admitted()] == ["laptop"]


async def test_a_guest_is_not_invited_as_an_owner(tmp_path: Path) -> None:
    async with owner_in(tmp_path) as owner:
        request = ShareRequest(NAME, role="owner", user="guest")
        async with aclosing(owner.sharing.share(request)) as items:
            with pytest.raises(Refusal, match="no owner") as refusal:
                await anext(items)
        assert refusal.value.code == "usage"


async def test_an_invitation_for_a_user_who_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    async with owner_in(tmp_path) as owner:
        with pytest.raises(Refusal) as refusal:
            await owner.sharing_role("ada")
        assert refusal.value.mend == "dittofs user add ada --volume Shared"


async def test_what_was_given_to_a_user_and_is_less_than_a_group_gives_is_said_to_be_only_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with owner_in(tmp_path) as owner:
        await owner.do("user", "add", "bob")
        await owner.desk.group(GroupRequest(NAME, "add", "family", ("bob",), "writer"))
        tell_people(await owner.desk.grant(GrantRequest(NAME, "bob", "reader")))
        said = capsys.readouterr().out
        assert "reader was noted, but family makes bob a writer" in said
        assert "dittofs group leave family bob" in said


async def test_an_owners_device_that_is_made_a_users_is_said_to_stay_an_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with owner_in(tmp_path) as owner:
        result = await owner.desk.user(UserRequest(NAME, "add", "ada", ("laptop",)))
        assert (result.kept, result.owners) == ((), ("laptop",))
        say_changes(result.changed, result.kept, result.owners)
        assert capsys.readouterr().out == "laptop stays an owner.\n"


async def test_ending_what_the_default_was_set_to_says_that_it_is_as_at_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with owner_in(tmp_path) as owner:
        await owner.do("grant", "default", "reader")
        tell_people(await owner.desk.grant(GrantRequest(NAME, "default", "inherit")))
        assert ", as at first (was reader)" in capsys.readouterr().out


async def test_nobody_becomes_owner_by_calling_itself_what_begins_the_id_of_another(tmp_path: Path) -> None:
    async with owner_in(tmp_path) as owner:
        await owner.let_in(DESKTOP, "tower")
        await owner.let_in(PHONE, "phone")
        there = DESKTOP.id.hex()
        await owner.calls_itself(PHONE, there[:8])
        before = owner.opened.membership.digest()
        for words in (
            ("grant", there[:8], "owner"),
            ("grant", f"device:{there[:8]}", "owner"),
            ("revoke", there[:8]),
            ("user", "add", "ada", there[:8]),
        ):
            with pytest.raises(Refusal, match="several devices are meant") as refusal:
                await owner.do(*words)
            assert there[:12] in str(refusal.value)
            assert PHONE.id.hex()[:8] in str(refusal.value)
        with pytest.raises(Refusal, match="several devices are meant"):
            await MemberDesk(owner.node, owner.mounting).remove(RemoveRequest(NAME, there[:8]))
        with pytest.raises(Refusal, match="several devices are meant"):
            await LimitDesk(owner.node).limit(LimitRequest("set", "up", "2MB/s", there[:8]))
        with pytest.raises(Refusal, match="several devices are meant"):
            author(owner.opened, there[:8])
        assert owner.opened.membership.digest() == before
        await owner.calls_itself(PHONE, there)
        await owner.do("grant", there, "owner")
        membership = owner.opened.membership
        assert (membership.role(DESKTOP.id), membership.role(PHONE.id)) == (Role.OWNER, Role.WRITER)
        assert author(owner.opened, there) == there


@pytest.mark.parametrize("name", ["default", "guest", "user:ada", "group:family", "device:tower"])
async def test_what_a_device_calls_itself_takes_nothing_from_others(tmp_path: Path, name: str) -> None:
    async with owner_in(tmp_path) as owner:
        await owner.do("user", "add", "ada")
        await owner.do("group", "add", "family", "ada")
        await owner.let_in(DESKTOP, "tower", "ada")
        await owner.let_in(PHONE, "phone")
        await owner.calls_itself(PHONE, name)
        before = owner.opened.membership.digest()
        with pytest.raises(Refusal, match="device") as refusal:
            await owner.do("revoke", name)
        assert (refusal.value.code, owner.opened.membership.digest()) == ("usage", before)
        await owner.do("revoke", f"device:{name}")
        assert owner.opened.membership.admitted(PHONE.id) is None
        assert owner.opened.membership.role(DESKTOP.id) == Role.WRITER
        await owner.do("grant", name, "reader")


async def test_a_name_of_people_that_begins_the_id_of_a_device_is_not_taken_for_either(
    tmp_path: Path,
) -> None:
    async with owner_in(tmp_path) as owner:
        await owner.let_in(PHONE, "phone")
        start = PHONE.id.hex()[:4]
        await owner.do("user", "add", start)
        with pytest.raises(Refusal, match="is a device and a user"):
            await owner.do("revoke", start)
        await owner.do("revoke", f"user:{start}")
        assert owner.opened.membership.role(PHONE.id) == Role.WRITER
