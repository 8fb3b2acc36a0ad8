"""Ends jobs that were not started before they expired."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final
from uuid import UUID

from pgqueue.events.kinds import JobsExpired
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

logger = logging.getLogger("pgqueue.worker")

LIMIT: Final = 1000
"""Jobs that one statement ends."""


class Expiring(Chore):
    """Expires waiting jobs."""

    name = "expiring jobs"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)

    async def run(self) -> float:
        """End a batch of jobs that wait past their expiry."""
        tools = self._tools
        is_more = await self._broken.move(tools.link, LIMIT, self._expire, tools.first_of("expire"))
        return 0.0 if is_more else TICK

    async def _expire(self, limit: int, without: Collection[UUID]) -> int:
        tools = self._tools
        async with tools.link.use() as connection:
            expired = await tools.store.expire(connection, limit, without)
        if expired:
            logger.info("%d jobs expired before they were started", len(expired))
            tools.committed(ended=[job.job_id for job in expired])
            tools.observers.emit(JobsExpired(expired))
        return len(expired)
