"""`share`, `join`, `sync`, `devices` against a small service; whole: tests/e2e/test_sharing_commands.py."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from dittofs.cli.devices import standing
from dittofs.cli.output import Progress
from dittofs.control.client import Client
from dittofs.control.protocol import MemberStatus
from dittofs.control.sharing import PingItem, PingReply, PingRequest, ShareEnded
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import LATE, SLOW, SmallService

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")
CODE = "7-cabin-velvet"
NAS = MemberStatus("nas", "cd" * 32, "writer")
DESKTOP = MemberStatus(
    "desktop", "ef" * 32, "reader", is_online=True, path="tcp 192.0.2.7:7347", round_trip_s=0.003
)


def test_sharing_prints_the_whole_command_and_then_who_came(shell: Shell, service: SmallService) -> None:
    assert shell.run("share") == 0
    assert "  dittofs join 7-cabin-velvet\n" in shell.out
    assert "  dittofs join 'dittofs://join/1?d=x&k=y'\n" in shell.out
    assert "  dittofs join 192.0.2.2:7347     fingerprint: abab abab abab abab" in shell.out
    assert "█" not in shell.out  # no terminal, no square
    assert 'desktop (tcp 192.0.2.7:7347) joined "Shared" as writer' in shell.out.splitlines()[-1]
    assert service.files == {}


def test_a_member_that_is_given_another_role_is_said_to_have_had_one(
    shell: Shell, service: SmallService
) -> None:
    service.share_ends = ShareEnded("joined", "nas", "cd" * 32, "owner", was="writer")
    assert shell.run("share") == 0
    assert 'nas is now owner of "Shared" (was writer)' in shell.out
    service.share_ends = ShareEnded("joined", "nas", "cd" * 32, "writer")
    assert shell.run("share") == 0
    assert 'joined "Shared" as writer. It is empty yet.' in shell.out


def test_for_a_program_the_ticket_comes_at_once(shell: Shell, service: SmallService) -> None:
    assert shell.run("share", "Shared", "--role", "reader", "--json") == 0
    assert (shell.json()["role"], shell.json()["ticket"]) == ("reader", "dittofs://join/1?d=x&k=y")
    assert shell.json()["command"] == "dittofs join 7-cabin-velvet"
    assert shell.run("share", "--json", "--wait") == 0
    assert '"how":"joined"' in shell.out.splitlines()[1]
    assert service.files == {}


def test_an_invitation_that_nobody_used_is_no_success(shell: Shell, service: SmallService) -> None:
    for how, word in (("late", "ten minutes"), ("burnt", "wrong code")):
        service.share_ends = ShareEnded("late" if how == "late" else "burnt")
        assert shell.run("share") == 1
        assert word in shell.err
        assert "dittofs share" in shell.err


def test_that_who_came_was_not_let_in_is_said_with_the_reason(shell: Shell, service: SmallService) -> None:
    service.share_ends = ShareEnded("refused", reason="it may do nothing")
    assert shell.run("share") == 1
    assert "not let in: it may do nothing" in shell.err


def test_what_cannot_be_shared_is_refused_before_anything_is_printed(
    shell: Shell, service: SmallService
) -> None:
    assert service.files == {}
    assert shell.run("share", "--bind", "192.0.2.1") == 1
    assert (shell.out, "listens elsewhere" in shell.err) == ("", True)
    assert shell.run("share", "--port", "70000") == 2
    assert shell.run("share", "Nonsense") == 1
    assert "neither a volume" in shell.err


def test_a_directory_that_cannot_be_used_is_refused_before_the_ticket_is(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert shell.run("join", CODE, tmp_path / "file") == 1
    assert shell.run("join", CODE, tmp_path) == 1
    assert "not empty" in shell.err
    assert f"dittofs join {CODE} {tmp_path}-shared" in shell.err  # mount would make another volume
    assert not home.exists()


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("", "nothing was given to join with"),
        ("10.0.0.1:xx", '"xx" is not a port: that is a number from 1 to 65535'),
        ("10.0.0.1:", '"" is not a port'),
        ("nas.local:70000", '"70000" is not a port'),
        ("1.2.3.400:7347", "'1.2.3.400' is not an IPv4 address"),
        ("99x", '"99x" is no whole code, which is a number and two words'),
        ("cabin-velvet", '"cabin-velvet" is no whole code'),
        ("7-cabin", "a code has a number and two words, or three, as in 7-cabin-velvet; this has 1"),
        ("nas", '"nas" is no code, no ticket and no HOST:PORT'),
        ("https://example.org/1", "is no code, no ticket and no HOST:PORT"),
        ("dittofs://join/1?d=x", "the device id in the ticket"),
    ],
)
def test_what_nobody_can_join_with_is_told_by_what_is_wrong_and_nothing_is_started(
    shell: Shell, home: Path, word: str, why: str
) -> None:
    assert shell.run("join", word) == 2
    assert why in shell.err
    assert "; nothing was done\n" in shell.err
    assert not home.exists()


@needs_fuse
def test_joining_says_role_inviter_and_what_follows(
    shell: Shell, service: SmallService, tmp_path: Path
) -> None:
    service.files[b"elsewhere"] = b"x"
    assert shell.run("join", CODE, tmp_path / "new") == 5  # a small service mounts nothing
    assert 'Joined "Shared" as reader, invited by desktop' in shell.out
    assert "contents follow" in shell.out
    assert service.mounted_at == os.fsencode(tmp_path / "new")
    del service.files[b"elsewhere"]
    assert shell.run("join", CODE, tmp_path / "new") == 5
    assert "\n0 files, 0 bytes.\n" in shell.out  # nothing follows
    assert shell.run("join", SLOW, tmp_path / "new") == 5
    assert "the rest of the names follows" in shell.out
    assert shell.run("join", LATE, tmp_path / "new") == 1
    assert "older than ten minutes" in shell.err


def test_a_ping_tells_each_answer_and_sums_them_up(shell: Shell, service: SmallService) -> None:
    assert service.files == {}
    assert shell.run("ping", "nas", "-c", "3", "-i", "0.1") == 0
    assert shell.out.splitlines() == [
        "1   no answer in time",
        "2   3.00 ms   tcp 192.0.2.7:7347",
        "3   1.00 ms   tcp 192.0.2.7:7347",
        "nas: 2 of 3 answered; least / mean / most / deviation 1.00 / 2.00 / 3.00 / 1.00 ms",
    ]
    assert shell.run("ping", "nas", "-c", "1") == 1
    assert "nas: 0 of 1 answered" in shell.out
    for option, wrong in (
        ("-c", "0"),
        ("-c", "00000001234567"),
        ("-c", "1000001"),
        ("-c", "x"),
        ("-i", "soon"),
        ("-W", "nan"),
        ("-i", "-1"),
    ):
        assert shell.run("ping", "nas", option, wrong) == 2
        assert f"argument {option}: '{wrong}' is no number" in shell.err
    assert shell.run("ping", "nobody") == 1


def test_a_ping_that_is_interrupted_sums_up_what_came(
    shell: Shell, service: SmallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.files == {}
    asked = Client.ping

    def until_control_c(self: Client, request: PingRequest) -> Iterator[PingItem]:
        for item in asked(self, request):
            yield item
            if isinstance(item, PingReply) and item.number == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Client, "ping", until_control_c)
    assert shell.run("ping", "nas", "-c", "100", "-i", "0.1") == 0
    assert "nas: 1 of 2 answered; least / mean / most" in shell.out


def test_sync_is_fine_only_when_everything_is_elsewhere(shell: Shell, service: SmallService) -> None:
    assert shell.run("sync") == 0
    assert "There is no other device" in shell.out
    service.others = [DESKTOP, NAS]
    assert shell.run("sync", "--timeout", "5") == 0
    assert "desktop has every change, and every version its copies (2)" in shell.out
    assert "nas will get it when connected" in shell.out
    service.unsent_bytes = 41_000_000
    assert shell.run("sync") == 3
    assert "1 file, 41 MB" in shell.err
    assert "no other device is connected" in shell.err
    assert "not safe elsewhere yet" in shell.err
    service.unsent_bytes, service.is_unconfirmed, service.others = 0, True, [NAS]
    assert shell.run("sync") == 3
    assert 'dittofs: "Shared": nobody is connected to confirm it' in shell.err
    service.unsent_bytes = 41_000_000
    assert shell.run("sync", "--json") == 3
    assert shell.json()["is_safe"] is False
    assert shell.run("sync", "--timeout", "-1") == 2


def test_sync_says_that_some_paths_have_another_number_of_copies(shell: Shell, service: SmallService) -> None:
    service.others = [DESKTOP, msgspec.structs.replace(NAS, is_online=True)]
    service.copies_wanted = "on-demand"
    assert shell.run("sync") == 0
    assert shell.out == "Shared: desktop and nas have every change; contents are sent on demand only.\n"
    service.rules_of_copies["thesis"] = "all"
    assert shell.run("sync") == 0
    assert "on demand only, but for the paths that `dittofs copies` lists.\n" in shell.out
    service.copies_wanted = "2"
    assert shell.run("sync") == 0
    assert "its copies (2, but for the paths that `dittofs copies` lists).\n" in shell.out


def test_a_sync_without_an_end_proves_nothing(shell: Shell, service: SmallService) -> None:
    assert service.files == {}
    assert shell.run("sync", "--timeout", "0.25") == 1
    assert "before this was known" in shell.err


def test_devices_are_listed_with_role_and_standing(shell: Shell, service: SmallService) -> None:
    assert shell.run("devices") == 0
    assert "No other device yet" in shell.out
    service.others = [DESKTOP, NAS]
    assert shell.run("devices") == 0
    assert shell.out.splitlines()[1:] == [
        "  laptop           owner   this device",
        "  desktop          reader  online   tcp 192.0.2.7:7347   3 ms   catching up",
        "  nas              writer  offline",
    ]
    assert shell.run("devices", "-v") == 0
    assert "cd" * 32 in shell.out
    assert shell.run("devices", "Shared", "--json") == 0
    assert [one["name"] for one in shell.json()[0]["devices"]] == ["laptop", "desktop", "nas"]
    assert shell.run("devices", "Shared", "x") == 2
    hour_ago = MemberStatus("nas", "", "writer", last_seen_ns=10**18)
    assert standing(hour_ago, 10**18 + 7200 * 10**9) == "offline   last seen 2 h ago"


def test_removing_a_device_says_whom_it_had_invited(shell: Shell, service: SmallService) -> None:
    service.others = [NAS]
    assert shell.run("devices", "remove", "phone") == 1
    assert shell.run("devices", "remove") == 2
    assert shell.run("devices", "remove", "nas") == 0
    assert "What it has already it keeps" in shell.out
    assert "It had invited phone" in shell.out
    assert service.others == []


def test_unmounting_what_is_only_here_exits_with_3(shell: Shell, service: SmallService) -> None:
    service.mounted_at, service.unsent_bytes = b"/srv/Shared", 5
    assert shell.run("unmount", "Shared") == 3
    assert "dittofs sync" in shell.err
    assert shell.run("unmount", "--force", "Shared") == 0


def test_leaving_is_refused_while_files_are_only_here(shell: Shell, service: SmallService) -> None:
    service.mounted_at, service.unsent_bytes = b"/srv/Shared", 5
    assert shell.run("leave", "Shared") == 3
    assert "only on this device" in shell.err
    assert shell.run("leave", "--force", "Shared") == 0
    assert "Unmounted /srv/Shared.\n" in shell.out
    assert "/home/ada/state" in shell.out
    assert "still count it as a member" in shell.err
    assert shell.run("leave") == 2


@pytest.mark.parametrize(("typed", "code"), [("acid\nACTOR\n", 0), ("acid\nacorn\n", 2), ("\n", 1), ("", 1)])
def test_the_owner_key_is_erased_only_when_two_words_are_typed_back(
    shell: Shell, service: SmallService, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert shell.run("recovery") == code
    assert " 1 acid        2 acorn       3 actor" in shell.out
    assert ("is erased" in shell.out) == (code == 0) == (service.words == ())
    assert "Word 1: Word 3: " in shell.err


def test_words_that_are_gone_are_said_to_be_and_json_erases_nothing(
    shell: Shell, service: SmallService
) -> None:
    assert shell.run("recovery", "--json") == 0
    assert (shell.json()["state"], shell.json()["words"]) == ("here", ["acid", "acorn", "actor"])
    service.words = ()
    assert shell.run("recovery") == 0
    assert "does not have the owner key" in shell.out


def test_copies_are_shown_and_set(shell: Shell, service: SmallService) -> None:
    assert shell.run("copies") == 0
    assert shell.out.startswith(
        'copies = 2: each content of "Shared" is held by 2 devices as soon as there are as many; now on the '
    )
    assert shell.run("copies", "all") == 0
    assert "every device" in shell.out
    assert "before: 2" in shell.out
    assert shell.run("copies", "Shared", "on-demand", "--json") == 0
    assert shell.json()["copies"] == service.copies_wanted == "on-demand"
    assert shell.run("copies", "Shared") == 0
    assert shell.run("copies", "Shared", "1") == 2
    for number in ("-1", "2x"):
        assert shell.run("copies", number, "Shared:") == 2
        assert f"not '{number}'; nothing was changed" in shell.err
    assert shell.run("copies", "Nonsense") == 2
    assert "none of all, on-demand, inherit, a number, and no volume" in shell.err
    assert shell.run("copies", "a", "b", "c") == 2
    assert shell.run("copies", "all", "Shared") == 0
    assert "every device" in shell.out
    service.others = [DESKTOP, NAS]
    assert shell.run("copies", "9") == 0
    assert "held by 9 devices as soon as there are as many; now on all 3" in shell.out
    assert shell.run("copies", "3") == 0
    assert "held by 3 devices (there are 3 devices)" in shell.out


def test_copies_of_a_path_are_shown_and_set(shell: Shell, service: SmallService) -> None:
    service.others = [DESKTOP, NAS]
    assert shell.run("copies", "all", "Shared:thesis") == 0
    assert 'copies = all: every device holds thesis in "Shared"' in shell.out
    assert shell.run("copies", "Shared:films", "on-demand") == 0
    assert 'contents of films in "Shared" go only where they are opened' in shell.out
    assert shell.run("copies") == 0
    assert shell.out.splitlines()[1:] == ["  on-demand  films", "  all        thesis"]
    assert shell.run("copies", "3", "Shared:main.odt") == 0
    assert "not to another that a program puts in its place" in shell.out
    assert shell.run("copies", "Shared:main.odt") == 0
    assert "in its place" not in shell.out
    assert shell.run("copies", "inherit", "films") == 0
    assert ", as the volume has it; before: on-demand" in shell.out
    assert shell.run("copies", "Shared:thesis", "--json") == 0
    assert (shell.json()["copies"], shell.json()["is_inherited"]) == ("all", False)
    assert shell.run("copies", "inherit") == 2
    assert shell.run("copies", "al", "Shared:thesis") == 2
    assert "al is no policy" in shell.err


@pytest.mark.usefixtures("service")
def test_who_no_longer_waits_is_told_that_the_invitation_stays(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__enter__", interrupted)
    assert shell.run("share") == 130
    assert "The invitation stays open" in shell.err


@pytest.mark.usefixtures("service")
def test_people_are_shown_and_changed(shell: Shell) -> None:
    cases = (
        ("user list", "ada              reader by family   phone and tablet   in family"),
        ("user", "Whoever was given nothing: writer.   Guests: reader."),
        (
            "user add bob nas --role reader",
            'Made the user bob, with nas, may read "Shared", and not change it.',
        ),
        ("user add bob", "To let a device of bob in:  dittofs share --user bob"),
        ("user remove ada", 'Removed ada from "Shared", with every device.'),
        ("group", "family           reader             ada"),
        ("group add family ada bob --role writer", "with ada and bob. It makes them writers."),
        ("group add family ada", "To give it one:  dittofs grant family reader"),
    )
    for words, said in cases:
        assert shell.run(*words.split()) == 0, words
        assert said in shell.out, words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("user list ada", "takes no name"),
        ("user add", "takes the name of a user"),
        ("user leave ada", "takes a user and devices"),
        ("user remove ada phone", "takes one user, and no devices"),
        ("user leave ada phone --role reader", "--role goes with user add"),
        ("group join family", "takes a group and users"),
        ("group lsit", "did you mean 'list'"),
        ("user remove eve", 'there is no user "eve"'),
    ],
)
@pytest.mark.usefixtures("service")
def test_words_about_people_that_make_no_sense_are_refused(shell: Shell, words: str, said: str) -> None:
    assert shell.run(*words.split()) in (1, 2)
    assert said in shell.err
