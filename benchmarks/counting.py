"""A task that does nothing but count: how many jobs a worker has run, told by the worker's own process."""

from __future__ import annotations

import asyncio

import asyncpg

from pgqueue import PgQueue, Task

Noop = Task[[str, int, float], None]


class Counter:
    """How many jobs have run in this process."""

    def __init__(self) -> None:
        self.count = 0
        self._target = 0
        self._reached = asyncio.Event()

    def declare(self, pgq: PgQueue) -> Noop:
        """Declare the task `noop`, which counts itself."""

        @pgq.task
        async def noop(to: str, number: int, amount: float) -> None:  # noqa: ARG001  # to be validated
            """Do nothing."""
            self.count += 1
            if self.count == self._target:
                self._reached.set()

        return noop

    async def wait_until(self, count: int) -> None:
        """Wait until so many jobs have run since the process began."""
        self._target = count
        self._reached.clear()
        if self.count < count:
            await self._reached.wait()


async def wait_written(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until the outcome of every job that was claimed is in the database."""
    while await connection.fetchval("select exists (select from pgqueue.running)"):
        pass
