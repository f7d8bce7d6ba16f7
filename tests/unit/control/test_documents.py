"""The reference page says what the protocol is: every request, code, struct and field."""

import re
from pathlib import Path

import msgspec
import pytest

from dittofs.control import (
    conflicts,
    connection,
    events,
    files,
    history,
    limiting,
    paths,
    protocol,
    routes,
    server,
    sharing,
    storage,
    undoing,
)
from dittofs.control.faults import FAULTS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "control.md").read_text()
STRUCTS = {
    one: None  # each once
    for module in (protocol, files, sharing, undoing, conflicts, history, storage, limiting)
    for one in vars(module).values()
    if isinstance(one, type) and issubclass(one, msgspec.Struct) and one is not msgspec.Struct
}


def test_every_request_is_listed() -> None:
    listed = re.findall(r"^\| `([A-Z]+) (/v1/\w+)` \|", PAGE, re.MULTILINE)
    assert {(path, method) for method, path in listed} == set(routes.ROUTES)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_struct_is_described_with_every_field(struct: type[msgspec.Struct]) -> None:
    found = re.search(rf"\*\*{struct.__name__}\*\*(.*?)(?=\n\n|\*\*\w+\*\*|\Z)", PAGE, re.DOTALL)
    assert found, struct
    for field in msgspec.structs.fields(struct):
        assert f"`{field.encode_name}`" in found[1], field.name


def test_every_code_is_listed_with_its_exit_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+|-) \| (\d) \|", PAGE, re.MULTILINE)
    assert {code: int(exit_code) for code, _, exit_code in rows} == {
        code: fault.exit_code for code, fault in FAULTS.items()
    }
    assert all(status == "-" or int(status) == FAULTS[code].status for code, status, _ in rows)


def test_the_limits_are_those_in_force() -> None:
    limits = connection.Limits()
    for text in (
        f"| request line and headers | {limits.head_bytes_max >> 10} KiB |",
        f"| JSON request | {protocol.JSON_BYTES_MAX >> 20} MiB |",
        f"| connections | {server.CONNECTIONS_MAX}, of them {server.CONNECTIONS_PER_PROCESS_MAX} a process",
        f"requests of a connection | {limits.idle_s} s |",
        f"end of its headers | {limits.head_s} s |",
        f"pieces of a body | {limits.piece_s} s |",
        f"piece of the reply | {limits.send_s} s |",
        f"wait for a listener | {events.LISTENER_EVENTS_MAX};",
        f"at most {paths.PATH_BYTES_MAX:,} bytes long",
    ):
        assert text in PAGE
