"""Makes scheduled jobs pending when they are due: retries, snoozed jobs, jobs with a delay or an eta.

It is timed by the next due job, not by a tick: the statement says in how many seconds that is.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final
from uuid import UUID

from pgqueue.events.kinds import JobsPromoted
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

LIMIT: Final = 1000
"""Jobs that one statement promotes."""


class Promoting(Chore):
    """Promotes due jobs."""

    name = "promoting due jobs"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)
        self._heard = 0
        self._next_in = math.inf

    @property
    def is_called_for(self) -> bool:
        """Whether a job was scheduled that may be due before the one that this chore waits for."""
        return self._heard != self._tools.state.soon_due

    async def run(self) -> float:
        """Promote what is due."""
        tools = self._tools
        # Noted before looking: a job that is scheduled during the statement calls for another one.
        self._heard = tools.state.soon_due
        self._next_in = math.inf
        if await self._broken.move(tools.link, LIMIT, self._promote, tools.first_of("promote")):
            return 0.0
        return min(TICK, max(0.0, self._next_in))

    async def _promote(self, limit: int, without: Collection[UUID]) -> int:
        tools = self._tools
        async with tools.link.use() as connection:
            promoted = await tools.store.promote(
                connection, limit, without, names_jobs=tools.observers.want(JobsPromoted)
            )
        if promoted.count:
            tools.announcer.committed(ready=promoted.lanes)
        if promoted.jobs:
            tools.observers.emit(JobsPromoted(promoted.jobs))
        self._next_in = math.inf if promoted.next_in is None else promoted.next_in
        return promoted.count
