"""Moves blocked jobs on when the job that they wait for has ended."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

from pgqueue.events.kinds import JobsUnblocked
from pgqueue.model.jobs import JobStatus
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

LIMIT: Final = 1000
"""Jobs that one statement moves."""


class Unblocking(Chore):
    """Unblocks jobs."""

    name = "unblocking jobs"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)

    async def run(self) -> float:
        """Move on the jobs that nothing blocks any more."""
        tools = self._tools
        await self._broken.move(tools.link, LIMIT, self._unblock, tools.first_of("unblock"))
        return TICK

    async def _unblock(self, limit: int, without: Collection[UUID]) -> int:
        tools = self._tools
        async with tools.link.use() as connection:
            unblocked = await tools.store.unblock(connection, limit, without)
        lanes = {lane for job, lane in unblocked if job.status is JobStatus.PENDING}
        if unblocked:
            tools.committed(ready=lanes)
            tools.observers.emit(JobsUnblocked([job for job, _ in unblocked]))
        return len(unblocked)
