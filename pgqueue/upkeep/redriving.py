"""Works on mass redrives: makes dead letters pending again, oldest first, at the rate asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.events.kinds import JobMoved, JobsReopened
from pgqueue.upkeep.chore import TICK
from pgqueue.upkeep.operations import Operations

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class Redriving(Operations):
    """Works on mass redrives."""

    name = "working on mass redrives"
    what = "mass redrive"
    limit = 5000

    async def run(self) -> float:
        """Do the next part of a mass redrive, if one is due."""
        await self._carry_on()
        return TICK

    async def _carry(self, limit: int, _: Collection[UUID]) -> int:
        tools = self._tools
        jobs: Sequence[JobMoved] = ()
        reason: str | None = None
        # One transaction: its jobs can be claimed as soon as it commits, so they are named before.
        async with tools.link.use() as connection, connection.transaction():
            carried = await tools.store.carry_redrive(connection, limit)
            if carried is not None and carried.lanes and tools.observers.want(JobsReopened):
                jobs, reason = await tools.store.find_redriven(connection, carried)
        if carried is not None and carried.lanes:
            tools.committed(ready=carried.lanes)
        if jobs:
            tools.observers.emit(JobsReopened(jobs, "redriven", reason))
        return int(carried is not None)

    async def _find(self, connection: Connection, _: Collection[UUID]) -> UUID | None:
        return await self._tools.store.find_redriving(connection)

    async def _leave_out(self, operation_id: UUID) -> UUID | None:
        async with self._tools.link.use() as connection:
            return await self._tools.store.skip_redriven(connection, operation_id)

    async def _stop(self, operation_id: UUID) -> None:
        async with self._tools.link.use() as connection:
            await self._tools.store.cancel_redrive(connection, operation_id)
