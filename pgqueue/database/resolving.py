"""Resolves host names in threads that handlers cannot fill.

asyncio's own loop does so in its default thread pool. A handler that fills that (`asyncio.to_thread`) would
keep every connection that was lost from being opened again, until the handler is done.
"""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

THREADS: Final = 32
_threads: Final[dict[int, ThreadPoolExecutor]] = {}
"""By process: a child that was forked has its parent's, of which no thread runs."""


def resolve_apart() -> None:
    """Have the running loop resolve host names in threads of its own. uvloop does so anyway."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop) and "getaddrinfo" not in vars(loop):
        vars(loop)["getaddrinfo"] = partial(_getaddrinfo, loop)


async def _getaddrinfo(
    loop: asyncio.AbstractEventLoop,
    host: str | bytes | None,
    port: str | bytes | int | None,
    *,
    family: int = 0,
    type: int = 0,  # noqa: A002  # asyncio's
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    threads = _threads.get(os.getpid())
    if threads is None:
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pgqueue resolver")
        threads = _threads.setdefault(os.getpid(), threads)
    return await loop.run_in_executor(threads, socket.getaddrinfo, host, port, family, type, proto, flags)
