"""cache, and devices retired and back, against a small service."""

import json

import msgspec

from dittofs.control.storage import Amount, Awaited, GarbageRound
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

HOUR_NS = 3_600 * 10**9
FAR_NS = 10**19 // 4


def test_cache_says_what_is_stored_and_how_to_give_garbage_back(shell: Shell, service: SmallService) -> None:
    assert shell.run("cache", "stats") == 0
    assert "300 bytes   3 chunks, named by what the volume shows now" in shell.out
    assert shell.out.splitlines()[-1] == "To begin giving it back:  dittofs cache gc"
    assert shell.run("cache", "stats", "--detailed") == 0
    assert "pack-1" in shell.out
    assert shell.run("cache", "stats", "--json") == 0
    assert json.loads(shell.out)["garbage"] == {"chunks": 1, "bytes": 100}
    service.stored = msgspec.structs.replace(service.stored, garbage=Amount())
    assert shell.run("cache", "stats") == 0
    assert shell.out.splitlines()[-1] == "No garbage."


def test_cache_gc_says_what_went_and_its_dry_run_what_would(shell: Shell, service: SmallService) -> None:
    assert service.stored.garbage.chunks == 1
    assert shell.run("cache", "gc", "--dry-run") == 0
    assert shell.out.startswith("Nothing names 1 chunk, 100 bytes.")
    assert shell.run("cache", "gc") == 0
    assert shell.out.startswith("Swept 1 chunk, 100 bytes; 100 bytes given back to the disk.")
    service.stored = msgspec.structs.replace(service.stored, garbage=Amount())
    assert shell.run("cache", "gc", "--dry-run") == 0
    assert shell.out == "No garbage.\n"
    assert shell.run("cache", "stats", "--dry-run") == 2
    assert "dittofs cache gc --dry-run" in shell.err


def test_cache_names_who_has_not_answered_and_what_to_do_about_it(
    shell: Shell, service: SmallService
) -> None:
    waiting = GarbageRound(HOUR_NS, FAR_NS, Amount(4, 400), (Awaited("phone", "ab", HOUR_NS),))
    service.stored = msgspec.structs.replace(service.stored, round=waiting)
    assert shell.run("cache", "stats") == 0
    assert "when phone has answered: not seen since the round began" in shell.out
    assert shell.out.splitlines()[-1] == "If it never comes back:  dittofs devices retire phone"


def test_a_device_is_retired_and_comes_back_and_either_twice_is_said(
    shell: Shell, service: SmallService
) -> None:
    assert service.retired == {"laptop"}
    assert shell.run("devices", "retire", "nas") == 0
    assert shell.out.startswith("Retired nas.")
    assert "2 files, 20 bytes, may be there alone" in shell.out
    assert shell.run("devices", "retire", "nas") == 0
    assert shell.out.startswith("Already retired: nas.")
    assert shell.run("devices", "rejoin") == 0
    assert 'laptop is a device of "Shared".' in shell.out
    assert shell.run("devices", "rejoin") == 0
    assert 'laptop was never retired from "Shared".' in shell.out
    assert shell.run("devices", "retire", "nobody") == 1
    assert "dittofs devices -v" in shell.err
    assert shell.run("devices", "retire") == 2
