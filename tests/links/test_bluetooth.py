"""Bluetooth by way of a BlueZ that is not real, on a real message bus with real descriptors."""

import socket

import pytest
import trio
from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call, new_signal
from jeepney.fds import FileDescriptor
from jeepney.io.trio import open_dbus_connection

from dittofs.links.bluetooth import TRIES_MAX, Bluetooth
from dittofs.links.link import LinkBroken
from dittofs.links.rfcomm import RfcommStream
from tests.links.bluetooth_pair import (
    HERE,
    PATIENCE_S,
    THERE,
    Machine,
    bluetooth_streams,
    machine,
    two_machines,
)
from tests.links.fake_bluez import FAILED, Air


async def meet(here: Machine, there: Machine) -> None:
    """Let `here` find `there`."""
    with here.bluetooth.looking(), there.bluetooth.shown():
        await here.until(lambda: here.bluetooth.controller and here.bluetooth.controller.neighbours)


async def test_a_device_that_is_shown_is_found_and_dialled_and_each_side_knows_the_others_address() -> None:
    async with two_machines() as (here, there):
        await meet(here, there)
        assert here.bluetooth.controller is not None
        assert here.bluetooth.controller.address == HERE
        assert here.bluetooth.controller.neighbours == {THERE}
        one = await here.bluetooth.dial(THERE)
        other, address = await there.accepted()
        assert address == HERE
        async with one, other:
            await one.send_all(b"hello")
            assert await other.receive_some() == b"hello"


async def test_a_device_is_seen_only_while_it_shows_itself_and_looks_only_while_it_looks() -> None:
    async with two_machines() as (here, there):
        with here.bluetooth.looking(), there.bluetooth.shown():
            await there.until(
                lambda: there.bluetooth.controller and there.bluetooth.controller.is_discoverable
            )
            await here.until(lambda: here.bluez.is_discovering)
        await there.until(
            lambda: there.bluetooth.controller and not there.bluetooth.controller.is_discoverable
        )
        await here.until(lambda: not here.bluez.is_discovering)


async def test_what_bluez_refuses_is_tried_again() -> None:
    async with two_machines() as (here, there):
        await meet(here, there)
        here.bluez.refusals = [FAILED] * (TRIES_MAX - 1)
        async with await here.bluetooth.dial(THERE):
            assert here.bluez.dials == TRIES_MAX


async def test_what_bluez_goes_on_to_refuse_is_told_with_its_reason() -> None:
    async with two_machines() as (here, there):
        await meet(here, there)
        here.bluez.refusals = [FAILED] * TRIES_MAX
        with pytest.raises(LinkBroken, match="not now"):
            await here.bluetooth.dial(THERE)


async def test_a_device_that_takes_no_more_connections_refuses() -> None:
    async with two_machines() as (here, there):
        await meet(here, there)
        there.bluetooth.accept = lambda _stream, _address: False
        with pytest.raises(LinkBroken):
            await here.bluetooth.dial(THERE)


async def test_a_connection_that_comes_after_its_dialler_gave_up_is_refused_and_the_next_one_is_made() -> (
    None
):
    async with two_machines() as (here, there):
        await meet(here, there)
        called, go_on = trio.Event(), trio.Event()

        async def hold() -> None:
            called.set()
            await go_on.wait()

        here.bluez.before_connection = hold
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.bluetooth.dial, THERE)
            await called.wait()
            nursery.cancel_scope.cancel()
        here.bluez.before_connection = None
        go_on.set()
        late, _ = await there.accepted()
        assert await late.receive_some() == b""
        await late.aclose()
        async with await here.bluetooth.dial(THERE) as one:
            other, _ = await there.accepted()
            async with other:
                await one.send_all(b"anew")
                assert await other.receive_some() == b"anew"


async def test_a_device_that_is_dialled_already_is_not_dialled_twice() -> None:
    async with two_machines() as (here, there):
        await meet(here, there)
        called = trio.Event()

        async def hold() -> None:
            called.set()
            await trio.sleep_forever()

        here.bluez.before_connection = hold
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.bluetooth.dial, THERE)
            await called.wait()
            with pytest.raises(LinkBroken, match="already"):
                await here.bluetooth.dial(THERE)
            nursery.cancel_scope.cancel()


async def test_connections_end_when_bluez_asks_for_that() -> None:
    async with two_machines() as (here, there):
        await meet(here, there)
        one = await here.bluetooth.dial(THERE)
        other, _ = await there.accepted()
        async with one, other:
            await there.bluez.disconnect(here.bluez)
            assert await one.receive_some() == b""


async def test_a_bus_without_bluez_is_told_and_bluez_is_used_when_it_comes() -> None:
    async with machine(Air(), HERE) as one:
        await one.bluetooth.settled()
        assert one.bluetooth.problem == "bluetoothd does not run on this machine"
        with pytest.raises(LinkBroken, match="does not run"):
            await one.bluetooth.dial(THERE)
        async with trio.open_nursery() as nursery:
            await nursery.start(one.bluez.run)
            await one.usable()
            nursery.cancel_scope.cancel()


async def test_a_machine_without_a_bus_is_told() -> None:
    bluetooth = Bluetooth(bus="unix:path=/nonexistent/bus")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bluetooth.run)
        with trio.fail_after(PATIENCE_S):
            await bluetooth.settled()
        assert bluetooth.problem is not None
        assert "message bus" in bluetooth.problem
        nursery.cancel_scope.cancel()


async def test_a_controller_that_goes_or_is_switched_off_is_told_and_used_when_it_is_back() -> None:
    async with two_machines() as (here, _):
        here.bluez.is_powered = False
        await here.bluez.changed()
        await here.until(lambda: here.bluetooth.problem == "the Bluetooth controller hci0 is switched off")
        here.bluez.has_controller = False
        await here.bluez.changed()
        await here.until(lambda: here.bluetooth.problem == "there is no Bluetooth controller on this machine")
        here.bluez.has_controller = here.bluez.is_powered = True
        await here.bluez.changed()
        await here.usable()


async def test_another_program_in_the_place_of_dittofs_is_told() -> None:
    async with machine(Air(), HERE) as one, trio.open_nursery() as nursery:
        one.bluez.is_taken = True
        await nursery.start(one.bluez.run)
        await one.until(lambda: "another DittoFS daemon" in (one.bluetooth.problem or ""))
        nursery.cancel_scope.cancel()


async def test_after_a_restart_of_bluetoothd_devices_find_each_other_again_and_connections_live_on() -> None:
    air = Air()
    async with machine(air, HERE) as here, machine(air, THERE) as there, trio.open_nursery() as nursery:
        await nursery.start(there.bluez.run)
        await there.usable()
        async with trio.open_nursery() as first:
            await first.start(here.bluez.run)
            await here.usable()
            await meet(here, there)
            one = await here.bluetooth.dial(THERE)
            other, _ = await there.accepted()
            first.cancel_scope.cancel()
        async with one, other:
            await here.until(lambda: here.bluetooth.problem != "")
            await one.send_all(b"still here")
            assert await other.receive_some() == b"still here"
        here.bluez.known.clear()
        await nursery.start(here.bluez.run)
        await here.usable()
        assert here.bluez.profile is not None
        await meet(here, there)
        async with await here.bluetooth.dial(THERE):
            await there.accepted()
        nursery.cancel_scope.cancel()


async def test_a_stranger_on_the_bus_hands_over_nothing() -> None:
    async with two_machines() as (_, there):
        assert there.bluez.profile is not None
        sender, path, _uuid = there.bluez.profile
        profile = DBusAddress(path, bus_name=sender, interface="org.bluez.Profile1")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with await open_dbus_connection(there.bluez.bus, enable_fds=True) as stranger:
                device = "/org/bluez/hci0/dev_00_AA_01_00_00_00"
                body: tuple[object, ...] = (device, theirs.fileno(), {})
                async with stranger.router() as router:
                    call = new_method_call(profile, "NewConnection", "oha{sv}", body)
                    reply = await router.send_and_get_reply(call)
                    empty = new_signal(
                        DBusAddress("/", interface="org.freedesktop.DBus.Properties"), "PropertiesChanged"
                    )
                    empty.header.fields[HeaderFields.destination] = sender
                    await router.send(empty)
                    again = await router.send_and_get_reply(call)
        assert reply.header.message_type is MessageType.error
        assert again.header.message_type is MessageType.error
        assert not there.streams


async def test_a_closed_connection_ends_for_the_other_side_although_bluetoothd_holds_it_too() -> None:
    async with bluetooth_streams() as (one, other):
        await one.send_all(b"last words")
        await one.aclose()
        with trio.fail_after(PATIENCE_S):
            assert await other.receive_some() == b"last words"
            assert await other.receive_some() == b""


async def test_a_reset_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    async with RfcommStream(ours) as stream:
        await stream.send_all(b"never read")
        theirs.close()
        assert await stream.receive_some() == b""


async def test_devices_that_come_by_and_go_leave_nothing_behind() -> None:
    async with machine(Air(), HERE, with_bluez=True) as here:
        await here.usable()
        assert here.bluetooth.controller is not None
        for number in range(50):
            near, far = socket.socketpair()
            path = here.bluetooth.controller.device(f"00:AA:02:00:00:{number:02X}")
            here.bluetooth._connected(path, FileDescriptor(near.detach()))
            far.close()
            stream, _ = await here.accepted()
            await stream.aclose()
        assert len(here.bluetooth._streams) == 1
