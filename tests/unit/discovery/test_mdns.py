"""What is made of another instance's words."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from zeroconf.asyncio import AsyncServiceInfo

from dittofs.address import Address
from dittofs.discovery.mdns import (
    ADDRESSES_PER_SIGHTING_MAX,
    SERVICE,
    TAG_BYTES_MAX,
    TAGS_MAX,
    Mdns,
    understood,
)

Result = TypeVar("Result")


class Unused:
    """An asyncio side for what does not use one."""

    async def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        raise NotImplementedError

    def inbound(self, items_max: int) -> object:
        return asyncio.Queue[object](items_max)


def said(
    properties: dict[bytes, bytes | None], addresses: list[str] | None = None, port: int = 4001
) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        SERVICE,
        f"abc.{SERVICE}",
        port=port,
        properties=properties,
        parsed_addresses=addresses or ["192.168.1.7", "fd00::7"],
    )


def test_what_is_advertised_is_understood() -> None:
    mdns = Mdns(Unused(), 4001, bytes(8))
    tags = frozenset(bytes([number]) * TAG_BYTES_MAX for number in range(TAGS_MAX))
    mdns._tags = tags
    info = mdns._info(["192.168.1.7", "fd00::7"])
    sighting = understood("abc", info)
    assert sighting is not None
    assert sighting.tags == tags
    assert set(sighting.addresses) == {Address("192.168.1.7", 4001), Address("fd00::7", 4001)}
    assert not sighting.is_gone
    assert len(info.text or b"") <= 1300  # RFC 6763, 6.2: what fits one datagram with its records


def test_numbers_of_open_invitations_are_told_and_anything_else_there_is_passed_over() -> None:
    mdns = Mdns(Unused(), 4001, bytes(8))
    mdns._slots = frozenset({7, 23, 99})
    sighting = understood("abc", mdns._info(["192.168.1.7"]))
    assert sighting is not None
    assert sighting.slots == {7, 23, 99}
    for text in (b"", b",,", b"0,100,-1,7x, 7,\xb2", b"9" * 250):
        sighting = understood("abc", said({b"v": b"1", b"j": text}))
        assert sighting is not None
        assert sighting.slots == frozenset()


@pytest.mark.parametrize("properties", [{}, {b"v": b"2"}, {b"v": None}, {b"t0": b"tag"}])
def test_another_version_is_passed_over(properties: dict[bytes, bytes | None]) -> None:
    assert understood("abc", said(properties)) is None


def test_tags_beyond_the_limits_are_passed_over() -> None:
    properties: dict[bytes, bytes | None] = {b"v": b"1", b"t%d" % TAGS_MAX: b"late", b"t0": b"good"}
    properties |= {b"t1": b"", b"t2": None, b"t3": b"x" * (TAG_BYTES_MAX + 1), b"u": b"other"}
    sighting = understood("abc", said(properties))
    assert sighting is not None
    assert sighting.tags == {b"good"}


def test_addresses_that_nobody_can_dial_are_passed_over() -> None:
    addresses = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1", "10.0.0.1"]
    sighting = understood("abc", said({b"v": b"1"}, addresses))
    assert sighting is not None
    assert sighting.addresses == (Address("10.0.0.1", 4001),)
    no_port = understood("abc", said({b"v": b"1"}, port=0))
    assert no_port is not None
    assert no_port.addresses == ()


def test_the_number_of_addresses_is_bounded() -> None:
    sighting = understood("abc", said({b"v": b"1"}, [f"10.0.0.{number}" for number in range(1, 200)]))
    assert sighting is not None
    assert len(sighting.addresses) == ADDRESSES_PER_SIGHTING_MAX
