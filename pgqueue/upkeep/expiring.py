"""Ends jobs that were not started before they expired."""

from __future__ import annotations

import logging
from typing import Final

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

    async def run(self) -> float:
        """End a batch of jobs that wait past their expiry."""
        tools = self._tools
        async with tools.link.use() as connection:
            expired = await tools.store.expire(connection, LIMIT)
        if expired:
            logger.info("%d jobs expired before they were started", len(expired))
            tools.announcer.committed(ended=[job.job_id for job in expired])
            tools.observers.emit(JobsExpired(expired))
        return 0.0 if len(expired) == LIMIT else TICK
