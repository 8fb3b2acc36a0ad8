"""Works on mass redrives: makes dead letters pending again, oldest first, at the rate asked for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.outages import is_about_values, is_away, told
from pgqueue.events.kinds import JobMoved, JobsReopened, WorkErrorIsolated
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

LIMIT: Final = 5000
"""Jobs of a mass redrive that one run makes pending at most."""


class Redriving(Chore):
    """Works on mass redrives."""

    name = "working on mass redrives"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)

    async def run(self) -> float:
        """Do the next part of a mass redrive, if one is due."""
        await self._broken.move(self._tools.link, LIMIT, self._carry, self._find, self._skip)
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

    async def _skip(self, redrive_id: UUID, error: Exception) -> bool:
        """Leave out the dead letter at which a redrive fails; end a redrive that fails without one.

        Raises *error* if it may be about all rows: then the redrive waits, and so do others.
        """
        if not is_about_values(error):
            raise error
        tools = self._tools
        job_id: UUID | None = None
        async with tools.link.use() as connection:
            try:
                job_id = await tools.store.skip_redriven(connection, redrive_id)
            except Exception as second:
                if is_away(second):
                    raise
            if job_id is None:
                await tools.store.end_redrive(connection, redrive_id)
        logger.error(
            "mass redrive %s %s (%s)",
            redrive_id,
            "was cancelled, because it cannot be carried on"
            if job_id is None
            else f"leaves job {job_id} out",
            told(error),
            extra=log_fields(error),
        )
        tools.observers.emit(
            WorkErrorIsolated(self.name, type(error).__name__, statement=statement_of(error))
        )
        return True
