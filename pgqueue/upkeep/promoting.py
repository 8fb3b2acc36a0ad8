"""Makes jobs pending when they are due: retries, snoozed and delayed jobs, and those that sleep.

Both are timed by the next due job, not by a tick: the statement says in how many seconds that is.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.events.kinds import JobsPromoted, JobsUnblocked
from pgqueue.store import FirstOf, Promoted
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

LIMIT: Final = 1000
"""Jobs that one statement promotes."""


class Promoting(Chore):
    """Promotes due jobs."""

    name = "promoting due jobs"
    chore: FirstOf = "promote"
    moves: type[JobsPromoted | JobsUnblocked] = JobsPromoted

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
        if await self._broken.move(tools.link, LIMIT, self._promote, tools.first_of(self.chore)):
            return 0.0
        return min(TICK, max(0.0, self._next_in))

    async def _promote(self, limit: int, without: Collection[UUID]) -> int:
        tools = self._tools
        async with tools.link.use() as connection:
            promoted = await self._move(
                connection, limit, without, names_jobs=tools.observers.want(self.moves)
            )
        if promoted.count:
            self._tell(promoted)
        if promoted.jobs:
            tools.observers.emit(self.moves(promoted.jobs))
        self._next_in = math.inf if promoted.next_in is None else promoted.next_in
        return promoted.count

    def _tell(self, promoted: Promoted) -> None:
        self._tools.announcer.committed(ready=promoted.lanes)
        if promoted.notes:
            self._tools.announcer.noted(promoted.notes)

    async def _move(
        self, connection: Connection, limit: int, without: Collection[UUID], *, names_jobs: bool
    ) -> Promoted:
        return await self._tools.store.promote(connection, limit, without, names_jobs=names_jobs)


class Waking(Promoting):
    """Makes jobs pending whose wait is over: its time has come, or its event came in a transaction."""

    name = "waking jobs that wait"
    chore: FirstOf = "wake"
    moves = JobsUnblocked

    def _tell(self, promoted: Promoted) -> None:
        self._tools.committed(ready=promoted.lanes)

    async def _move(
        self, connection: Connection, limit: int, without: Collection[UUID], *, names_jobs: bool
    ) -> Promoted:
        return await self._tools.store.wake(connection, limit, without, names_jobs=names_jobs)
