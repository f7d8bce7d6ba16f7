"""Options after -o."""

from pathlib import Path

import pytest

from dittofs.control.faults import Refusal
from dittofs.control.options import is_user_allow_other, parse_options, split_options


@pytest.fixture
def permissive(tmp_path: Path) -> Path:
    conf = tmp_path / "fuse.conf"
    conf.write_text("# mounts\nuser_allow_other\n")
    return conf


def test_the_later_of_two_that_contradict_counts() -> None:
    assert parse_options(["ro", "rw"]).kernel == ()
    options = parse_options(["rw", "ro", "exec", "noexec", "noatime", "relatime"])
    assert options.kernel == ("noexec", "ro")


def test_the_usual_options_of_fuse_and_of_fstab_are_taken() -> None:
    words = "default_permissions,nodev,nosuid,atime,nodiratime,sync,async,dirsync"
    words += ",defaults,_netdev,x-systemd.automount"
    assert parse_options(split_options(words)).kernel == ("dirsync", "nodiratime")


def test_values_are_checked() -> None:
    options = parse_options(["max_read=131072", "fsname=Müllers Daten"])
    assert (options.kernel, options.fsname) == (("max_read=131072",), "Müllers Daten")
    for word in (
        "max_read=12",
        "max_read=x",
        "max_read=-8192",
        "max_read=٤٠٩٦",
        "fsname=",
        "fsname=a\nb",
        "fsname=a,b",
    ):
        with pytest.raises(Refusal, match=word.partition("=")[0]) as caught:
            parse_options([word])
        assert caught.value.code == "usage"


@pytest.mark.parametrize("word", ["nonsense", "ro=1", "max_read", "subtype=x", "fd=3", "user_id=0", "", "-o"])
def test_what_is_unknown_is_a_usage_error_that_names_it(word: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_options(["ro", word])
    assert caught.value.code == "usage"
    assert repr(word) in caught.value.message


@pytest.mark.parametrize("word", ["dev", "suid"])
def test_devices_and_set_id_are_for_root_and_warned_of(word: str) -> None:
    with pytest.raises(Refusal, match="root") as caught:
        parse_options([word], is_root=False)
    assert caught.value.code == "usage"
    options = parse_options([word], is_root=True)
    assert options.trusts_root
    assert options.kernel == (word,)
    assert len(options.warnings) == 1
    assert not parse_options([word, f"no{word}"], is_root=True).trusts_root


def test_others_are_let_in_only_if_the_system_allows_users_to(permissive: Path, tmp_path: Path) -> None:
    assert parse_options(["allow_other"], is_root=False, fuse_conf=permissive).kernel == ("allow_other",)
    assert parse_options(["allow_other"], is_root=True, fuse_conf=tmp_path / "none").kernel == (
        "allow_other",
    )
    with pytest.raises(Refusal) as caught:
        parse_options(["allow_other"], is_root=False, fuse_conf=tmp_path / "none")
    assert "user_allow_other" in caught.value.mend


def test_a_commented_line_allows_nothing(tmp_path: Path) -> None:
    conf = tmp_path / "fuse.conf"
    conf.write_text("#user_allow_other\n# user_allow_other\nuser_allow_others\n")
    assert not is_user_allow_other(conf)


def test_everybody_and_root_alone_contradict_each_other() -> None:
    with pytest.raises(Refusal, match="one of them"):
        parse_options(["allow_other", "allow_root"], is_root=True)


def test_commas_separate_unless_escaped() -> None:
    assert split_options(r"ro,,fsname=a\,b,noatime,") == ("ro", "fsname=a,b", "noatime")
    assert split_options("") == ()
