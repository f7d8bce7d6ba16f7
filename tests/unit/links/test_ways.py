"""By which network a packet would go somewhere."""

from dittofs.links.ways import way_to


def test_this_machine_is_reached_by_its_loopback() -> None:
    assert way_to("127.0.0.1") == "lo"
    assert way_to("::1") in ("lo", "")  # there may be no IPv6 here


def test_a_link_local_address_goes_by_its_scope_however_that_is_told() -> None:
    assert way_to("fe80::1%lo") == way_to("fe80::1%1") == "lo"


def test_of_a_name_and_of_an_interface_that_is_not_there_nothing_is_known() -> None:
    assert way_to("alder.example") == ""
    assert way_to("fe80::1%999999") == ""
