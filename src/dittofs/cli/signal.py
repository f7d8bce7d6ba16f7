"""`dittofs signal`"""

import argparse
import logging
import signal
import ssl
import sys
from pathlib import Path

from dittofs.address import Address
from dittofs.cli.output import say, say_json
from dittofs.clock import system_entropy
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.errors import ConfigError, FormatError
from dittofs.server_urls import SIGNAL_PORT

DESCRIPTION = """\
Run a signalling server until SIGTERM or Ctrl-C: by way of it devices meet that are behind different routers.
It needs an address that all of them reach, one TCP port, and the same UDP port for STUN. It stores nothing,
sees who meets whom and never what is shared; it holds no key and cannot let anybody in."""
EXAMPLE = """\
  dittofs signal
  dittofs signal --certificate fullchain.pem --key privkey.pem --port 443
  dittofs share --signal ws://HOST:7348        on a device, then; for always: signal in config.toml"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bind", metavar="ADDRESS", help="listen on this address of this machine alone")
    parser.add_argument(
        "--port", type=int, metavar="P", default=SIGNAL_PORT, help=f"default: {SIGNAL_PORT}; 0 is any"
    )
    parser.add_argument(
        "--certificate", metavar="FILE", help="serve wss:// with this certificate chain (PEM)"
    )
    parser.add_argument("--key", metavar="FILE", help="and this private key (PEM)")


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.port <= 65535:
        raise Refusal("usage", f"{arguments.port} is not a port: that is a number from 0 to 65535")
    if bool(arguments.certificate) != bool(arguments.key):
        raise Refusal("usage", "--certificate and --key go together", "dittofs signal --help")
    try:
        bind = Address.of(arguments.bind, 1).host if arguments.bind else None
    except FormatError as error:
        raise Refusal("usage", f"{error}; no server was started", "dittofs signal --help") from error
    tls = _tls(arguments.certificate, arguments.key) if arguments.key else None
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    import trio  # late: --help is quick

    trio.run(_serve, bind, arguments.port, tls, arguments.json)
    return EXIT_FINE


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name in (certificate, key):
        try:
            Path(name).read_bytes()
        except OSError as error:
            raise Refusal("failed", f"{name} cannot be read: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        text = f"{certificate} and {key} are no certificate with its key: {error.reason or error}"
        raise Refusal("failed", text) from error
    return context


async def _serve(bind: str | None, port: int, tls: ssl.SSLContext | None, as_json: bool) -> None:
    import structlog
    import trio

    from dittofs.signalling.server import Server

    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    try:
        server = Server(bind, port, entropy=system_entropy, tls=tls)
    except ConfigError as error:
        again = "dittofs signal --port P   (0: any that is free), or --bind ADDRESS of this machine"
        raise Refusal("refused", f"{error}; no server was started", again) from error
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            scheme, host = "ws" if tls is None else "wss", bind or "HOST"
            place = f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}"
            if as_json:
                say_json({"url": place, "port": server.port})
            else:
                say(f"Signalling on TCP port {server.port}, STUN on UDP port {server.port}. Ctrl-C ends it.")
                say(f"On a device:  dittofs share --signal {place}")
            sys.stdout.flush()
            await anext(aiter(signals))
            nursery.cancel_scope.cancel()
