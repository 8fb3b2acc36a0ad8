"""Works on bulk operations: cancels, requeues or discards the jobs that were chosen, newest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.events.kinds import CancelsRequested, JobsCancelled, JobsReopened
from pgqueue.model.bulk import BulkProgress, next_listed
from pgqueue.model.filters import FIRST_ID, LAST_ID
from pgqueue.store import Requeued
from pgqueue.upkeep.chore import TICK
from pgqueue.upkeep.operations import NotOursError, Operations
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection
    from pgqueue.events.kinds import JobMoved

LOOKS: Final = 5000
"""Jobs that one transaction looks at, at most, to find those that match."""


class Bulk(Operations):
    """Works on bulk operations."""

    name = "working on bulk operations"
    what = "bulk operation"
    limit = 500

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._is_underway = False
        """Whether the last part was not the end of its operation."""

    async def run(self) -> float:
        """Do the next part of a bulk operation, if there is one."""
        self._is_underway = False
        await self._carry_on()
        # Other chores have their turn between two parts.
        return 0.0 if self._is_underway else TICK

    async def _carry(self, limit: int, _: Collection[UUID]) -> int:
        """Do a part; return 0: the rest has its turn after the other chores."""
        tools = self._tools
        cancelled: Sequence[JobMoved] = ()
        requested: Sequence[JobMoved] = ()
        requeued = Requeued(0, (), ())
        async with tools.link.use() as connection, connection.transaction():
            bulk = await tools.store.hold_bulk(connection)
            if bulk is None:
                return 0
            ids, reached, is_done = await self._next(connection, bulk, limit)
            changed = 0
            # In one order, as all who lock many jobs do.
            in_order = sorted(ids)
            match bulk.verb:
                case "cancel" if ids:
                    cancelled, requested = await tools.store.cancel_jobs(
                        connection, in_order, bulk.reason, bulk.actor
                    )
                    changed = len(cancelled) + len(requested)
                case "requeue" if ids:
                    requeued = await tools.store.requeue_jobs(
                        connection,
                        in_order,
                        bulk.statuses,
                        bulk.reason,
                        bulk.actor,
                        names_jobs=tools.observers.want(JobsReopened),
                    )
                    changed = requeued.count
                case "discard" if ids:
                    changed = await tools.store.discard_jobs(connection, in_order, bulk.reason, bulk.actor)
                case _:
                    pass
            await tools.store.note_bulk(
                connection, bulk.id, reached, found=len(ids), done=changed, is_done=is_done
            )
        self._is_underway = not is_done
        tools.committed(ended=[each.job_id for each in cancelled], ready=requeued.lanes)
        if cancelled:
            tools.observers.emit(JobsCancelled(cancelled, bulk.reason))
        if requested:
            tools.observers.emit(CancelsRequested(requested, bulk.reason))
        if requeued.jobs:
            tools.observers.emit(JobsReopened(requeued.jobs, "requeued", bulk.reason))
        return 0

    async def _next(
        self, connection: Connection, bulk: BulkProgress, limit: int
    ) -> tuple[Sequence[UUID], UUID | None, bool]:
        """Return the next jobs of *bulk*, how far it has come with them, and whether they are the last."""
        if bulk.job_ids is not None:
            ids, is_last = next_listed(bulk.job_ids, bulk.reached, limit)
            return ids, ids[-1] if ids else None, is_last
        assert bulk.chosen is not None
        if bulk.reached == FIRST_ID:
            return (), None, True
        high = LAST_ID if bulk.reached is None else UUID(int=bulk.reached.int - 1)
        found = await self._tools.store.list_jobs(
            connection, bulk.chosen, FIRST_ID, high, looks=LOOKS, limit=limit
        )
        if len(found.ids) == limit:
            return found.ids, found.ids[-1], False
        return found.ids, found.reached, found.looked < LOOKS or found.reached is None

    async def _find(self, connection: Connection, _: Collection[UUID]) -> UUID | None:
        return await self._tools.store.find_bulk(connection)

    async def _leave_out(self, operation_id: UUID) -> UUID | None:
        tools = self._tools
        async with tools.link.use() as connection, connection.transaction():
            bulk = await tools.store.hold_bulk(connection, operation_id)
            if bulk is None:
                raise NotOursError
            ids, reached, is_done = await self._next(connection, bulk, 1)
            if ids:
                await tools.store.note_bulk(
                    connection, operation_id, reached, found=1, done=0, is_done=is_done
                )
        return ids[0] if ids else None

    async def _stop(self, operation_id: UUID) -> None:
        async with self._tools.link.use() as connection:
            await self._tools.store.cancel_bulk(connection, operation_id)
