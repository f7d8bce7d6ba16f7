"""Reading everything once, to find what nobody has looked at for long."""

from collections.abc import Iterator
from typing import Final

from dittofs.errors import Damaged
from dittofs.journal.chain import check_chains
from dittofs.journal.damage import Damage
from dittofs.journal.history import History
from dittofs.journal.index import Index
from dittofs.journal.redo import check_redo
from dittofs.journal.rows import Rows
from dittofs.journal.statements import Statements

INTEGRITY_PROBLEMS_MAX: Final = 100


def check_all(statements: Statements) -> Iterator[Damage]:
    """Every problem of a journal by name: structure, chains, local rows, index, history."""
    try:
        for (found,) in statements.rows("structure", f"PRAGMA integrity_check({INTEGRITY_PROBLEMS_MAX})"):
            yield from _structure(f"{statements.path}: structure", str(found))
    except Damaged as error:
        yield Damage(error.what, str(error))
    yield from check_chains(statements)
    yield from Rows(statements).check()
    try:
        index = Index(statements)
    except Damaged as error:
        yield Damage(error.what, str(error))
    else:
        yield from index.check()
    yield from History(statements).check()
    yield from check_redo(statements)
    for what, detail in statements.rows("damaged rows", "SELECT DISTINCT what, detail FROM damaged"):
        yield Damage(what, f"set aside earlier: {detail}", is_past=True)


def _structure(what: str, found: str) -> Iterator[Damage]:
    """A line of the integrity check, which may be several. Pages that nothing uses hurt nobody."""
    lines = [line for line in found.splitlines() if line != "ok" and not line.startswith("***")]
    unused = [line for line in lines if line.endswith("never used")]
    if unused:
        yield Damage(what, f"{len(unused)} pages stay unused: damaged, and left behind", is_past=True)
    if len(lines) > len(unused):
        yield Damage(what, "; ".join(line for line in lines if line not in unused))
