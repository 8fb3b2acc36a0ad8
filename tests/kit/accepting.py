"""Connections that a server inside a test has accepted: none outlives it, whenever it came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Accepted:
    """Serves each connection in a task of its own, and aborts it when that ends, or never began."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._tasks: dict[asyncio.Future[None], asyncio.StreamWriter] = {}
        self._is_closed = False

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection; for `asyncio.start_server`."""
        if self._is_closed:
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Future[None]) -> None:
        # Kept by name until it is aborted: a writer that nobody holds says at once that it was not closed.
        writer = self._tasks.pop(task)
        writer.transport.abort()

    async def cut(self) -> None:
        """End all connections that there are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self, server: asyncio.Server) -> None:
        """Accept no more, and end all connections."""
        self._is_closed = True
        # The loop has taken some, perhaps, and not told of them yet: a closed server would lose them.
        await _turns()
        server.close()
        await self.cut()
        # What was aborted goes.
        await _turns()


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
