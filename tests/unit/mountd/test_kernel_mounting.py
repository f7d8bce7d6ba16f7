"""What mount(2) and fusermount3 are asked for."""

import pytest

from dittofs.control.faults import Refusal
from dittofs.control.options import FRONT_END_DEFAULT, FRONT_ENDS, parse_options
from mountd.kernel import mounting
from mountd.mounts import FRONT_ENDS as MADE


def test_every_front_end_that_can_be_chosen_is_there() -> None:
    assert set(MADE) == set(FRONT_ENDS)
    assert parse_options([]).front_end == FRONT_END_DEFAULT
    for name in FRONT_ENDS:
        assert parse_options([f"frontend={name}"]).front_end == name
    with pytest.raises(Refusal):
        parse_options(["frontend=other"])


def test_set_id_bits_and_devices_are_off_unless_root_asks() -> None:
    plain = mounting._flags(parse_options([], is_root=True))
    assert plain == mounting.MS_NOSUID | mounting.MS_NODEV
    assert mounting._flags(parse_options(["dev", "suid"], is_root=True)) == 0
    asked = mounting._flags(parse_options(["ro", "noatime", "dev"], is_root=True))
    assert asked == mounting.MS_RDONLY | mounting.MS_NOATIME | mounting.MS_NOSUID


def test_allow_root_lets_everybody_reach_the_front_end_which_turns_them_away() -> None:
    words = mounting._for_kernel(parse_options(["allow_root", "max_read=65536"], is_root=True))
    assert words == ["default_permissions", "allow_other", "max_read=65536"]
