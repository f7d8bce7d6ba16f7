"""When this device last told others that they may sweep what nothing shown here names (decision 0030).

What was shown here since then nobody has swept; what went before that may be gone everywhere else. So rows of
the history from before that instant are not merged with later ones: they would tell of what was gone by
then as of something that was shown after it.
"""

from typing import Final

from dittofs.journal.journal import Journal

KIND: Final = "answered"


def answered_at(journal: Journal) -> int:
    """When, by the history, the last row came before others were answered; 0: they never were."""
    return int.from_bytes(journal.get_local(KIND, b"") or b"", "big")


def note_answer(journal: Journal) -> None:
    """Within the transaction that answers: what is gone by now may be gone everywhere."""
    put_answered_at(journal, max(journal.history.last_at, answered_at(journal)))


def put_answered_at(journal: Journal, at: int) -> None:
    """Within a transaction."""
    journal.put_local(KIND, b"", at.to_bytes(8, "big"))
