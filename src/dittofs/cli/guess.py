"""Which word was meant, of those that could stand there."""

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'reject'?", to be put behind a refusal; empty if nothing known is near."""
    import difflib  # late: few words are mistyped

    # Of two letters one that is right is half.
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5 if len(word) < 4 else 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
