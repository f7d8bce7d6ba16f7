"""The server with a real client over a real Unix socket."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from dittofs.control import files, protocol
from dittofs.control.client import Client
from dittofs.control.faults import Refusal
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.server import CONNECTIONS_PER_PROCESS_MAX, serve
from dittofs.errors import ConfigError
from tests.unit.control.conftest import Running
from tests.unit.control.http_text import parse, read_all, talk
from tests.unit.control.small_service import PART_BYTES, SmallService

T = TypeVar("T")
HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
HOSTILE = b"a \xff\xfe\n\x1b[31m%&+?=\xe2\x80\xae.txt"


async def in_thread(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function)


async def refusal_from(function: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await in_thread(function)
    return caught.value


def upload(client: Client, path: bytes, content: bytes, size: int | None = None) -> files.AddResult:
    request = files.AddRequest(
        volume="Shared", **path_fields(path), size=len(content) if size is None else size
    )
    parts = [content[start : start + 10_000] for start in range(0, len(content), 10_000)]
    return client.add(request, iter(parts))


async def test_the_socket_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    async with trio.open_nursery() as nursery:
        assert await nursery.start(serve, SmallService(), path) == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert list(path.parent.iterdir()) == [path]
        nursery.cancel_scope.cancel()
    assert list(path.parent.iterdir()) == []


async def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path, nursery: trio.Nursery) -> None:
    path = tmp_path / "run" / "control.sock"
    path.parent.mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    await nursery.start(serve, SmallService(), path)
    assert (await in_thread(Client(path).health)).pid == os.getpid()
    nursery.cancel_scope.cancel()


async def test_a_successor_keeps_its_socket_when_the_old_server_ends(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    async with trio.open_nursery() as new:
        async with trio.open_nursery() as old:
            await old.start(serve, SmallService(), path)
            await new.start(serve, SmallService(), path)
            old.cancel_scope.cancel()
        assert (await in_thread(Client(path).health)).version == "1.2.3"
        new.cancel_scope.cancel()


async def test_a_directory_others_may_enter_is_refused_with_its_mending_command(tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        await serve(SmallService(), directory / "control.sock")


async def test_a_home_too_deep_for_a_socket_address_works(tmp_path: Path, nursery: trio.Nursery) -> None:
    path = tmp_path / ("d" * 100) / ("e" * 100) / "control.sock"
    path.parent.parent.mkdir()
    await nursery.start(serve, SmallService(), path)
    assert (await in_thread(Client(path).health)).version == "1.2.3"
    nursery.cancel_scope.cancel()


@pytest.mark.logs_warning("another user was refused")
async def test_another_user_is_refused(tmp_path: Path, nursery: trio.Nursery) -> None:
    path = tmp_path / "run" / "control.sock"
    await nursery.start(lambda task_status: serve(SmallService(), path, uid=4711, task_status=task_status))
    refusal = await refusal_from(Client(path).status)
    assert refusal.code == "forbidden"
    nursery.cancel_scope.cancel()


async def test_a_client_tells_nothing_to_the_daemon_of_another_user(running: Running) -> None:
    client = Client(running.path, uid=4711)
    assert (await refusal_from(lambda: upload(client, b"secret", b"x"))).code == "forbidden"
    assert running.service.files == {}


async def test_a_client_says_when_no_daemon_runs(tmp_path: Path) -> None:
    assert (await refusal_from(Client(tmp_path / "none" / "control.sock").status)).code == "no_daemon"
    path = tmp_path / "control.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    assert (await refusal_from(Client(path).status)).code == "no_daemon"


async def test_status_mount_and_unmount_reach_the_service(running: Running) -> None:
    client = running.client
    mounted = await in_thread(
        lambda: client.mount(protocol.MountRequest(**path_fields(b"/home/\xff/Shared")))
    )
    assert path_bytes(mounted.volume) == b"/home/\xff/Shared"
    again = await in_thread(lambda: client.mount(protocol.MountRequest(**path_fields(b"/home/\xff/Shared"))))
    assert again.was_mounted
    report = await in_thread(client.status)
    assert [volume.state for volume in report.volumes] == ["mounted"]
    assert report.devices[0].is_this
    gone = await in_thread(lambda: client.unmount(protocol.UnmountRequest(all=True, force=True)))
    assert gone.unmounted[0].is_lazy
    refusal = await refusal_from(lambda: client.unmount(protocol.UnmountRequest(all=True)))
    assert (refusal.code, refusal.mend) == ("not_found", "dittofs status")


async def test_requests_that_make_no_sense_are_usage_errors(running: Running) -> None:
    client = running.client
    for ask in (
        lambda: client.mount(protocol.MountRequest(path="relative")),
        lambda: client.mount(protocol.MountRequest(path="/with\0nul")),
        lambda: client.unmount(protocol.UnmountRequest()),
        lambda: client.unmount(protocol.UnmountRequest(path="/x", all=True)),
        lambda: list(client.list(files.ListRequest(volume="Shared", path="../x"))),
        lambda: list(client.list(files.ListRequest(volume="Shared", path="n" * 256))),
        lambda: client.get_file(files.FileRequest(volume="Shared", path="a", offset=-1)),
        lambda: client.get_chunks(files.ChunksRequest(volume="Shared", ids=("xyz",))),
    ):
        assert (await refusal_from(ask)).code == "usage"


async def test_any_name_and_content_come_back_as_they_went(running: Running) -> None:
    content = os.urandom(1_000_003)
    result = await in_thread(lambda: upload(running.client, HOSTILE, content))
    assert (path_bytes(result), result.size) == (HOSTILE, len(content))
    request = files.FileRequest(volume="Shared", **path_fields(HOSTILE))

    def get() -> tuple[bytes, int, int]:
        download = running.client.get_file(request)
        return b"".join(download), download.mode, download.mtime_ns

    assert await in_thread(get) == (content, 0o640, 1_700_000_000_000_000_001)
    entries = await in_thread(lambda: list(running.client.list(files.ListRequest(volume="Shared"))))
    assert [path_bytes(entry) for entry in entries if isinstance(entry, files.Entry)] == [HOSTILE]


async def test_an_empty_file_and_one_of_unknown_size_are_stored(running: Running) -> None:
    await in_thread(lambda: upload(running.client, b"empty", b""))
    await in_thread(lambda: upload(running.client, b"unknown", b"x" * 30_000, size=-1))
    assert running.service.files == {b"empty": b"", b"unknown": b"x" * 30_000}
    ask = files.FileRequest(volume="Shared", path="empty")
    assert b"".join(await in_thread(lambda: list(running.client.get_file(ask)))) == b""


async def test_a_range_of_a_file_is_read(running: Running) -> None:
    running.service.files[b"f"] = bytes(range(256))
    ask = files.FileRequest(volume="Shared", path="f", offset=10, length=5)
    assert b"".join(await in_thread(lambda: list(running.client.get_file(ask)))) == bytes(range(10, 15))


async def test_a_refused_upload_says_why_although_much_is_still_to_be_sent(running: Running) -> None:
    running.service.files[b"there"] = b"kept"
    refusal = await refusal_from(lambda: upload(running.client, b"there", bytes(20 << 20)))
    assert refusal.code == "exists"
    assert running.service.files == {b"there": b"kept"}


async def test_an_upload_cut_in_the_middle_leaves_nothing(running: Running) -> None:
    def parts() -> Iterator[bytes]:
        yield b"x" * 5000
        raise OSError("the disk it comes from fails")

    request = files.AddRequest(volume="Shared", path="half", size=10_000)
    with pytest.raises(OSError, match="fails"):
        await in_thread(lambda: running.client.add(request, parts()))
    with pytest.raises(OSError, match="fails"):
        unsized = files.AddRequest(volume="Shared", path="half")
        await in_thread(lambda: running.client.add(unsized, parts()))
    await in_thread(running.client.health)
    assert (running.service.files, running.service.uploads_cut) == ({}, 2)


@pytest.mark.logs_warning("a request failed by a bug", "a reply was cut short")
async def test_a_reply_that_ends_early_is_never_taken_for_whole(running: Running) -> None:
    ask = files.ChunksRequest(volume="Shared", ids=("ab" * 32,))
    download = await in_thread(lambda: running.client.get_chunks(ask))
    assert download.size == 33
    refusal = await refusal_from(lambda: list(download))
    assert refusal.code == "cut_short"


async def test_a_refusal_in_the_middle_of_a_stream_reaches_the_client(running: Running) -> None:
    running.service.files = {b"a": b"fine", b"b": b"unreadable"}
    seen: list[protocol.CheckItem] = []
    ask = protocol.CheckRequest(volume="Shared")
    refusal = await refusal_from(lambda: seen.extend(running.client.check(ask)))
    assert (refusal.code, refusal.message) == ("failed", "the disk does not answer")
    early = await refusal_from(lambda: list(running.client.check(protocol.CheckRequest(volume="Other"))))
    assert early.code == "not_found"


async def test_check_streams_findings_and_its_end(running: Running) -> None:
    running.service.files = {b"a": b"1", b"b": b"2"}
    running.service.damaged = {b"b"}
    items = await in_thread(lambda: list(running.client.check(protocol.CheckRequest(volume="Shared"))))
    assert [type(item).__name__ for item in items] == [
        "CheckProgress",
        "CheckProgress",
        "Finding",
        "CheckDone",
    ]


async def test_a_long_listing_is_made_as_fast_as_it_is_read(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.service.files = {f"{number:06d}".encode(): b"" for number in range(30_000)}
    made = 0
    original = running.service.list

    def counting(request: files.ListRequest) -> Iterator[files.ListItem]:
        nonlocal made
        for item in original(request):
            made += 1
            yield item

    monkeypatch.setattr(running.service, "list", counting)
    stream = await running.connect()
    async with stream:
        await stream.send_all(b"GET /v1/list?volume=Shared HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive_some(100)
        # The server's other clients are served while this one does not read.
        assert (await in_thread(running.client.health)).version == "1.2.3"
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < made < 15_000
    entries = await in_thread(lambda: list(running.client.list(files.ListRequest(volume="Shared"))))
    assert len(entries) == 30_000


async def test_a_client_that_leaves_in_the_middle_of_a_download_disturbs_nobody(running: Running) -> None:
    running.service.files[b"big"] = bytes(64 << 20)
    stream = await running.connect()
    async with stream:
        await stream.send_all(b"GET /v1/file?volume=Shared&path=big HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive_some(1000)
        await trio.testing.wait_all_tasks_blocked()
        assert running.service.open_streams == 1
        assert running.service.parts_made * PART_BYTES < 16 << 20  # held back by the reader
    await in_thread(running.client.health)
    await trio.testing.wait_all_tasks_blocked()
    assert running.service.open_streams == 0


async def test_events_reach_every_listener_until_the_daemon_stops(running: Running) -> None:
    seen: list[list[protocol.Event]] = [[], []]
    listening = [trio.Event(), trio.Event()]

    def listen(index: int) -> None:
        for event in running.client.events():
            seen[index].append(event)
            trio.from_thread.run_sync(listening[index].set)

    async with trio.open_nursery() as nursery:
        for index in range(2):
            nursery.start_soon(trio.to_thread.run_sync, listen, index)
        for event in listening:
            await event.wait()  # the sign of life
        await trio.testing.wait_all_tasks_blocked()
        finding = protocol.Finding(severity="damage", what="pack", detail="torn")
        running.service.feed.publish(protocol.DamageEvent(volume="Shared", finding=finding))
        running.service.feed.publish(protocol.StoppingEvent())
    for events in seen:
        assert [type(event).__name__ for event in events] == ["AliveEvent", "DamageEvent", "StoppingEvent"]


async def test_the_reply_to_stop_arrives_although_the_server_ends_at_once(tmp_path: Path) -> None:
    service = SmallService()
    path = tmp_path / "run" / "control.sock"
    replies: list[protocol.StopResult] = []
    async with trio.open_nursery() as asking, trio.open_nursery() as serving:

        async def end_when_asked() -> None:
            await service.stopped.wait()
            serving.cancel_scope.cancel()

        async def ask() -> None:
            replies.append(await in_thread(Client(path).stop))

        await serving.start(serve, service, path)
        serving.start_soon(end_when_asked)
        asking.start_soon(ask)
    assert replies == [protocol.StopResult(pid=os.getpid())]


@pytest.mark.logs_warning("a request failed by a bug")
async def test_a_bug_in_one_request_is_told_without_details_and_the_server_lives(running: Running) -> None:
    ask = protocol.MountRequest(path="/x", name="broken")
    refusal = await refusal_from(lambda: running.client.mount(ask))
    assert refusal.code == "internal"
    assert "secrets" not in refusal.message
    assert (await in_thread(running.client.health)).version == "1.2.3"


async def test_many_requests_share_one_connection(running: Running) -> None:
    stream = await running.connect()
    async with stream:
        await stream.send_all(HEALTH * 3)
        await stream.send_eof()
        replies = await read_all(stream)
    assert replies.count(b"HTTP/1.1 200") == 3


async def test_idle_connections_make_place_for_one_that_asks(running: Running) -> None:
    idle = [await running.connect() for _ in range(CONNECTIONS_PER_PROCESS_MAX * 2)]
    assert (await in_thread(running.client.health)).version == "1.2.3"
    assert await read_all(idle[0]) == b""  # the longest idle was dismissed
    status, _ = await talk(idle[-1], HEALTH)
    assert status == 200
    for stream in idle:
        await trio.aclose_forcefully(stream)


async def test_a_process_with_too_many_requests_at_work_is_told_so(running: Running) -> None:
    busy = [await running.connect() for _ in range(CONNECTIONS_PER_PROCESS_MAX)]
    for stream in busy:
        await stream.send_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.receive_some(1000)
    assert (await refusal_from(running.client.health)).code == "overloaded"
    await trio.aclose_forcefully(busy.pop())
    finding = protocol.Finding(severity="damage", what="pack", detail="torn")
    running.service.feed.publish(
        protocol.DamageEvent(volume="Shared", finding=finding)
    )  # meets the closed one
    await trio.testing.wait_all_tasks_blocked()
    assert (await in_thread(running.client.health)).version == "1.2.3"
    for stream in busy:
        await trio.aclose_forcefully(stream)


async def test_an_unknown_target_and_a_wrong_method_are_named(running: Running) -> None:
    async with await running.connect() as stream:
        status, failure = await talk(stream, b"GET /v2/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, failure["error"]) == (404, "not_found")
    async with await running.connect() as stream:
        await stream.send_all(b"DELETE /v1/file HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.send_eof()
        reply = await read_all(stream)
        assert parse(reply)[0] == 405
        assert b"allow: GET, PUT" in reply
