"""Claims jobs for the free slots of a worker, across all its lanes, in one statement at a time.

A claim asks for exactly the free slots, in all lanes that are believed to have jobs. What is remembered of
lanes is a hint, and the sweep corrects it: notifications are hints as well, and polling is the promise.

If the reply to a claim is lost, the claim may have been committed, under a lease that lives on. So the worker
returns to the queue what its lease holds and it does not know of: at once, and again some seconds later,
because what was sent can be executed after the connection is gone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from operator import attrgetter
from uuid import UUID

import anyio
import asyncpg

from pgqueue.database.outages import is_away
from pgqueue.database.patience import persist
from pgqueue.database.pool import Link
from pgqueue.events.kinds import BatchSent, JobMoved, JobsCancelled, WorkErrorIsolated
from pgqueue.model.jobs import JobStatus
from pgqueue.options.run_time import Settings
from pgqueue.store import Claimed
from pgqueue.upkeep.announcing import Announcer
from pgqueue.upkeep.broken_rows import BrokenRows
from pgqueue.upkeep.state import WorkerState
from pgqueue.worker.claim.lanes import LaneBook
from pgqueue.worker.claim.suspects import Suspects
from pgqueue.worker.host import WorkerHost
from pgqueue.worker.lease.giving_back import give_lease_back
from pgqueue.worker.settings import WorkerSettings
from pgqueue.worker.slots import Slots

logger = logging.getLogger("pgqueue.worker")

_by_position = attrgetter("position")

SWEEP_INTERVAL = 1.0
"""Seconds between two sweeps of a busy worker."""
SWEEP_GAP = 0.05
"""Minimum seconds between two sweeps, before a worker believes that its lanes are empty."""
MAX_FOREIGN = 1000
"""Lanes of other workers' queues that are remembered, so that their jobs are not looked for."""
SWEEP_SHARE = 20
"""A sweep is not repeated for this many times its own length: a held snapshot's dead rows slow it down."""
FAILURE_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds until a round that failed is tried again; the last one repeats."""
DOUBTS = (0.0, 5.0, 20.0, 60.0)
"""Seconds after a claim whose reply was lost at which its jobs are looked for."""


class Claimer:
    """The one loop of a worker that claims."""

    def __init__(
        self,
        host: WorkerHost,
        link: Link,
        state: WorkerState,
        slots: Slots,
        announcer: Announcer,
        book: LaneBook,
        settings: WorkerSettings,
    ) -> None:
        self._store = host.store
        self._link = link
        self._state = state
        self._slots = slots
        self._announcer = announcer
        self._observers = host.observers
        self._registry = host.registry
        self._worker = slots.worker
        self._queues = settings.queues
        self._prefetch_limit = settings.prefetch
        # Behind a pooler no notifications come.
        self._poll_interval = settings.poll_interval or (0.1 if host.database.is_pooled else 1.0)
        self._lease_id: UUID | None = None
        """The lease that it claims under."""
        self._heeded: Settings | None = None
        """The settings that it heeds."""
        self._ended = asyncio.Event()
        self._prefetched: list[UUID] = []
        self._suspects = Suspects()
        self._swept_at = float("-inf")
        self._must_sweep = True
        self._sweep_seconds = 0.0
        self._has_claimed_since_sweep = False
        self._doubts: list[float] = []
        self._foreign: set[int] = set()
        self._soon: asyncio.TimerHandle | None = None
        self._is_wanted_soon = False
        self._broken = BrokenRows("claiming", host.store, announcer, host.observers, worker=slots.worker)
        self._failures = 0
        self.book = book

    @property
    def prefetched(self) -> Sequence[UUID]:
        """Jobs that are claimed and not started."""
        return self._prefetched

    def hint(self, lane_id: int) -> None:
        """Look again: a lane may have jobs."""
        if self.book.knows(lane_id):
            self.book.wake(lane_id)
            self._state.claiming.set()
        elif lane_id not in self._foreign:
            # New, or of a queue that this worker does not serve: the sweep tells. The latter is not looked up
            # again, unless there are more than a process remembers: any role may announce numbers.
            if len(self._foreign) >= MAX_FOREIGN:
                self._foreign.clear()
            self._foreign.add(lane_id)
            self._look_soon()

    def _look_soon(self) -> None:
        """Sweep at once, or a moment after the last sweep for a lane that was unknown."""
        if self._soon is None:
            loop = asyncio.get_running_loop()
            self.look()
            self._soon = loop.call_later(SWEEP_GAP, self._allow_soon)
        else:
            self._is_wanted_soon = True

    def _allow_soon(self) -> None:
        self._soon = None
        if self._is_wanted_soon:
            self._is_wanted_soon = False
            self._look_soon()

    def look(self) -> None:
        """Sweep at once: there may be more than was announced."""
        self._must_sweep = True
        self._state.claiming.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self._state.stop()

    async def run(self) -> None:
        """Claim until stopped."""
        while not self._state.is_stopping:
            # Cleared before looking: what is announced during a claim is not slept through.
            self._state.claiming.clear()
            pause = await self._try_round()
            if pause > 0:
                with anyio.move_on_after(pause):
                    await self._state.claiming.wait()
        self._ended.set()

    async def _try_round(self) -> float:
        """Do one round; return the seconds to sleep. An error is logged, and puts the next round off."""
        try:
            pause = await persist("claiming", self._round)
        except Exception as error:
            self._failures += 1
            pause = FAILURE_PAUSES[min(self._failures, len(FAILURE_PAUSES)) - 1]
            logger.error(
                "claiming failed (%s: %s); trying again in %g s, running jobs continue",
                type(error).__name__,
                error,
                pause,
                exc_info=error if self._failures == 1 else None,
            )
            self._observers.emit(WorkErrorIsolated("claiming", type(error).__name__))
            await self._rest(pause)
            return 0.0
        self._failures = 0
        return pause

    async def _rest(self, seconds: float) -> None:
        """Wait, whatever is announced meanwhile: an error would come again as often. Only a stop ends it."""
        until = time.monotonic() + seconds
        while not self._state.is_stopping and (left := until - time.monotonic()) > 0:
            self._state.claiming.clear()
            with anyio.move_on_after(left):
                await self._state.claiming.wait()

    async def wait_ended(self) -> None:
        """Wait until a claim that was under way when it was stopped has brought its jobs."""
        await self._ended.wait()

    async def return_prefetched(self) -> None:
        """Return prefetched jobs to the queue. Only when `run` has ended, as this uses its connection."""
        lease_id = self._state.lease_id
        held = [*self._prefetched, *self._suspects.ids]
        if lease_id is None or lease_id != self._lease_id or not held:
            return
        async with self._link.use() as connection:
            lanes = await self._store.release(connection, lease_id, self._worker, held)
            cancelled = [job_id for job_id, lane in lanes.items() if lane is None]
            ended = await self._store.read_jobs(connection, cancelled) if cancelled else {}
        self._announcer.committed(
            ended=cancelled, ready={lane for lane in lanes.values() if lane is not None}
        )
        for job in ended.values():
            moved = JobMoved(job.id, job.task, job.queue, JobStatus.PENDING, job.status, job.attempt)
            self._observers.emit(JobsCancelled([moved], job.reason))

    async def return_lease(self) -> None:
        """Give the lease back when nothing is left under it. Only when `run` has ended: see above."""
        if self._state.lease_id is not None:
            await give_lease_back(self._store, self._link, self._state.lease_id, with_jobs=True)

    def _heed_state(self) -> UUID | None:
        """Adopt the lease and the settings as they are now; return the lease to claim under, if any."""
        settings, lease_id = self._state.settings, self._state.lease_id
        if settings is None:
            # Not before the settings are known: what is paused would start.
            return None
        if settings is not self._heeded:
            self._heeded = settings
            self.book.heed(settings)
            self._must_sweep = True
        if lease_id != self._lease_id:
            self._lease_id = lease_id
            self._prefetched = []
            self._suspects.forget()
            self._doubts = []
            self._must_sweep = True
        if lease_id is not None:
            self._state.ready.set()
        return lease_id

    def _sweep_in(self) -> float:
        """Return the seconds until the lanes are to be swept."""
        if self._must_sweep:
            return 0.0
        if self.book.has_active:
            interval = SWEEP_INTERVAL
        elif self._has_claimed_since_sweep:
            # They look empty, from positions that are only remembered: make sure before a long sleep.
            interval = SWEEP_GAP
        else:
            interval = self._poll_interval
        return max(interval, SWEEP_SHARE * self._sweep_seconds) - (time.monotonic() - self._swept_at)

    async def _round(self) -> float:
        """Sweep if it is time, then fill the free slots; return the seconds to sleep unless woken."""
        lease_id = self._heed_state()
        # Asked once. Slots that are freed from here on wake the loop for another round.
        free = self._slots.free
        if (
            lease_id is None
            or self._state.is_stopping
            or (free <= 0 and len(self._prefetched) >= self._prefetch_limit and not self._suspects.are_there)
        ):
            return math.inf
        try:
            return await self._do_round(lease_id, free)
        except BaseException:
            now = time.monotonic()
            self._must_sweep = True
            self._doubts = [now + delay for delay in DOUBTS]
            raise

    async def _do_round(self, lease_id: UUID, free: int) -> float:
        # Each step lends itself the connection: behind a pooler that is a transaction, and jobs must not
        # start before the one that claims them is committed.
        if self._doubts and time.monotonic() >= self._doubts[0]:
            await self._resolve_doubt(lease_id)
        if self._suspects.are_there and await self._run_apart(lease_id):
            return max(0.0, self._doubts[0] - time.monotonic()) if self._doubts else math.inf
        if self._sweep_in() <= 0:
            await self._sweep()
            if not self.book.has_active and free > 0:
                await self._take_over(lease_id, free)
        if self._prefetched and free > 0:
            free -= await self._start_prefetched(lease_id, free)
        if self.book.has_active and free > 0:
            free -= await self._claim(lease_id, free)
        if self._prefetch_limit and self.book.has_active:
            await self._prefetch(lease_id)
        is_more = self._suspects.are_there or self.book.has_active or (self._prefetched and free > 0)
        return 0.0 if is_more else max(0.0, self._sweep_in())

    async def _sweep(self) -> None:
        # Cleared before looking: a look that is asked for during this sweep is another one.
        self._must_sweep = False
        async with self._link.use() as connection:
            # Without the time to open the connection, which has nothing to do with sweeps.
            started_at = time.monotonic()
            self.book.learn(await self._store.find_lanes(connection, self._queues, self._registry.names))
            self.book.swept(await self._store.sweep(connection, self.book.ids))
        self._swept_at = time.monotonic()
        self._sweep_seconds = self._swept_at - started_at
        self._has_claimed_since_sweep = False

    async def _claim(self, lease_id: UUID, limit: int) -> int:
        """Claim up to *limit* ready jobs and start them; return their number."""
        walk = self.book.walk()
        if self._broken.is_suspicious:
            return await self._claim_singly(lease_id, limit, walk)
        try:
            async with self._link.use() as connection:
                started_at = time.monotonic()
                jobs = await self._store.claim(connection, lease_id, limit, walk)
        except Exception as error:
            if is_away(error):
                raise
            # One of the jobs, perhaps. If it was read back that failed, they are claimed.
            logger.warning("a claim failed (%s: %s); claiming job by job", type(error).__name__, error)
            await self._return_unknown(lease_id)
            return await self._claim_singly(lease_id, limit, walk)
        self._tell_sent(len(jobs), started_at)
        self._has_claimed_since_sweep = True
        self.book.claimed(walk, [(job.lane, job.position) for job in jobs], limit=limit)
        return self._start(lease_id, jobs)

    async def _claim_singly(self, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]) -> int:
        """Claim as `_claim` does, job by job; set aside those that cannot be claimed."""
        async with self._link.use() as connection:
            found = await self._store.find_claimable(connection, limit, walk, self._broken.skipped)
        claimed: list[Claimed] = []
        failures = 0
        for job_id in found:
            try:
                async with self._link.use() as connection:
                    job = await self._store.claim_one(connection, lease_id, job_id)
            except Exception as error:
                if is_away(error):
                    # Those before it have started already.
                    raise
                failures += 1
                await self._blame(lease_id, job_id, error)
                continue
            if job is not None:
                # Before the others are tried: what is claimed waits for none of them.
                self._start(lease_id, [job])
                claimed.append(job)
                self._broken.went_through([job_id])
        if claimed:
            self._has_claimed_since_sweep = True
        self.book.claimed(walk, [(job.lane, job.position) for job in claimed], limit=limit)
        if failures:
            self._must_sweep = True
        return len(claimed)

    async def _blame(self, lease_id: UUID, job_id: UUID, error: Exception) -> None:
        if not isinstance(error, asyncpg.PostgresError):
            # It could not be read back. The claim itself is committed.
            await self._return_unknown(lease_id)
        await self._broken.blame(self._link, job_id, error, lease_id)

    async def _prefetch(self, lease_id: UUID) -> None:
        limit, walk = self._prefetch_limit - len(self._prefetched), self.book.walk()
        if limit <= 0 or self._broken.is_suspicious or self._suspects.are_there:
            return
        async with self._link.use() as connection:
            started_at = time.monotonic()
            jobs = await self._store.prefetch(connection, lease_id, limit, walk)
        self._tell_sent(len(jobs), started_at)
        self.book.claimed(walk, [(lane, position) for _, lane, position, _ in jobs], limit=limit)
        self._prefetched += self._suspects.sort_out_prefetched(
            (job_id, losses) for job_id, _, _, losses in jobs
        )

    def _tell_sent(self, size: int, started_at: float) -> None:
        if self._observers.want(BatchSent):
            self._observers.emit(BatchSent("claim", size, time.monotonic() - started_at))

    async def _take_over(self, lease_id: UUID, limit: int) -> None:
        """Take over what other workers have prefetched: there is nothing else to do."""
        async with self._link.use() as connection:
            taken = await self._store.take_over_prefetched(connection, lease_id, limit, self.book.ids)
        self._prefetched += self._suspects.sort_out_prefetched(
            (job_id, losses) for job_id, _, _, losses in taken
        )

    async def _start_prefetched(self, lease_id: UUID, count: int) -> int:
        """Start up to *count* prefetched jobs; return their number."""
        ids, self._prefetched = self._prefetched[:count], self._prefetched[count:]
        # Those that are not returned were taken over by another worker meanwhile.
        try:
            async with self._link.use() as connection:
                jobs = await self._store.start(connection, lease_id, ids)
        except Exception as error:
            if is_away(error):
                raise
            return await self._start_singly(lease_id, ids)
        return self._start(lease_id, jobs)

    async def _start_singly(self, lease_id: UUID, ids: Sequence[UUID]) -> int:
        """Start prefetched jobs one by one; set aside those that cannot be started."""
        started = 0
        for job_id in ids:
            try:
                async with self._link.use() as connection:
                    jobs = await self._store.start(connection, lease_id, [job_id])
            except Exception as error:
                if is_away(error):
                    raise
                await self._broken.blame(self._link, job_id, error, lease_id)
            else:
                started += self._start(lease_id, jobs)
                self._broken.went_through()
        return started

    async def _run_apart(self, lease_id: UUID) -> bool:
        """See to the suspects; return whether the worker has to wait for the end of what runs."""
        suspects, slots = self._suspects, self._slots
        if suspects.claimed:
            ids = [job.id for job in suspects.claimed]
            suspects.claimed = []
            async with self._link.use() as connection:
                held = await self._store.hold_suspects(connection, lease_id, ids)
            suspects.waiting += [job_id for job_id in ids if job_id in held]
        if not slots.is_idle:
            return True
        suspects.is_running = False
        while suspects.waiting and not suspects.is_running:
            # Not returned: another worker has taken it over.
            job_id = suspects.waiting.pop(0)
            try:
                async with self._link.use() as connection:
                    jobs = await self._store.start(connection, lease_id, [job_id])
            except Exception as error:
                if is_away(error):
                    raise
                await self._broken.blame(self._link, job_id, error, lease_id)
                continue
            if jobs:
                suspects.is_running = True
                slots.start(lease_id, jobs)
        return suspects.is_running

    def _start(self, lease_id: UUID, jobs: list[Claimed]) -> int:
        if jobs:
            jobs.sort(key=_by_position)
            self._slots.start(lease_id, self._suspects.sort_out(jobs))
        return len(jobs)

    async def _resolve_doubt(self, lease_id: UUID) -> None:
        # Removed first: the lease may change meanwhile, and its doubts with it. A failure adds them again.
        self._doubts.pop(0)
        await self._return_unknown(lease_id)

    async def _return_unknown(self, lease_id: UUID) -> None:
        """Return to the queue what the lease holds and this worker does not know of."""
        async with self._link.use() as connection, connection.transaction():
            await self._store.lock_lease(connection, lease_id)
            known = [*self._slots.job_ids, *self._prefetched, *self._suspects.ids]
            found = await self._store.release_unknown(connection, lease_id, known)
        if found:
            logger.warning("the reply to a claim was lost; %d jobs returned to the queue", len(found))
            self.look()
