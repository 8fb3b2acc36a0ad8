"""Rescues the jobs of lost workers: what happens when a worker dies.

A worker's right to its jobs is its lease, which it renews. A lease that expired is locked, and its jobs
return to the queue, oldest claims first. Attempts that were lost with their worker do not count as attempts
but as losses; a job that was lost too often (`max_losses`) while it ran alone has failed: a loss beside
others may be the fault of any of them. `worker/claim/suspects.py` sees to it that one that is lost again and
again runs alone. `claim` locks its lease in share mode
and this chore locks it for update, each of its statements looking anew. So a claim is either seen by the
rescue or refused, and no job is left running under a lease that is gone.

A dead process is noticed before its lease expires, by the advisory lock that its session held. A lock that is
free proves little, because a worker that lost only its connection takes it again soon. So the lock must be
free and the lease not renewed for SILENCE seconds, in one unbroken observation: if this worker was cut off
itself, the observation begins anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.database.outages import is_away
from pgqueue.events.kinds import JobRescued, JobsRescued
from pgqueue.model.jobs import JobStatus
from pgqueue.options.levels import MAX_LOSSES
from pgqueue.store import Rescued
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

LIMIT: Final = 1000
"""Jobs of one lease that one statement rescues."""
SILENCE: Final = 3.0
"""Seconds for which a process must have let go of its lock, unrenewed, before it is taken for dead."""


class SilenceWatch:
    """Tells which peers have been silent for long enough. Values only."""

    def __init__(self) -> None:
        self._seen: dict[UUID, tuple[datetime, float]] = {}

    def dead(self, silent: dict[UUID, datetime], now: float) -> list[tuple[UUID, datetime]]:
        """Return the leases that stayed silent and unrenewed for SILENCE seconds, up to *now*."""
        self._seen = {
            lease_id: self._seen[lease_id]
            if lease_id in self._seen and self._seen[lease_id][0] == renewed_at
            else (renewed_at, now)
            for lease_id, renewed_at in silent.items()
        }
        return [
            (lease_id, renewed_at)
            for lease_id, (renewed_at, since) in self._seen.items()
            if now - since >= SILENCE
        ]

    def forget(self) -> None:
        """Start anew: this worker was cut off itself, and nothing seen before counts."""
        self._seen.clear()


class Rescuing(Chore):
    """Rescues the jobs of lost workers."""

    name = "rescuing jobs of lost workers"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)
        self._silence = SilenceWatch()

    def forget(self) -> None:
        """See Chore."""
        self._silence.forget()

    async def run(self) -> float:
        """Expire the leases of dead processes, and rescue a batch of each expired lease's jobs."""
        own = self._tools.state.lease_id
        if own is not None:
            await self._expire_silent(own)
        async with self._tools.link.use() as connection:
            expired = await self._tools.store.find_expired_leases(connection)
        is_more = False
        failure: Exception | None = None
        for lease_id, worker in expired:
            try:
                is_more |= await self._rescue(lease_id, worker)
            except Exception as error:
                if is_away(error):
                    raise
                # The jobs of other workers do not wait for those of this one.
                failure = error
        if failure is not None:
            raise failure
        return 0.0 if is_more else TICK

    async def _expire_silent(self, own: UUID) -> None:
        store = self._tools.store
        async with self._tools.link.use() as connection:
            silent = await store.find_silent_leases(connection, own)
            for lease_id, renewed_at in self._silence.dead(silent, time.monotonic()):
                if await store.expire_lease(connection, lease_id, renewed_at):
                    logger.warning("lease %s: its process is dead; rescuing its jobs", lease_id)

    async def _rescue(self, lease_id: UUID, worker: str) -> bool:
        """Rescue jobs of an expired lease; return whether there may be more."""
        tools, store = self._tools, self._tools.store

        async def rescue(limit: int, without: Collection[UUID]) -> int:
            async with tools.link.use() as connection, connection.transaction():
                if not await store.lock_expired_lease(connection, lease_id):
                    return 0
                await store.note_loss(connection, lease_id)
                rescued = await store.rescue(connection, lease_id, limit, MAX_LOSSES, without)
                if len(rescued) < limit:
                    await store.delete_lease(connection, lease_id)
            if rescued or not without:
                self._report(worker, rescued)
            return len(rescued)

        async def first(connection: Connection, without: Collection[UUID]) -> UUID | None:
            return await store.find_held(connection, lease_id, without)

        async def cure(job_id: UUID, error: Exception) -> bool:
            return await self._broken.blame(tools.link, job_id, error, lease_id)

        return await self._broken.move(tools.link, LIMIT, rescue, first, cure)

    def _report(self, worker: str, rescued: Sequence[Rescued]) -> None:
        failed = [job.id for job in rescued if job.status is JobStatus.FAILED]
        cancelled = [job.id for job in rescued if job.status is JobStatus.CANCELLED]
        lanes = {job.lane for job in rescued if job.status is JobStatus.PENDING}
        requeued = len(rescued) - len(failed) - len(cancelled)
        logger.warning(
            "worker %s was lost: %d jobs returned to the queue, %d failed, %d cancelled as requested",
            worker,
            requeued,
            len(failed),
            len(cancelled),
        )
        tools = self._tools
        tools.committed(ended=[*failed, *cancelled], ready=lanes)
        tools.announcer.failed(failed)
        jobs = [
            JobRescued(job.id, job.task, job.queue, job.attempt, job.was_running, job.status)
            for job in rescued
        ]
        tools.observers.emit(JobsRescued(requeued, failed, worker, jobs))
