"""What of a mount can be told without a kernel."""

import pytest

from dittofs.control.options import parse_options
from dittofs.errors import ConfigError
from dittofs.registry import require_volume_name
from mountd.pyfuse3_frontend import for_fuse


def test_a_volume_name_is_never_taken_for_an_option() -> None:
    options = for_fuse("x,dev,suid", parse_options([]))
    assert r"fsname=x\054dev\054suid" in options
    assert not any("," in option for option in options)


def test_names_of_any_letters_reach_libfuse_as_ascii() -> None:
    assert r"fsname=Gr\303\266\303\237e" in for_fuse("Größe", parse_options([]))


@pytest.mark.parametrize("name", ["", ".", "..", " ", " a", "a/b", "a:b", "a\nb", "ü" * 51])
def test_a_name_that_could_not_be_used_again_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a volume"):
        require_volume_name(name)


@pytest.mark.parametrize("name", ["Shared", "My Thesis", "Größe ü", "a,b", "..."])
def test_names_people_give_are_taken(name: str) -> None:
    require_volume_name(name)
