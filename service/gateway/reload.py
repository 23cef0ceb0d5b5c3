"""Takes up other upstreams and models from the settings' file, while the gateway runs.

A file that cannot be used changes nothing, and is said in one line. What else is in the file takes
effect with the next start.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from service import settings
from service.errors import UserError
from service.settings import CONFIG_VARIABLE, GatewaySettings

log = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0


async def follow_file(apply: Callable[[GatewaySettings], None]) -> None:
    """Look whether the file has changed, until cancelled. Without a file there is nothing to do."""
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        return
    known = _content(Path(path))
    while True:
        await asyncio.sleep(_EVERY_SECONDS)
        content = _content(Path(path))
        if content in (known, b""):  # gone for a moment, while it is replaced
            continue
        known = content
        try:
            apply(settings.load().gateway)
        except UserError as error:
            log.error("the settings' file changed and cannot be used", extra={"reason": str(error)})
        else:
            log.info("upstreams and models are as the settings' file says now")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
