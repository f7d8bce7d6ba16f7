"""Random histories of member records, back-dated ones among them, against the rules said slowly."""

import functools
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.identity.keys import Device, DeviceId, make_volume_secrets
from dittofs.identity.membership import Membership
from dittofs.identity.people import By, Standing
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Body, Kind, PublicsFields, Record, Role, parse_record, sign_record
from tests.unit.identity.devices import DESKTOP, ENTROPY, LAPTOP, NAS, PHONE, PUPPET, STRANGER

DEVICES = (LAPTOP, DESKTOP, NAS, PHONE, STRANGER)
SECRETS = make_volume_secrets(ENTROPY)
VOLUME = SECRETS.volume_id
assert SECRETS.root is not None
ROOT_SIGNING = SECRETS.root.signing()
RECORDS = 14
USERS = ("ada", "bob")
GROUPS = ("family", "guests")

FIELDS = {
    device.id: PublicsFields(publics.certificate, publics.wrapping, publics.proof)
    for device in (*DEVICES, PUPPET)
    for publics in [make_publics(device)]
}


def member_record(author: Device | None, parents: list[bytes], subject: DeviceId, role: Role) -> bytes:
    """A record as `author` (None: the root) would sign it, whatever it knows or may."""
    is_given = role > Role.NONE
    body = Body(
        v=1,
        volume=VOLUME,
        kind=int(Kind.MEMBER),
        signer=author.id if author else VOLUME,
        parents=sorted(set(parents)),
        subject=subject,
        publics=FIELDS[subject] if is_given else None,
        role=int(role),
        name="a device" if is_given else "",
    )
    return sign_record(body, author.signing if author else ROOT_SIGNING)


def record_of(author: Device | None, parents: list[bytes], kind: Kind, **fields: object) -> bytes:
    """Any other record about people, as `author` (None: the root) would sign it."""
    body = Body(
        v=1,
        volume=VOLUME,
        kind=int(kind),
        signer=author.id if author else VOLUME,
        parents=sorted(set(parents)),
    )
    signing = author.signing if author else ROOT_SIGNING
    return sign_record(msgspec.structs.replace(body, **fields), signing)


def any_record(draw: random.Random, author: Device | None, parents: list[bytes], about: float = 0.5) -> bytes:
    """Something about a device, or, with the probability `about`, about people."""
    subject = author if author and draw.random() < 0.15 else draw.choice(DEVICES)
    if draw.random() >= about:
        role = draw.choice([Role.NONE, Role.NONE, Role.READER, Role.WRITER, *[Role.OWNER] * 3])
        return member_record(author, parents, subject.id, role)
    match draw.randint(0, 3):
        case 0:
            publics = FIELDS[subject.id]
            fields = {"subject": subject.id, "publics": publics, "role": int(Role.READER), "name": "a device"}
            return record_of(author, parents, Kind.MEMBER, **fields, inherits=True)
        case 1:
            return record_of(author, parents, Kind.USER, subject=subject.id, name=draw.choice(["", *USERS]))
        case 2:
            name, group = draw.choice(
                [("", ""), ("guest", ""), *((user, "") for user in USERS), *(("", one) for one in GROUPS)]
            )
            given = draw.choice([None, Role.NONE, Role.READER, Role.WRITER])
            return record_of(
                author,
                parents,
                Kind.STANDING,
                name=name,
                group=group,
                role=int(given or 0),
                inherits=given is None,
            )
        case _:
            name, group = draw.choice(USERS), draw.choice(GROUPS)
            is_in = draw.random() < 0.7
            return record_of(author, parents, Kind.GROUP, name=name, group=group, inherits=is_in)


def heads_of(membership: Membership, chosen: list[bytes]) -> list[bytes]:
    """Those of `chosen` that are no ancestors of others of them."""
    return [one for one in chosen if not any(membership.knew(other, one) for other in chosen)]


def history(draw: random.Random, about: float = 0.0) -> Membership:
    """A membership of records whose signers knew all, or part, of what was there; `about`: of people."""
    membership = Membership(SECRETS.genesis)
    membership.add([member_record(None, [], LAPTOP.id, Role.OWNER)])
    for _ in range(RECORDS):
        known = list(membership.records)
        count = len(known) if draw.random() < 0.5 else draw.randint(0, len(known))
        parents = heads_of(membership, draw.sample(known, count))
        author = None if draw.random() < 0.15 else draw.choice(DEVICES)
        try:
            membership.add([any_record(draw, author, parents, about)])
        except FormatError:
            continue  # the author had no say: nothing was added
    return membership


@dataclass
class Oracle:
    """The rules as they are written down, as sets and recursion."""

    membership: Membership

    def __post_init__(self) -> None:
        self.records: dict[bytes, Record] = {one.id: one for one in self.membership.parsed()}
        self.past: dict[bytes, frozenset[bytes]] = {}
        for one in self.membership.parsed():
            parents = one.body.parents
            self.past[one.id] = frozenset(parents).union(*(self.past[parent] for parent in parents))
        self.counts_at = functools.cache(self._counts_at)

    def rank(self, identity: bytes) -> int | None:
        if self.records[identity].is_resignation:
            return -1
        return next((rank for rank in range(len(self.records) + 1) if self.counts_at(identity, rank)), None)

    def outranks(self, identity: bytes, rank: int) -> bool:
        """Whether the record counts at a rank below `rank`."""
        if self.records[identity].is_resignation:
            return True
        return any(self.counts_at(identity, lower) for lower in range(rank))

    def grants(self, device: bytes, rank: int) -> Iterator[bytes]:
        for one in self.records.values():
            if (
                one.body.subject == device
                and one.kind == Kind.MEMBER
                and one.role == Role.OWNER
                and self.outranks(one.id, rank)
            ):
                yield one.id

    def losses(self, device: bytes, rank: int) -> Iterator[bytes]:
        for one in self.records.values():
            if one.kind != Kind.MEMBER or one.body.subject != device:
                continue
            if one.role < Role.OWNER and self.outranks(one.id, rank):
                yield one.id

    def _counts_at(self, identity: bytes, rank: int) -> bool:
        record, past = self.records[identity], self.past[identity]
        if record.is_resignation:
            return False
        if record.body.signer == VOLUME or rank == 0:
            return record.body.signer == VOLUME and rank == 0
        signer = record.body.signer
        grants = set(self.grants(signer, rank))
        is_owner = any(self.counts_at(grant, rank - 1) for grant in grants & past)
        is_free = all(
            identity in self.past[loss] or any(loss in self.past[again] for again in grants & past)
            for loss in self.losses(signer, rank)
        )
        known_losses = [loss for loss in self.losses(record.body.subject, rank) if loss in past]
        is_above = (
            record.kind != Kind.MEMBER
            or record.role == Role.OWNER
            or all(
                identity in self.past[grant] or any(grant in self.past[loss] for loss in known_losses)
                for grant in self.grants(record.body.subject, rank)
            )
        )
        return is_owner and is_free and is_above

    def last_word(self, kind: Kind, **about: object) -> Record | None:
        """The record that decides of those that say `about`, as the rules have it."""
        found = {
            one.id: self.rank(one.id)
            for one in self.records.values()
            if one.kind == kind and all(getattr(one.body, field) == value for field, value in about.items())
        }
        counted = {identity: rank for identity, rank in found.items() if rank is not None}
        last = [one for one in counted if not any(one in self.past[other] for other in counted)]

        def gives(identity: bytes) -> tuple[int, int]:
            record = self.records[identity]
            if kind == Kind.MEMBER:
                return record.role, record.body.inherits
            return record.body.inherits, record.role

        best = min(((counted[one], gives(one), one) for one in last), default=None)
        return None if best is None else self.records[best[2]]

    def given(self, name: str, group: str) -> Role | None:
        said = self.last_word(Kind.STANDING, name=name, group=group)
        return None if said is None or said.body.inherits else said.role

    def role(self, device: bytes) -> Role:
        own = self.last_word(Kind.MEMBER, subject=device)
        if own is None or own.role in (Role.NONE, Role.STORE, Role.OWNER):
            return Role.NONE if own is None else own.role
        whose = self.last_word(Kind.USER, subject=device)
        user = whose.body.name if whose else ""
        said = self.given(user, "") if user else None
        if said == Role.NONE:
            return Role.NONE
        if not own.body.inherits:
            return own.role
        roles: list[Role] = [] if said is None else [said]
        for group in GROUPS:
            is_in = self.last_word(Kind.GROUP, name=user, group=group)
            role = self.given("", group)
            if is_in is not None and is_in.body.inherits and role is not None:
                roles.append(role)
        default = self.given("", "")
        return max(roles) if roles else Role.WRITER if default is None else default


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 2**64))
def test_ranks_and_roles_are_as_the_rules_say_in_whatever_order_the_records_come(seed: int) -> None:
    draw = random.Random(seed)
    membership = history(draw, draw.choice([0.0, 0.6]))
    shuffled = list(membership.records.values())
    draw.shuffle(shuffled)
    cut = draw.randint(0, len(shuffled))
    twin = Membership(SECRETS.genesis)
    twin.add(list(membership.records.values())[:cut])
    twin.add(shuffled)
    assert twin.digest() == membership.digest()
    oracle = Oracle(membership)
    for identity in membership.records:
        counts = oracle.rank(identity) is not None
        assert membership.counts(identity) == twin.counts(identity) == counts
    for device in DEVICES:
        assert membership.role(device.id) == twin.role(device.id) == oracle.role(device.id)
    assert membership.members() == twin.members()
    for device in DEVICES:
        assert membership.standing(device.id) == twin.standing(device.id)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64))
def test_whatever_is_said_of_users_and_groups_the_owners_are_the_same_and_who_is_out_stays_out(
    seed: int,
) -> None:
    draw = random.Random(seed)
    membership = history(draw)
    owners = [one.device for one in membership.owners()]
    admitted = [one.device for one in membership.all_admitted()]
    for _ in range(8):
        author = None if draw.random() < 0.3 else draw.choice(DEVICES)
        signed = any_record(draw, author, membership.heads(), 1.0)
        if parse_record(signed, VOLUME).kind != Kind.MEMBER:
            with suppress(FormatError):  # the author had no say
                membership.add([signed])
    assert [one.device for one in membership.owners()] == owners
    assert [one.device for one in membership.all_admitted()] == admitted
    roles = {one.device: one.role for one in membership.members()}
    assert roles.keys() <= set(admitted)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64))
def test_no_device_of_a_revoked_user_may_do_anything_but_an_owner(seed: int) -> None:
    draw = random.Random(seed)
    membership = history(draw, 0.6)
    user = draw.choice(USERS)
    parents = membership.heads()
    membership.add([record_of(None, parents, Kind.STANDING, name=user)])
    for _ in range(4):  # at the same time, by who outranks nobody
        with suppress(FormatError):
            membership.add([any_record(draw, draw.choice(DEVICES), parents, 0.8)])
    for device in DEVICES:
        if membership.people.user_of(device.id) == user and membership.role(device.id) != Role.NONE:
            assert membership.role(device.id) == Role.OWNER
        if membership.standing(device.id) == Standing(Role.NONE, By.USER):
            assert membership.admitted(device.id) is not None


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 2**64))
def test_exactly_an_owner_has_a_say(seed: int) -> None:
    membership = history(random.Random(seed))
    for device in DEVICES:
        trial = membership.copy()
        fresh = member_record(device, trial.heads(), DeviceId(bytes(32)), Role.NONE)
        try:
            has_say = trial.counts(trial.add([fresh])[0])
        except FormatError:
            has_say = False
        assert has_say == (membership.role(device.id) == Role.OWNER)


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 2**64))
def test_what_a_removed_owner_dates_back_or_has_puppets_do_changes_nothing(seed: int) -> None:
    draw = random.Random(seed)
    membership = history(draw, draw.choice([0.0, 0.6]))
    removed = draw.choice(DEVICES)
    membership.add([member_record(None, membership.heads(), removed.id, Role.NONE)])
    before = [membership.role(device.id) for device in (*DEVICES, PUPPET)]
    past = list(membership.parsed()[-1].body.parents)
    for _ in range(6):
        author, subject = draw.sample([removed, PUPPET, draw.choice(DEVICES)], 2)
        if author not in (removed, PUPPET) or author is subject:
            continue  # the others have heard
        role = draw.choice([Role.NONE, Role.WRITER, Role.OWNER, Role.OWNER])
        about_device = member_record(author, past, subject.id, role)
        try:
            added = membership.add(
                [about_device if draw.random() < 0.6 else any_record(draw, author, past, 1.0)]
            )
        except FormatError:
            continue
        past = heads_of(membership, [*past, *added])
        assert [membership.role(device.id) for device in (*DEVICES, PUPPET)] == before


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64), st.sampled_from([Role.NONE, Role.READER, Role.WRITER]))
def test_owners_of_one_rank_cannot_take_anything_from_each_other(seed: int, role: Role) -> None:
    draw = random.Random(seed)
    membership = Membership(SECRETS.genesis)
    for device in DEVICES:
        membership.add([member_record(None, membership.heads(), device.id, Role.OWNER)])
    known = list(membership.records)
    for _ in range(6):
        author, subject = draw.sample(DEVICES, 2)
        parents = heads_of(membership, [*known, *draw.sample(list(membership.records), 2)])
        membership.add([member_record(author, parents, subject.id, role)])
    assert [membership.role(device.id) for device in DEVICES] == [Role.OWNER] * len(DEVICES)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64))
def test_who_resigns_is_out_whatever_others_say_at_the_same_time(seed: int) -> None:
    draw = random.Random(seed)
    membership = history(draw)
    for leaver in DEVICES:
        given_by = membership.deciding(leaver.id)
        if given_by is None or not given_by.is_grant:
            continue
        concurrent = [
            member_record(None, membership.heads(), leaver.id, draw.choice([Role.WRITER, Role.OWNER]))
            for _ in range(2)
        ]
        trial = membership.copy()
        trial.add([member_record(leaver, [given_by.id], leaver.id, Role.NONE), *concurrent])
        assert trial.role(leaver.id) == Role.NONE
        back = member_record(None, trial.heads(), leaver.id, Role.WRITER)
        trial.add([back])
        assert trial.role(leaver.id) == Role.WRITER
