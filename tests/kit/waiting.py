"""Waiting for what no one announces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


async def eventually(condition: Callable[[], Awaitable[bool]], *, within: float = 60.0) -> None:
    """Wait until *condition* holds; fail if it does not *within* so many seconds."""
    with anyio.fail_after(within):
        while not await condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await anyio.sleep(0.01)
