"""The names of conflict entries: form, length, ties, and that none is taken twice."""

import pytest

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.tree.naming import Aside, conflict_name, name_asides, split_extension
from dittofs.tree.record import Kind

AT = Stamp(1_795_269_727 * 10**9 + 999_999_999)
TAG = "(conflict, laptop, 2026-11-21 14.02.07Z)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.odt", f"report {TAG}.odt"),
        ("report", f"report {TAG}"),
        (".bashrc", f".bashrc {TAG}"),
        ("a.tar.gz", f"a.tar {TAG}.gz"),
        ("..x", f"..x {TAG}"),
        ("ends with.", f"ends with {TAG}."),
        ("no. extension", f"no. extension {TAG}"),
        ("x." + "e" * 40, "x." + "e" * 40 + f" {TAG}"),
    ],
)
def test_the_tag_stands_before_the_extension(name: str, expected: str) -> None:
    assert conflict_name(name.encode(), "laptop", AT, 1).decode() == expected


def test_an_ordinal_stands_at_the_end_of_the_tag() -> None:
    assert conflict_name(b"f.c", "laptop", AT, 2) == b"f (conflict, laptop, 2026-11-21 14.02.07Z 2).c"


@pytest.mark.parametrize("stem", ["x" * 255, "\u00e9" * 127, "\u540d" * 85, "\U0001f600" * 63])
def test_long_names_are_cut_at_a_character_to_255_bytes(stem: str) -> None:
    for extension in ("", ".txt"):
        raw = stem.encode()[: 255 - len(extension)].decode(errors="ignore") + extension
        shown = conflict_name(raw.encode(), "laptop", AT, 7)
        assert 250 < len(shown) <= 255
        assert shown.decode().endswith("Z 7)" + extension)


def test_a_label_cannot_leave_the_name_it_is_part_of() -> None:
    shown = conflict_name(b"f", "a/b\0c\nd, \u202e" + "x" * 300, AT, 1)
    assert b"/" not in shown
    assert b"\0" not in shown
    assert shown.startswith(b"f (conflict, a_b_c_d_ _")
    assert len(shown) < 120
    assert conflict_name(b"f", "", AT, 1).startswith(b"f (conflict, ?, ")


def test_names_that_are_no_utf8_stay_as_they_are() -> None:
    assert conflict_name(b"\xff\xfe.\x80", "laptop", AT, 1) == b"\xff\xfe " + TAG.encode() + b".\x80"
    assert split_extension(b"\xff.") == (b"\xff", b".")


def aside(count: int, ordinal: int = 0) -> Aside:
    inode = InodeId("A" * 16)
    return Aside(AT, ((Slot("slotslot"), count),), inode, "", (Slot("slotslot"), count), Kind.FILE, ordinal)


def named(asides: list[Aside], taken: set[bytes] = frozenset()) -> dict[str, int]:  # type: ignore[assignment]
    """Ordinal in the name -> which one."""
    shown = name_asides([(b"f", asides)], lambda _: "laptop", taken.__contains__)
    return {
        name.decode().removeprefix("f (conflict, laptop, 2026-11-21 14.02.07Z").strip(" )"): one.lineage[0][1]
        for name, (_, one) in shown.items()
    }


def test_things_of_one_device_and_second_are_numbered_in_order() -> None:
    assert named([aside(1), aside(2), aside(3)]) == {"": 1, "2": 2, "3": 3}


def test_a_number_given_for_good_is_kept_whoever_comes_before() -> None:
    assert named([aside(1), aside(2), aside(3, ordinal=2)]) == {"2": 3, "": 1, "3": 2}
    assert named([aside(1, ordinal=3), aside(2, ordinal=3)]) == {"3": 1, "4": 2}


def test_a_real_name_is_left_to_what_has_it() -> None:
    taken = {b"f (conflict, laptop, 2026-11-21 14.02.07Z)", b"f (conflict, laptop, 2026-11-21 14.02.07Z 3)"}
    assert named([aside(1), aside(2)], taken) == {"2": 1, "4": 2}
