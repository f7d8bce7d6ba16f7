"""What a link costs: `python -m tests.bench.link_figures` prints one line per figure.

Both ends run in processes of their own on this machine, over 127.0.0.1. CPU seconds are of each
process, per 10^9 bytes of payload; about 0.65 for either on two cores, of which 0.24 and 0.35 are TLS.
"""

import multiprocessing
import os
import time
from contextlib import aclosing
from multiprocessing.connection import Connection
from typing import Final

import trio

from dittofs.links.link import Alpn, Link
from dittofs.links.tcp import dial, listen
from tests.links.devices import anybody, new_device

TOTAL_BYTES: Final = 2 << 30
MESSAGE_BYTES: Final = 1 << 20
ROUND_TRIPS: Final = 3_000
HANDSHAKES: Final = 100


def accepting_side(tell: Connection) -> None:
    async def receive_all(link: Link) -> None:
        async with aclosing(link):
            begin = time.process_time()
            left = TOTAL_BYTES
            while left and (data := await link.receive_some(256 << 10)):
                left -= len(data)
            if left == TOTAL_BYTES:
                return
            tell.send(time.process_time() - begin)
            while data := await link.receive_some():
                await link.send_all(data)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            endpoints = await nursery.start(
                lambda task_status: listen(
                    new_device(),
                    receive_all,
                    nursery,
                    admits=anybody,
                    bind="127.0.0.1",
                    task_status=task_status,
                )
            )
            tell.send(endpoints[0][1])

    trio.run(main)


async def dialling_side(port: int, answers: Connection) -> None:
    device = new_device()
    begin = time.perf_counter()
    for _ in range(HANDSHAKES):
        link = await dial("127.0.0.1", port, device, alpn=Alpn.SESSION, admits=anybody)
        await link.aclose()
    show("connect, handshake and close", (time.perf_counter() - begin) / HANDSHAKES * 1e3, "ms")

    link = await dial("127.0.0.1", port, device, alpn=Alpn.SESSION, admits=anybody)
    message = os.urandom(MESSAGE_BYTES)
    begin, cpu_begin = time.perf_counter(), time.process_time()
    for _ in range(TOTAL_BYTES // MESSAGE_BYTES):
        await link.send_all(message)
    sending_cpu_s = time.process_time() - cpu_begin
    receiving_cpu_s = await trio.to_thread.run_sync(answers.recv)
    elapsed_s = time.perf_counter() - begin
    show("throughput", TOTAL_BYTES / elapsed_s / 1e9, "GB/s")
    show("sending", sending_cpu_s / TOTAL_BYTES * 1e9, "CPU s/GB")
    show("receiving", receiving_cpu_s / TOTAL_BYTES * 1e9, "CPU s/GB")

    begin = time.perf_counter()
    for _ in range(ROUND_TRIPS):
        await link.send_all(b"ping")
        await link.receive_some()
    show("round trip of 4 bytes", (time.perf_counter() - begin) / ROUND_TRIPS * 1e6, "µs")
    await link.aclose()


def show(what: str, figure: float, unit: str) -> None:
    print(f"{what:34} {figure:8.2f} {unit}")


def main() -> None:
    answers, tell = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=accepting_side, args=(tell,))
    other.start()
    try:
        trio.run(dialling_side, answers.recv(), answers)
    finally:
        other.terminate()
        other.join()


if __name__ == "__main__":
    main()
