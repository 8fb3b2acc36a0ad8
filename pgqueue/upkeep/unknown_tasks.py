"""Looks after jobs of tasks that no live worker declares.

They wait in lanes of their own, and fail after a grace. Without a grace they wait for ever. The log says once
an hour which tasks' jobs wait for long.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.tasks.registry import Registry
from pgqueue.upkeep.chore import Chore
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

LIMIT: Final = 1000
"""Jobs that one statement fails."""
INTERVAL: Final = 60.0
"""Seconds between two runs."""
ALERT: Final = 3600.0
"""Seconds for which such jobs wait before they are logged, and between two such log lines for one task."""


class UnknownTasks(Chore):
    """Looks after jobs of unknown tasks. *grace*: seconds until they fail; None: they wait for ever."""

    name = "looking after jobs of unknown tasks"

    def __init__(self, tools: Tools, registry: Registry, grace: float | None) -> None:
        super().__init__()
        self._tools = tools
        self._registry = registry
        self._grace = grace
        self._broken = tools.broken_rows(self.name)
        self._alerted: dict[str, float] = {}

    async def run(self) -> float:
        """Fail the jobs whose grace is over; log which tasks have jobs that wait for long."""
        if self._grace is not None:
            await self._fail(self._grace)
        await self._alert()
        return INTERVAL

    async def _fail(self, grace: float) -> None:
        tools, known = self._tools, list(self._registry.names)
        failed: Counter[str] = Counter()

        async def fail(limit: int, without: Collection[UUID]) -> int:
            async with tools.link.use() as connection:
                batch = await tools.store.fail_unknown(connection, grace, known, limit, without)
            ids = [job_id for job_id, _ in batch]
            if ids:
                tools.committed(ended=ids)
                tools.announcer.failed(ids)
            failed.update(task for _, task in batch)
            return len(batch)

        async def find(connection: Connection, without: Collection[UUID]) -> UUID | None:
            return await tools.store.find_first_unknown(connection, grace, known, without)

        while await self._broken.move(tools.link, LIMIT, fail, find):
            pass
        for task, count in failed.items():
            logger.error(
                "task %r: %d jobs failed (unknown_task): no live worker declares this task", task, count
            )

    async def _alert(self) -> None:
        tools = self._tools
        alert_after = ALERT if self._grace is None else min(self._grace, ALERT)
        async with tools.link.use() as connection:
            waiting = await tools.store.find_waiting_aside(connection, alert_after)
        now = time.monotonic()
        for task in waiting:
            if now - self._alerted.get(task, float("-inf")) >= ALERT:
                self._alerted[task] = now
                logger.warning(
                    "task %r: jobs have waited over %g s for a worker that declares this task; start one",
                    task,
                    alert_after,
                )
