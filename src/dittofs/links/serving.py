"""Links that are served to their end."""

from collections.abc import Awaitable, Callable

import structlog

from dittofs.errors import DittoError
from dittofs.links.link import Link

log = structlog.get_logger()


async def served(serve: Callable[[Link], Awaitable[object]], link: Link) -> None:
    """Serve the link and close it. What ends it by an error of ours or the peer's is logged, not raised."""
    try:
        await serve(link)
    except DittoError as error:
        log.info("a link ended", link=link.description, reason=str(error))
    finally:
        await link.aclose()
