"""The page of proofs names tests that there are."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/explanation/proof.md"


def test_every_test_that_is_named_is_there() -> None:
    named = 0
    for line in PAGE.read_text().splitlines():
        module = ""
        for place, test in re.findall(r"`([\w/]*(?:\.py)?)::(test_\w+)`", line):
            module = place or module
            assert re.search(rf"^(?:async )?def {test}\(", (TESTS / module).read_text(), re.MULTILINE), test
            named += 1
    assert named > 20
