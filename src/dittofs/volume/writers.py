"""What the settings of a volume say of its writers: what the device of each calls itself.

A label among writers, not a proof.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from dittofs.ids import Slot, client_of_slot, slot_of_client

_SETTING: Final = re.compile(r"writer/([0-9a-f]{12})")


def writer_setting(slot: Slot) -> str:
    """The setting that says what the device of a writer is called."""
    return f"writer/{client_of_slot(slot):012x}"


def writers_in(settings: Iterable[str]) -> Iterator[Slot]:
    """The writers that settings of these names are about."""
    for name in settings:
        found = _SETTING.fullmatch(name)
        if found is not None:
            yield slot_of_client(int(found[1], 16))
