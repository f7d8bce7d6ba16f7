"""list, add, get and check, against a small service."""

import io
import json
import os
from pathlib import Path

import pytest

from dittofs.cli.add import file_parts
from dittofs.cli.output import Progress
from dittofs.control.faults import Refusal
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService


def test_list_shows_size_name_and_a_sum_last(shell: Shell, service: SmallService) -> None:
    service.files = {b"docs/a.txt": b"12345", b"evil\x1b\n\xff": b"1"}
    assert shell.run("list") == 0
    *entries, last = shell.out.splitlines()
    assert [line.split("   ")[-2] for line in entries] == ["docs/a.txt", r"evil\x1b\n\xff"]
    assert entries[0].endswith("[5 bytes not here]")
    assert last == "2 files, 6 bytes in Shared"


def test_list_in_json_has_one_object_a_line_with_exact_names(shell: Shell, service: SmallService) -> None:
    service.files = {b"a": b"12345", b"\xff": b"1"}
    assert shell.run("list", "-v", "--json") == 0
    items = [json.loads(line) for line in shell.out.splitlines()]
    assert [item["type"] for item in items] == ["entry", "chunks"] * 2
    assert items[2]["path_raw"] == "/w=="


def test_a_volume_is_named_by_a_prefix_and_an_unknown_path_is_refused(
    shell: Shell, service: SmallService
) -> None:
    service.files = {b"docs/a": b"1", b"other": b"2"}
    assert shell.run("list", "Shared:docs") == 0
    assert "docs/a" in shell.out
    assert "other" not in shell.out
    assert shell.run("list", "/no/such/mount") == 1
    assert "it has: Shared" in shell.err


def test_add_stores_a_file_with_its_mode_and_says_where(shell: Shell, service: SmallService) -> None:
    Path("a b.txt").write_text("hello")
    assert shell.run("add", "a b.txt", "--to", "Shared:new/dir") == 0
    assert service.files == {b"new/dir/a b.txt": b"hello"}
    assert shell.out == "Added Shared:new/dir/a b.txt   5 bytes\n"


def test_add_takes_names_of_any_bytes(shell: Shell, service: SmallService) -> None:
    name = os.fsdecode(b"\xff\n.txt")
    Path(name).write_text("x")
    assert shell.run("add", name) == 0
    assert service.files == {b"\xff\n.txt": b"x"}
    assert r"\xff\n.txt" in shell.out


def test_add_never_replaces_unasked(shell: Shell, service: SmallService) -> None:
    service.files[b"a"] = b"old"
    Path("a").write_text("new")
    assert shell.run("add", "a") == 1
    assert "--replace" in shell.err
    assert service.files == {b"a": b"old"}
    assert shell.run("add", "--replace", "a") == 0
    assert service.files == {b"a": b"new"}


def test_add_refuses_what_is_no_file(shell: Shell, service: SmallService) -> None:
    Path("directory").mkdir()
    assert shell.run("add", "directory") == 2
    assert "directory is a directory; it was not added" in shell.err
    assert shell.run("add", "absent") == 1
    assert shell.err == "dittofs: absent: No such file or directory; it was not added\nWhat is there:  ls .\n"
    os.mkfifo("pipe")
    assert shell.run("add", "pipe") == 2
    assert service.files == {}


def test_a_file_that_shrinks_while_it_is_read_is_not_added() -> None:
    with Progress("a") as progress, pytest.raises(Refusal, match="became shorter"):
        list(file_parts(io.BytesIO(b"abc"), "a", 10, progress))
    with Progress("a") as progress:
        assert b"".join(file_parts(io.BytesIO(b"abc and more"), "a", 3, progress)) == b"abc"


def test_get_writes_the_file_whole_with_its_mode_and_time(shell: Shell, service: SmallService) -> None:
    service.files[b"docs/a"] = bytes(300_000)
    assert shell.run("get", "--file", "Shared:docs/a", "-o", "out") == 0
    found = Path("out").stat()
    assert (found.st_size, found.st_mtime_ns) == (300_000, 1_700_000_000_000_000_001)
    assert found.st_mode & 0o777 == 0o640 & ~_umask()
    assert names() == ["out"]


def names() -> list[str]:
    return [path.name for path in Path().iterdir()]


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_get_without_an_output_writes_a_file_of_the_same_name(shell: Shell, service: SmallService) -> None:
    service.files[b"docs/a"] = b"new"
    assert shell.run("get", "Shared:docs/a") == 0
    assert Path("a").read_bytes() == b"new"
    assert shell.run("get", "docs/a") == 1
    assert "-o" in shell.err
    assert shell.run("get", "--hashes", "ab" * 32) == 2
    assert "-o FILE" in shell.err
    assert shell.run("get", "-o", "out") == 2


def test_get_replaces_only_by_force_and_leaves_nothing_of_a_failure(
    shell: Shell, service: SmallService
) -> None:
    service.files[b"a"] = b"new"
    Path("out").write_text("mine")
    assert shell.run("get", "--file", "Shared:a", "-o", "out") == 1
    assert "--force" in shell.err
    assert shell.run("get", "--file", "Shared:nope", "-o", "out", "--force") == 1
    assert "dittofs list Shared:" in shell.err
    assert "Shared:nope" in shell.err
    assert shell.run("list", "Shared:nope") == 1
    assert "dittofs list Shared:" in shell.err
    assert (names(), Path("out").read_text()) == (["out"], "mine")
    assert shell.run("get", "--file", "Shared:a", "-o", "out", "--force", "--json") == 0
    assert shell.json()["size"] == 3
    assert Path("out").read_text() == "new"


@pytest.mark.logs_warning("a request failed by a bug", "a reply was cut short")
def test_get_leaves_no_half_file_when_the_reply_is_cut(shell: Shell, service: SmallService) -> None:
    assert service.files == {}
    assert shell.run("get", "--hashes", "ab" * 32, "-o", "out") == 1
    assert "whole" in shell.err
    assert names() == []


def test_get_writes_to_stdout(service: SmallService, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from dittofs.cli.main import main

    service.files[b"a"] = b"\x00\xffbytes"
    assert main(["get", "--file", "Shared:a", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == b"\x00\xffbytes"


def test_hashes_that_are_none_are_usage_errors(shell: Shell, service: SmallService) -> None:
    assert service.files == {}
    for hashes in ("xyz", ",", "ab"):
        assert shell.run("get", "--hashes", hashes, "-o", "out") == 2
        assert "dittofs list -v shows them" in shell.err


def test_an_output_that_cannot_be_made_is_named_as_it_was_given(shell: Shell, service: SmallService) -> None:
    service.files = {b"a": b"1"}
    assert shell.run("get", "--file", "a", "-o", "absent/out") == 1
    assert shell.err == "dittofs: absent/out: No such file or directory\n"


def test_a_volume_that_does_not_exist_is_never_taken_for_a_name(shell: Shell, service: SmallService) -> None:
    Path("a").write_text("x")
    assert shell.run("add", "a", "--to", "Sahred:letters") == 1
    assert 'no volume "Sahred"' in shell.err
    assert "Shared:Sahred:letters" in shell.err
    assert service.files == {}


def test_check_exits_with_5_on_a_finding_and_0_when_all_is_well(shell: Shell, service: SmallService) -> None:
    service.files = {b"a": b"1", b"b\x1b": b"2"}
    assert shell.run("check") == 0
    assert "everything is as it was written" in shell.out
    service.damaged = {b"b\x1b"}
    assert shell.run("check") == 5
    assert r"DAMAGE   chunk b\x1b: its hash differs" in shell.out
    assert shell.run("check", "--json") == 5
    assert json.loads(shell.out.splitlines()[-1])["type"] == "done"


def test_a_check_that_does_not_reach_its_end_is_a_failure(shell: Shell, service: SmallService) -> None:
    service.files = {b"a": b"unreadable"}
    assert shell.run("check") == 1
    assert "the disk does not answer" in shell.err
    assert "as it was written" not in shell.out
    service.files = {b"a": b"endless"}
    assert shell.run("check") == 1
    assert "proves nothing" in shell.err


def test_what_get_does_not_find_is_named_once(shell: Shell, service: SmallService) -> None:
    assert service.files == {}
    assert shell.run("get", "Shared:docs/absent") == 1
    assert shell.err.startswith("dittofs: Shared:docs/absent: No such file or directory\n")
