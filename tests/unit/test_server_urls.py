"""Servers as people write them."""

import pytest

from dittofs.address import Address
from dittofs.errors import FormatError
from dittofs.server_urls import IceServer, SignalUrl


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("ws://example.org", "ws://example.org:7348"),
        ("ws://192.0.2.1:80", "ws://192.0.2.1:80"),
        ("wss://example.org", "wss://example.org:443"),
        ("wss://Example.org/our-own", "wss://example.org:443/our-own"),
        ("ws://[2001:db8::1]:7348/", "ws://[2001:db8::1]:7348"),
    ],
)
def test_a_signalling_server_is_read_and_written(text: str, spelling: str) -> None:
    url = SignalUrl.parse(text)
    assert str(url) == spelling
    assert SignalUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    ["", "example.org", "http://example.org", "ws://", "ws://a b", "ws://h/?q", "ws://u@h", "ws://h/é"],
)
def test_anything_else_is_no_signalling_server(text: str) -> None:
    with pytest.raises(FormatError):
        SignalUrl.parse(text)


def test_stun_and_turn_servers_are_read_and_written() -> None:
    assert IceServer.parse("stun:example.org") == IceServer(Address("example.org", 3478))
    turn = IceServer.parse("turn:me:p%40ss@192.0.2.1:5000?transport=tcp")
    assert turn == IceServer(Address("192.0.2.1", 5000), "me", "p@ss", "tcp")
    assert turn.is_relay
    assert IceServer.parse(str(turn)) == turn
    assert IceServer.parse("turn:me:pass@[::1]").transport == "udp"
    assert "pass" not in repr(IceServer.parse("turn:me:pass@[::1]"))


@pytest.mark.parametrize(
    "text", ["", "stun:", "turn:example.org", "turn:me:secret@h?transport=sctp", "stun:a@b"]
)
def test_anything_else_is_none_and_a_password_is_not_repeated(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        IceServer.parse(text)
    assert "secret" not in str(caught.value)
