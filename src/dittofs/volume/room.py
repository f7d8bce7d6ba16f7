"""Room on the disk that is kept free."""

from typing import Final

FREE_BYTES_FLOOR: Final = 32 << 20
"""What writers may not use: the journal and publication need room."""
