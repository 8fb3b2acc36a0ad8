"""What keeps the queues moving: promoting due jobs, rescuing lost ones, redriving, making partitions.

Every worker does all of it, any number at once: each step is one idempotent statement that passes over
what somebody else is at. Nothing needs a leader.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import anyio

from pgqueue.background.notifications import Announce
from pgqueue.database.patience import persist
from pgqueue.database.pool import Link
from pgqueue.events.kinds import (
    JobMoved,
    JobRescued,
    JobsCancelled,
    JobsExpired,
    JobsPromoted,
    JobsReopened,
    JobsRescued,
    JobsUnblocked,
)
from pgqueue.events.observers import Observers
from pgqueue.model.ids import new_id
from pgqueue.model.jobs import JobStatus
from pgqueue.options.levels import MAX_LOSSES
from pgqueue.options.run_time import Settings
from pgqueue.store import Rescued, Store

logger = logging.getLogger("pgqueue.worker")

TICK = 1.0
"""Seconds between two rounds."""
PROMOTE_LIMIT = 1000
RESCUE_LIMIT = 1000
EXPIRE_LIMIT = 1000
UNBLOCK_LIMIT = 1000
PARTITION_INTERVAL = 3600.0
PURGE_INTERVAL = 10.0
PURGE_LIMIT = 2000
"""Rows that one statement removes."""
PURGE_BATCHES = 10
"""Such statements in one round, at most: rescuing must not wait for them."""
MERGE_CHORE = "merge stats"
DAYS_AHEAD = 3
REDRIVE_LIMIT = 5000
"""Jobs of a mass redrive that one round requeues at most."""
UNKNOWN_LIMIT = 1000
UNKNOWN_INTERVAL = 60.0
"""Seconds between two looks at jobs put aside for tasks that nobody knows."""
UNKNOWN_ALERT = 3600.0
"""Seconds for which such jobs wait before it is said, and between two times that it is."""
SILENCE = 3.0
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
        """Start anew: we were away ourselves, and nothing seen before counts."""
        self._seen.clear()


class Maintenance:
    """One worker's share of the upkeep.

    *died* is told which jobs have failed for good; *known* names the tasks of this process; *unknown_grace*
    is how many seconds jobs of tasks that nobody knows wait before they fail, None: for ever.
    """

    def __init__(
        self,
        store: Store,
        link: Link,
        *,
        observers: Observers,
        announce: Announce,
        lease_id: Callable[[], UUID | None],
        cancel: Callable[[Sequence[UUID]], None],
        heed: Callable[[Settings], None],
        died: Callable[[Collection[UUID]], None],
        known: Callable[[], Iterable[str]],
        unknown_grace: float | None,
    ) -> None:
        self._store = store
        self._link = link
        self._observers = observers
        self._announce = announce
        self._lease_id = lease_id
        self._cancel = cancel
        self._heed = heed
        self._died = died
        self._known = known
        self._unknown_grace = unknown_grace
        self._next_unknown = 0.0
        self._alerted: dict[str, float] = {}
        self._silence = SilenceWatch()
        self._id = new_id()
        self._wakeup = anyio.Event()
        self._next_round = 0.0
        self._next_partitions = 0.0
        self._next_purge = 0.0

    def wake(self) -> None:
        """Do a whole round at once: somebody asked to cancel a job, or changed a setting."""
        self._next_round = 0.0
        self._wakeup.set()

    def expect(self, delay: float) -> None:
        """Take note of a job that is due in *delay* seconds, before the next round perhaps."""
        if delay < TICK:
            self._wakeup.set()

    async def run(self) -> None:
        """Keep house until cancelled."""
        while True:
            self._wakeup = anyio.Event()
            next_in = await persist("promoting", self._promote)
            if time.monotonic() >= self._next_round:
                self._next_round = time.monotonic() + TICK
                await persist("keeping house", self._round)
            with anyio.move_on_after(min(TICK, max(0.0, next_in))):
                await self._wakeup.wait()

    async def _promote(self) -> float:
        """Promote what is due; return the seconds until there is more to do."""
        async with self._link.use() as connection:
            promoted = await self._store.promote(
                connection, PROMOTE_LIMIT, names_jobs=self._observers.want(JobsPromoted)
            )
        if promoted.count:
            self._announce(finished=(), lanes=promoted.lanes)
        if promoted.jobs:
            self._observers.emit(JobsPromoted(promoted.jobs))
        if promoted.count == PROMOTE_LIMIT:
            return 0.0
        return TICK if promoted.next_in is None else promoted.next_in

    async def _round(self) -> None:
        try:
            await self._hear()
            while await self._rescue():
                pass
            await self._unblock()
            if time.monotonic() >= self._next_purge:
                self._next_purge = time.monotonic() + (0.0 if await self._purge() else PURGE_INTERVAL)
            await self._redrive()
            if time.monotonic() >= self._next_unknown:
                await self._look_after_unknown()
                self._next_unknown = time.monotonic() + UNKNOWN_INTERVAL
            while await self._expire():
                pass
            if time.monotonic() >= self._next_partitions:
                await self._make_partitions()
                self._next_partitions = time.monotonic() + PARTITION_INTERVAL
        except BaseException:
            self._silence.forget()
            raise

    async def _hear(self) -> None:
        """Heed what operators and callers ask for, and notice dead processes."""
        own = self._lease_id()
        async with self._link.use() as connection:
            self._heed(await self._store.read_settings(connection))
            settled = await self._store.settle_cancel_requests(connection)
            if own is not None:
                self._cancel(await self._store.find_cancel_requests(connection, own))
                silent = await self._store.find_silent_leases(connection, own)
                for lease_id, renewed_at in self._silence.dead(silent, time.monotonic()):
                    if await self._store.expire_lease(connection, lease_id, renewed_at):
                        logger.warning("lease %s: its process is dead; taking its jobs back", lease_id)
        for job, reason in settled:
            self._announce(finished=[job.job_id], lanes=())
            self._observers.emit(JobsCancelled([job], reason))

    async def _make_partitions(self) -> None:
        async with self._link.use() as connection:
            made = await self._store.make_partitions(connection, DAYS_AHEAD)
        if made:
            logger.info("made %d partitions of the job table", made)

    async def _expire(self) -> bool:
        """End a batch of jobs that wait past their expiry; return whether there may be more."""
        async with self._link.use() as connection:
            expired = await self._store.expire(connection, EXPIRE_LIMIT)
        if expired:
            logger.info("%d jobs have expired without being started", len(expired))
            self._announce(finished=[job.job_id for job in expired], lanes=())
            self._observers.emit(JobsExpired(expired))
        return len(expired) == EXPIRE_LIMIT

    async def _rescue(self) -> bool:
        """Take back a batch of each expired lease's jobs; return whether there may be more."""
        is_more = False
        taken: list[tuple[str, list[Rescued]]] = []
        # The locks are held to the commit, and each statement looks anew: a claim that was not committed
        # when a lease was to be locked is either passed over or seen.
        async with self._link.use() as connection, connection.transaction():
            for lease_id, worker in await self._store.lock_expired_leases(connection):
                rescued = await self._store.rescue(connection, lease_id, RESCUE_LIMIT, MAX_LOSSES)
                taken.append((worker, rescued))
                if len(rescued) == RESCUE_LIMIT:
                    is_more = True
                else:
                    await self._store.delete_lease(connection, lease_id)
        for worker, rescued in taken:
            self._report(worker, rescued)
        return is_more

    async def _unblock(self) -> None:
        """Move jobs on whose predecessor is over."""
        async with self._link.use() as connection:
            unblocked = await self._store.unblock(connection, UNBLOCK_LIMIT)
        lanes = {lane for job, lane in unblocked if job.status is JobStatus.PENDING}
        if lanes:
            self._announce(finished=(), lanes=lanes)
        if unblocked:
            self._observers.emit(JobsUnblocked([job for job, _ in unblocked]))

    async def _purge(self) -> bool:
        """Remove keys, events and stats whose time is over; return whether there may be more."""
        is_more = False
        purges = [self._store.purge_keys, self._store.purge_inbox, self._store.purge_stats]
        async with self._link.use() as connection:
            # By one worker at a time: two would make two rows of what is to be one.
            if await self._store.take_chore(connection, MERGE_CHORE, self._id, PURGE_INTERVAL):
                purges.append(self._store.merge_stats)
        for purge in purges:
            for _ in range(PURGE_BATCHES):
                async with self._link.use() as connection:
                    count = await purge(connection, PURGE_LIMIT)
                if count < PURGE_LIMIT:
                    break
            else:
                is_more = True
        return is_more

    async def _redrive(self) -> None:
        """Carry a mass redrive on, if one is due."""
        jobs: Sequence[JobMoved] = ()
        reason: str | None = None
        # One transaction: what is pending again is claimed at its commit, and named before it.
        async with self._link.use() as connection, connection.transaction():
            carried = await self._store.carry_redrive(connection, REDRIVE_LIMIT)
            if carried is not None and carried.lanes and self._observers.want(JobsReopened):
                jobs, reason = await self._store.find_redriven(connection, carried)
        if carried is not None and carried.lanes:
            self._announce(finished=(), lanes=carried.lanes)
        if jobs:
            self._observers.emit(JobsReopened(jobs, "redriven", reason))

    async def _look_after_unknown(self) -> None:
        """Fail jobs of tasks that nobody has known for longer than the grace; say which wait for long."""
        known, grace = list(self._known()), self._unknown_grace
        failed: list[tuple[UUID, str]] = []
        is_more = grace is not None
        while is_more:
            assert grace is not None
            async with self._link.use() as connection:
                batch = await self._store.fail_unknown(connection, grace, known, UNKNOWN_LIMIT)
            self._announce(finished=[job_id for job_id, _ in batch], lanes=())
            self._died([job_id for job_id, _ in batch])
            failed += batch
            is_more = len(batch) == UNKNOWN_LIMIT
        for task, count in Counter(task for _, task in failed).items():
            logger.error("task %r: %d jobs have failed (unknown_task): no live worker knows it", task, count)
        alert_after = UNKNOWN_ALERT if grace is None else min(grace, UNKNOWN_ALERT)
        async with self._link.use() as connection:
            waiting = await self._store.find_waiting_aside(connection, alert_after)
        now = time.monotonic()
        for task in waiting:
            if now - self._alerted.get(task, float("-inf")) >= UNKNOWN_ALERT:
                self._alerted[task] = now
                logger.warning(
                    "task %r: jobs have been put aside for longer than %g s; run a worker that knows it",
                    task,
                    alert_after,
                )

    def _report(self, worker: str, rescued: Sequence[Rescued]) -> None:
        failed = [job.id for job in rescued if job.status is JobStatus.FAILED]
        cancelled = [job.id for job in rescued if job.status is JobStatus.CANCELLED]
        lanes = {job.lane for job in rescued if job.status is JobStatus.PENDING}
        requeued = len(rescued) - len(failed) - len(cancelled)
        logger.warning(
            "worker %s is lost: %d of its jobs go back, %d have failed, %d were to be cancelled",
            worker,
            requeued,
            len(failed),
            len(cancelled),
        )
        self._announce(finished=[*failed, *cancelled], lanes=list(lanes))
        self._died(failed)
        jobs = [
            JobRescued(job.id, job.task, job.queue, job.attempt, job.was_running, job.status)
            for job in rescued
        ]
        self._observers.emit(JobsRescued(requeued, failed, worker, jobs))
