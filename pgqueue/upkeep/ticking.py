"""Makes schedules tick: any worker does it for all, and sleeps towards the next tick.

A schedule that cannot tick, because of what is stored of it or what the database refuses, is set aside with
its error, and tried again after a pause that grows. The others tick as if nothing had happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.outages import is_away
from pgqueue.enqueueing.batch import Batch
from pgqueue.events.kinds import JobsEnqueued, WorkErrorIsolated
from pgqueue.model.checks import shown
from pgqueue.schedules.cron import has_cron
from pgqueue.schedules.ticker import Plan, Ticker, plan
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

LIMIT: Final = 100
"""Schedules that tick in one transaction."""
SKIPPED: Final = 60.0
"""Seconds for which a schedule is passed over of which not even the error can be stored."""
DECLARED: Final = 60.0
"""Seconds between two times that a worker says which schedules its code declares."""
MAX_ERROR: Final = 1000

Declare = Callable[[Callable[[], "AbstractAsyncContextManager[Connection]"]], Awaitable[None]]
"""Writes what the code of this process declares, over connections that it is lent."""


class Declaring(Chore):
    """Says which schedules the code of this process declares. Apart from ticking: it may fail alone."""

    name = "declaring schedules"

    def __init__(self, tools: Tools, declare: Declare) -> None:
        super().__init__()
        self._tools = tools
        self._declare = declare

    async def run(self) -> float:
        """Write what is declared."""
        await self._declare(self._tools.link.use)
        return DECLARED


class Ticking(Chore):
    """Makes schedules tick."""

    name = "ticking"

    def __init__(self, tools: Tools, ticker: Ticker) -> None:
        super().__init__()
        self._tools = tools
        self._ticker = ticker
        self._skipped: dict[str, float] = {}

    async def run(self) -> float:
        """Have the schedules tick that are due."""
        async with self._tools.link.use() as connection:
            next_in = await self._tools.store.find_next_tick(connection)
        if next_in is None or next_in > 0:
            return TICK if next_in is None else min(TICK, next_in)
        taken = await self._tick_some()
        return 0.0 if taken == LIMIT else TICK if not taken else 0.05

    async def _tick_some(self) -> int:
        try:
            return await self._tick(LIMIT)
        except Exception as error:
            if is_away(error):
                raise
        # One of them is the reason: each in a transaction of its own, that one is set aside.
        for done in range(LIMIT):
            if not await self._tick(1):
                return done
        return LIMIT

    async def _tick(self, limit: int) -> int:
        """Have up to *limit* due schedules tick; return how many were looked at."""
        tools, ticker = self._tools, self._ticker
        now = time.monotonic()
        self._skipped = {name: until for name, until in self._skipped.items() if until > now}
        plans: list[Plan] = []
        broken: list[tuple[str, Exception]] = []
        batch: Batch | None = None
        try:
            async with tools.link.use() as connection, connection.transaction():
                rows = await tools.store.take_due(connection, limit, self._skipped, has_cron=has_cron())
                for row in rows:
                    try:
                        plans.append(plan(row, ticker.codec))
                    except Exception as error:
                        broken.append((row.schedule.name, error))
                if plans:
                    batch = await ticker.write(connection, plans)
        except Exception as error:
            if is_away(error) or limit > 1 or not plans:
                raise
            broken = [(plans[0].row.schedule.name, error)]
        for name, reason in broken:
            await self._set_aside(name, reason)
        if batch is not None and batch.notes:
            tools.announcer.noted(batch.notes)
        if batch is not None and tools.observers.want(JobsEnqueued):
            tools.observers.emit(JobsEnqueued(batch.created_by_task(), batch.created_jobs))
        return len(rows)

    async def _set_aside(self, name: str, error: Exception) -> None:
        tools = self._tools
        told = f"{type(error).__name__}: {error}".replace("\0", "")[:MAX_ERROR]
        told = told.encode(errors="replace").decode()
        try:
            async with tools.link.use() as connection:
                await tools.store.set_schedule_aside(connection, name, told)
        except Exception as second:
            if is_away(second):
                raise
            self._skipped[name] = time.monotonic() + SKIPPED
        logger.error(
            "schedule %s could not tick (%s); the others continue; trying it again within a minute",
            shown(name),
            told,
            extra=log_fields(error),
        )
        tools.observers.emit(
            WorkErrorIsolated(self.name, type(error).__name__, statement=statement_of(error))
        )
