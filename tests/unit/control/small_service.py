"""A real, small `Service`: one volume whose files are in memory."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import trio

from dittofs.control.events import EventFeed
from dittofs.control.faults import Refusal
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.protocol import (
    AddRequest,
    AddResult,
    CheckDone,
    CheckItem,
    CheckProgress,
    CheckRequest,
    ChunkRun,
    ChunksRequest,
    DeviceStatus,
    Entry,
    Event,
    FileRequest,
    Finding,
    Health,
    ListItem,
    ListRequest,
    MountRequest,
    MountResult,
    StatusReport,
    StopResult,
    Unmounted,
    UnmountRequest,
    UnmountResult,
    VolumeStatus,
)
from dittofs.control.service import Content

PART_BYTES = 64 << 10


class SmallService:
    """Keeps files of one volume, "Shared", in a dict. `damaged` paths are found by `check`."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}
        self.damaged: set[bytes] = set()
        self.mounted_at = b""
        self.feed = EventFeed()
        self.stopped = trio.Event()
        self.parts_made = 0
        self.open_streams = 0
        self.uploads_cut = 0

    def health(self) -> Health:
        return Health(version="1.2.3", pid=os.getpid())

    def status(self) -> StatusReport:
        device = DeviceStatus(name="laptop", id="ab" * 16, is_this=True, is_online=True)
        return StatusReport("1.2.3", os.getpid(), 12.5, 40 << 20, (self._volume(),), (device,))

    def _volume(self) -> VolumeStatus:
        return VolumeStatus(
            name="Shared",
            id="cd" * 16,
            state="mounted" if self.mounted_at else "unmounted",
            **path_fields(self.mounted_at),
            files=len(self.files),
            bytes=sum(map(len, self.files.values())),
        )

    async def mount(self, request: MountRequest) -> MountResult:
        if request.name == "broken":
            raise RuntimeError("a bug, with secrets in its text")
        path = path_bytes(request)
        was_mounted = self.mounted_at == path
        self.mounted_at = path
        return MountResult(volume=self._volume(), device="laptop", was_mounted=was_mounted)

    async def unmount(self, request: UnmountRequest) -> UnmountResult:
        if not self.mounted_at:
            raise Refusal("not_found", "nothing is mounted there", "dittofs status")
        gone = Unmounted(volume="Shared", **path_fields(self.mounted_at), is_lazy=request.force)
        self.mounted_at = b""
        return UnmountResult(unmounted=(gone,))

    def list(self, request: ListRequest) -> Iterator[ListItem]:
        below = path_bytes(request)
        if below and not any(path.startswith(below) for path in self.files):
            raise Refusal("not_found", f"there is no {request.path!r}")
        for path, content in sorted(self.files.items()):
            if path.startswith(below):
                yield Entry(
                    **path_fields(path), kind="file", size=len(content), mtime_ns=0, mode=0o644, bytes_here=0
                )
                if request.chunks:
                    yield ChunkRun(offset=0, ids=("00" * 32,), sizes=(len(content),), here=(True,))

    async def add(self, request: AddRequest, parts: AsyncIterator[bytes]) -> AddResult:
        path = path_bytes(request)
        if path in self.files and not request.replace:
            raise Refusal("exists", f"{request.path} exists; nothing was changed")
        content = bytearray()
        try:
            async for part in parts:
                content += part
        except BaseException:
            self.uploads_cut += 1
            raise
        self.files[path] = bytes(content)
        return AddResult(**path_fields(path), size=len(content))

    async def get_file(self, request: FileRequest) -> Content:
        content = self.files.get(path_bytes(request))
        if content is None:
            raise Refusal("not_found", f"there is no {request.path}")
        end = len(content) if request.length < 0 else request.offset + request.length
        wanted = content[request.offset : end]
        return Content(len(wanted), self._parts(wanted), 0o640, 1_700_000_000_000_000_001)

    async def get_chunks(self, request: ChunksRequest) -> Content:
        content = b"".join(bytes.fromhex(chunk) for chunk in request.ids)
        return Content(len(content) + 1, self._parts(content))  # promises a byte that never comes

    async def _parts(self, content: bytes) -> AsyncGenerator[bytes, None]:
        self.open_streams += 1
        try:
            for start in range(0, len(content), PART_BYTES):
                self.parts_made += 1
                yield content[start : start + PART_BYTES]
                await trio.lowlevel.checkpoint()
        finally:
            self.open_streams -= 1

    async def check(self, request: CheckRequest) -> AsyncGenerator[CheckItem, None]:
        if request.volume != "Shared":
            raise Refusal("not_found", f"there is no volume {request.volume}")
        findings = 0
        for path, content in sorted(self.files.items()):
            yield CheckProgress(bytes_done=0, bytes_total=len(content), step="files")
            await trio.lowlevel.checkpoint()
            if content == b"endless":
                return
            if content == b"unreadable":
                raise Refusal("failed", "the disk does not answer")
            if path in self.damaged:
                findings += 1
                yield Finding(severity="damage", what="chunk", detail="its hash differs", **path_fields(path))
        yield CheckDone(files=len(self.files), chunks=0, bytes=0, findings=findings)

    async def events(self) -> AsyncGenerator[Event, None]:
        async for event in self.feed.listen():
            yield event

    async def stop(self) -> StopResult:
        self.stopped.set()
        await trio.lowlevel.checkpoint()
        return StopResult(pid=os.getpid())
