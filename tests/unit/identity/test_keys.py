"""The device's key and the secrets of a volume, as they lie in files."""

import contextlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import ConfigError, Damaged, FormatError
from dittofs.identity.key_files import Kind
from dittofs.identity.keys import (
    Device,
    VolumeSecrets,
    create_device,
    create_volume_secrets,
    decode_device,
    decode_volume_secrets,
    encode_device,
    encode_volume_secrets,
    make_volume_secrets,
    open_device,
    open_root,
    open_volume_secrets,
    replace_volume_secrets,
)
from tests.simulation.disk import SimulatedDisk
from tests.unit.identity.files import Counted, key_files

DEVICE = create_device(key_files(SimulatedDisk()), Counted())
SECRETS = make_volume_secrets(Counted())
DEVICE_FIELDS = msgspec.msgpack.decode(encode_device(DEVICE))
SECRETS_FIELDS = msgspec.msgpack.decode(encode_volume_secrets(SECRETS))


def test_a_device_has_this_id() -> None:
    assert DEVICE.id.hex() == "2760e283ab30c98d9fa074a3d0b0ca86b4b9cfc6496f97341f2fb8989b5955cc"


def test_a_volume_has_these_secrets() -> None:
    assert SECRETS.volume_id.hex() == "cb2a5b926449e1d7b482dee5fae9bd2224b83dc6ea12afb40b9dd36354a39f81"
    assert SECRETS.secret.hex() == "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"
    assert SECRETS.generations == {
        SECRETS.volume_id[:8]: bytes.fromhex(
            "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"
        )
    }
    assert SECRETS.current == SECRETS.volume_id[:8]
    assert SECRETS.root is not None
    assert SECRETS.root.secret.hex() == "5feceb66ffc86f38d952786c6d696c79"


def test_a_secrets_file_holds_this() -> None:
    assert {
        "genesis": SECRETS.genesis.record,
        "signature": SECRETS.genesis.signature,
        "secret": SECRETS.secret,
        "generations": [[SECRETS.current, SECRETS.generations[SECRETS.current]]],
        "current": SECRETS.current,
        "root": SECRETS.root.secret if SECRETS.root else None,
    } == SECRETS_FIELDS


def test_a_device_is_the_same_after_a_restart() -> None:
    disk = SimulatedDisk()
    made = create_device(key_files(disk), Counted())
    disk.crash(seed=1)
    opened = open_device(key_files(disk))
    assert opened.id == made.id
    assert encode_device(opened) == encode_device(made)


def test_a_volume_has_the_same_secrets_after_a_restart() -> None:
    disk = SimulatedDisk()
    made = create_volume_secrets(key_files(disk), "volumes/v", Counted())
    disk.crash(seed=1)
    assert open_volume_secrets(key_files(disk), "volumes/v") == made


def test_secrets_without_the_root_key_and_with_more_generations_are_read_back() -> None:
    older = VolumeSecrets(SECRETS.genesis, SECRETS.secret, {b"8 bytes.": bytes(32)}, b"8 bytes.", None)
    assert decode_volume_secrets(encode_volume_secrets(older)) == older


def test_a_second_device_or_volume_never_takes_the_place_of_the_first() -> None:
    files = key_files(SimulatedDisk())
    device = create_device(files, Counted())
    create_volume_secrets(files, "v", Counted())
    with pytest.raises(ConfigError):
        create_device(files, Counted())
    with pytest.raises(ConfigError):
        create_volume_secrets(files, "v", Counted())
    assert open_device(files).id == device.id


def test_erasing_the_root_key_leaves_the_rest() -> None:
    disk = SimulatedDisk()
    made = create_volume_secrets(key_files(disk), "v", Counted())
    assert made.root is not None
    replace_volume_secrets(key_files(disk), "v", made.without_root())
    disk.crash(seed=1)
    opened = open_volume_secrets(key_files(disk), "v")
    assert opened.root is None
    assert encode_volume_secrets(opened) == encode_volume_secrets(made.without_root())
    assert made.root.secret not in key_files(disk).read("v/secrets", Kind.VOLUME)
    assert open_root(made.root.secret, opened.genesis) == made.root


def test_one_kind_of_key_file_does_not_pass_for_the_other() -> None:
    files = key_files(SimulatedDisk())
    files.create("device.key", Kind.VOLUME, encode_device(DEVICE))
    with pytest.raises(Damaged, match=r"disk:device\.key"):
        open_device(files)


def test_files_that_hold_something_else_are_named() -> None:
    files = key_files(SimulatedDisk())
    files.create("device.key", Kind.DEVICE, b"?")
    files.create("v/secrets", Kind.VOLUME, b"?")
    with pytest.raises(Damaged, match=r"disk:device\.key"):
        open_device(files)
    with pytest.raises(Damaged, match="disk:v/secrets"):
        open_volume_secrets(files, "v")


def test_secrets_are_not_shown() -> None:
    shown = repr(DEVICE) + repr(SECRETS)
    for secret in (SECRETS.secret, *SECRETS.generations.values()):
        assert repr(secret) not in shown
    assert repr(DEVICE.signing.private_bytes_raw()) not in shown


@pytest.mark.parametrize(
    "changed",
    [
        {"sign": bytes(32)},
        {"sign": bytes(31)},
        {"wrap": bytes(33)},
        {"certificate": b""},
        {"certificate": None},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_a_device_whose_parts_do_not_belong_together_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        decode_device(msgspec.msgpack.encode({**DEVICE_FIELDS, **changed}))


@pytest.mark.parametrize(
    "changed",
    [
        {"genesis": b""},
        {"signature": bytes(64)},
        {"secret": bytes(31)},
        {"generations": []},
        {"generations": [[SECRETS.current, bytes(32)]] * 2},
        {"generations": [[SECRETS.current, bytes(31)]]},
        {"generations": [[SECRETS.current, bytes(32)], [b"short", bytes(32)]]},
        {
            "generations": [
                [SECRETS.current, bytes(32)],
                *([i.to_bytes(8, "big"), bytes(32)] for i in range(4096)),
            ]
        },
        {"current": bytes(8)},
        {"root": bytes(16)},
        {"root": bytes(15)},
        {"colour": "blue"},
    ],
    ids=lambda changed: str(changed)[:60],
)
def test_secrets_that_do_not_belong_together_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        decode_volume_secrets(msgspec.msgpack.encode({**SECRETS_FIELDS, **changed}))


@given(st.binary(max_size=300))
@example(b"\x91" * 4000)
@example(b"\x81\xa1\xff\x01")
@example(encode_device(DEVICE)[:-1])
@example(encode_volume_secrets(SECRETS)[:-1])
def test_any_bytes_are_keys_or_a_format_error(data: bytes) -> None:
    for decode, kind in ((decode_device, Device), (decode_volume_secrets, VolumeSecrets)):
        with contextlib.suppress(FormatError):
            assert isinstance(decode(data), kind)


@given(st.data())
def test_a_damaged_payload_is_keys_or_a_format_error(data: st.DataObject) -> None:
    for payload, decode in (
        (encode_device(DEVICE), decode_device),
        (encode_volume_secrets(SECRETS), decode_volume_secrets),
    ):
        damaged = bytearray(payload)
        for place in data.draw(st.lists(st.integers(0, len(payload) - 1), min_size=1, max_size=4)):
            damaged[place] = data.draw(st.integers(0, 255))
        with contextlib.suppress(FormatError):
            decode(bytes(damaged))
