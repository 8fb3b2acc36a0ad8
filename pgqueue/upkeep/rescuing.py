"""Rescues the jobs of lost workers: what happens when a worker dies.

A worker's right to its jobs is its lease, which it renews. A lease that expired is locked, and its jobs
return to the queue, oldest claims first. Attempts that were lost with their worker do not count as attempts
but as losses; a job that was lost too often (`max_losses`) while it ran alone has failed: a loss beside
others may be the fault of any of them. `worker/claim/suspects.py` sees to it that one that is lost again and
again runs alone. `claim` locks its lease in share mode
and this chore locks it for update, each of its statements looking anew. So a claim is either seen by the
rescue or refused, and no job is left running under a lease that is gone.

A dead process is noticed before its lease expires, by the advisory lock that its session held. What proves
that a worker is dead, and that it was not this one that was away, or the server, is said in `lease_watch`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.database.outages import is_away
from pgqueue.events.kinds import JobRescued, JobsRescued
from pgqueue.model.jobs import JobStatus
from pgqueue.options.levels import MAX_LOSSES
from pgqueue.store import DoubtfulLease, Rescued
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.lease_watch import LeaseWatch
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

LIMIT: Final = 1000
"""Jobs of one lease that one statement rescues."""
SOON: Final = 0.05
"""Seconds between two looks, at least."""


class Rescuing(Chore):
    """Rescues the jobs of lost workers."""

    name = "rescuing jobs of lost workers"

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)
        self._watch = LeaseWatch()

    def forget(self) -> None:
        """See Chore."""
        self._watch.interrupt()

    async def run(self) -> float:
        """Rescue a batch of the jobs of each lease that is lost."""
        own, store = self._tools.state.lease_id, self._tools.store
        async with self._tools.link.use() as connection:
            looked_at = time.monotonic()
            clock, doubtful = await store.find_doubtful_leases(connection, own)
            lost = self._watch.lost(doubtful, clock, looked_at, has_lease=own is not None)
            for lease in lost:
                if lease.expires_at <= clock:
                    continue
                if await store.expire_lease(connection, lease.id, lease.renewed_at):
                    logger.warning("lease %s: its process is dead; rescuing its jobs", lease.id)
        is_more = False
        failure: Exception | None = None
        for lease in lost:
            try:
                is_more |= await self._rescue(lease)
            except Exception as error:
                if is_away(error):
                    raise
                # The jobs of other workers do not wait for those of this one.
                failure = error
        if failure is not None:
            raise failure
        return 0.0 if is_more else min(TICK, max(SOON, self._watch.pause or TICK))

    async def _rescue(self, lease: DoubtfulLease) -> bool:
        """Rescue jobs of an expired lease; return whether there may be more."""
        tools, store, lease_id = self._tools, self._tools.store, lease.id

        async def rescue(limit: int, without: Collection[UUID]) -> int:
            async with tools.link.use() as connection, connection.transaction():
                if not await store.lock_expired_lease(connection, lease_id):
                    return 0
                await store.note_loss(connection, lease_id)
                rescued = await store.rescue(connection, lease_id, limit, MAX_LOSSES, without)
                if len(rescued) < limit:
                    await store.delete_lease(connection, lease_id)
            if rescued or not without:
                self._report(lease, rescued)
            return len(rescued)

        async def first(connection: Connection, without: Collection[UUID]) -> UUID | None:
            return await store.find_held(connection, lease_id, without)

        async def cure(job_id: UUID, error: Exception) -> bool:
            return await self._broken.blame(tools.link, job_id, error, lease_id)

        return await self._broken.move(tools.link, LIMIT, rescue, first, cure)

    def _report(self, lease: DoubtfulLease, rescued: Sequence[Rescued]) -> None:
        worker = lease.worker
        failed = [job.id for job in rescued if job.status is JobStatus.FAILED]
        cancelled = [job.id for job in rescued if job.status is JobStatus.CANCELLED]
        lanes = {job.lane for job in rescued if job.status is JobStatus.PENDING}
        requeued = len(rescued) - len(failed) - len(cancelled)
        logger.log(
            # A consumer may be well, and took too long: the record of the job says that it was lost.
            logging.DEBUG if lease.is_receipt else logging.WARNING,
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
