"""Resolves host names in threads that handlers cannot fill, and remembers the addresses that names had.

asyncio's own loop does so in its default thread pool. A handler that fills that (`asyncio.to_thread`) would
keep every connection that was lost from being opened again, until the handler is done.

A name server that does not answer holds its thread for as long as the system waits. So one name is asked for
once at a time, and until there is an answer, the addresses are used that it had before.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

THREADS: Final = 32
KNOWN_AFTER: Final = 1.0
"""Seconds without an answer after which the addresses are used that a name had before."""

Addresses = tuple[str, ...]
"""The numeric addresses of a name, in the system's order."""


class _Resolver:
    """Resolves the names of one process. Safe in any thread."""

    def __init__(self) -> None:
        self.threads: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="pgqueue resolver")
        self.known: Final[dict[str, Addresses]] = {}
        self._asked: dict[str, tuple[float, Future[Addresses]]] = {}
        self._lock = threading.Lock()

    def ask(self, host: str) -> tuple[float, Future[Addresses]]:
        """Resolve *host* in a thread, unless one does. Return since when, and what the answer will be."""
        with self._lock:
            asked = self._asked.get(host)
            if asked is None or asked[1].done():
                asked = self._asked[host] = time.monotonic(), self.threads.submit(self._resolve, host)
            return asked

    def _resolve(self, host: str) -> Addresses:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(address[0]) for *_, address in found))
        self.known[host] = addresses
        return addresses


_resolvers: Final[dict[int, _Resolver]] = {}
"""By process: a child that was forked has its parent's, and none of its threads."""


def _resolver_here() -> _Resolver:
    return _resolvers.get(os.getpid()) or _resolvers.setdefault(os.getpid(), _Resolver())


async def find_addresses(host: str, *, within: float) -> Addresses:
    """Return the addresses that the name *host* has, asked for now.

    Those that it had before, if there is no answer for KNOWN_AFTER seconds, or no name server. Raises OSError
    if it had none and is not resolved *within* seconds, or if there is no such name.
    """
    resolver = _resolver_here()
    asked_at, answer = resolver.ask(host)
    known = resolver.known.get(host)
    patience = within if known is None else min(within, asked_at + KNOWN_AFTER - time.monotonic())
    loop = asyncio.get_running_loop()
    is_there = asyncio.Event()

    def tell(_: object) -> None:
        # The loop may be closed by then.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(is_there.set)

    answer.add_done_callback(tell)
    try:
        async with asyncio.timeout(patience):
            await is_there.wait()
        return answer.result()
    except TimeoutError:
        if known is None:
            message = f"the name {host} was not resolved within {within:.1f} s"
            raise socket.gaierror(socket.EAI_AGAIN, message) from None
        return known
    except socket.gaierror as error:
        if known is None or error.errno != socket.EAI_AGAIN:
            raise
        return known


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
    threads = _resolver_here().threads
    return await loop.run_in_executor(threads, socket.getaddrinfo, host, port, family, type, proto, flags)
