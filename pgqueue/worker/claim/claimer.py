"""Claims jobs for the free slots of a worker, across all its lanes, in one statement at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from uuid import UUID

import anyio

from pgqueue.database.patience import persist
from pgqueue.database.pool import Link
from pgqueue.events.kinds import BatchSent
from pgqueue.events.observers import Observers
from pgqueue.store import Claimed, Store
from pgqueue.tasks.registry import Registry
from pgqueue.worker.claim.lanes import LaneBook

logger = logging.getLogger("pgqueue.worker")

_by_position = attrgetter("position")

SWEEP_INTERVAL = 1.0
"""Seconds between two sweeps of a busy worker."""
SWEEP_GAP = 0.05
"""Seconds between two sweeps at least, before a worker believes that its lanes are empty."""
SWEEP_SHARE = 20
"""A sweep that took long, because dead rows cannot be vacuumed, is not repeated for so many times as long."""
DOUBTS = (0.0, 5.0, 20.0, 60.0)
"""Seconds after a claim whose answer was lost at which its jobs are looked for: what was sent may reach
the server, and be carried out, after the connection is gone."""


class Claimer:
    """The one loop of a worker that claims.

    *free* says how many slots are free now; *start* takes the claimed jobs; *known* names the jobs that the
    worker has, claimed and not yet committed as ended.
    """

    def __init__(
        self,
        store: Store,
        link: Link,
        registry: Registry,
        queues: Sequence[str],
        *,
        observers: Observers,
        book: LaneBook,
        poll_interval: float,
        prefetch: int,
        free: Callable[[], int],
        start: Callable[[UUID, Sequence[Claimed]], None],
        known: Callable[[], Iterable[UUID]],
    ) -> None:
        self._store = store
        self._link = link
        self._registry = registry
        self._queues = queues
        self._observers = observers
        self._poll_interval = poll_interval
        self._prefetch_limit = prefetch
        self._free = free
        self._start = start
        self._known = known
        self._lease_id: UUID | None = None
        self._is_stopping = False
        self._wakeup = asyncio.Event()
        self._ended = asyncio.Event()
        self._prefetched: list[UUID] = []
        self._swept_at = float("-inf")
        self._must_sweep = True
        self._sweep_seconds = 0.0
        self._has_claimed_since_sweep = False
        self._doubts: list[float] = []
        self._foreign: set[int] = set()
        self.book = book

    @property
    def prefetched(self) -> Sequence[UUID]:
        """Jobs leased and not started."""
        return self._prefetched

    def wake(self) -> None:
        """Look again: a slot is free."""
        self._wakeup.set()

    def hint(self, lane_id: int) -> None:
        """Look again: a lane may have jobs."""
        if self.book.knows(lane_id):
            self.book.wake(lane_id)
            self._wakeup.set()
        elif lane_id not in self._foreign:
            # New, or another queue's: the sweep tells, and what is another's is not asked for again.
            self._foreign.add(lane_id)
            self.look()

    def look(self) -> None:
        """Sweep at once: there may be more than was announced."""
        self._must_sweep = True
        self._wakeup.set()

    def use_lease(self, lease_id: UUID | None) -> None:
        """Claim under this lease from now on; None: claim nothing."""
        self._lease_id = lease_id
        self._prefetched = []
        self._doubts = []
        self._wakeup.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self._is_stopping = True
        self._wakeup.set()

    async def run(self) -> None:
        """Claim until stopped."""
        while not self._is_stopping:
            # Re-armed before looking: what is announced during a claim is not slept through.
            self._wakeup = asyncio.Event()
            if self._lease_id is None or not self._has_room:
                await self._wakeup.wait()
                continue
            await persist("claiming", self._claim)
            if not self.book.has_active and not (self._prefetched and self._free() > 0):
                with anyio.move_on_after(max(0.0, self._sweep_in())):
                    await self._wakeup.wait()
        self._ended.set()

    async def wait_ended(self) -> None:
        """Wait until a claim that was under way when it was stopped has brought its jobs."""
        await self._ended.wait()

    @property
    def _has_room(self) -> bool:
        return self._free() > 0 or len(self._prefetched) < self._prefetch_limit

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

    async def _claim(self) -> None:
        """Do one round: sweep if it is time, then fill the free slots."""
        lease_id = self._lease_id
        if lease_id is None or self._is_stopping:
            return
        try:
            # Each step lends itself the connection: behind a pooler that is a transaction, and jobs must not
            # start before the one that claims them is committed.
            if self._doubts and time.monotonic() >= self._doubts[0]:
                await self._resolve_doubt(lease_id)
            if self._sweep_in() <= 0:
                await self._sweep()
                if not self.book.has_active and self._free() > 0:
                    await self._steal(lease_id)
            if self._prefetched and self._free() > 0:
                await self._start_prefetched(lease_id)
            if self.book.has_active and self._free() > 0:
                await self._claim_ready(lease_id)
            if self._prefetch_limit and self.book.has_active:
                await self._prefetch(lease_id)
        except BaseException:
            now = time.monotonic()
            self._must_sweep = True
            self._doubts = [now + delay for delay in DOUBTS]
            raise

    async def _sweep(self) -> None:
        # Taken back before looking: who asks for a look during this sweep gets another one.
        self._must_sweep = False
        async with self._link.use() as connection:
            # Without the time that opening the connection took: it says nothing about sweeps.
            started_at = time.monotonic()
            self.book.learn(await self._store.find_lanes(connection, self._queues, self._registry.names))
            self.book.swept(await self._store.sweep(connection, self.book.ids))
        self._swept_at = time.monotonic()
        self._sweep_seconds = self._swept_at - started_at
        self._has_claimed_since_sweep = False

    async def _claim_ready(self, lease_id: UUID) -> None:
        limit, walk = self._free(), self.book.walk()
        async with self._link.use() as connection:
            started_at = time.monotonic()
            jobs = await self._store.claim(connection, lease_id, limit, walk)
        self._tell_sent(len(jobs), started_at)
        self._has_claimed_since_sweep = True
        self.book.claimed(walk, [(job.lane, job.position) for job in jobs], limit=limit)
        if jobs:
            jobs.sort(key=_by_position)
            self._start(lease_id, jobs)

    async def _prefetch(self, lease_id: UUID) -> None:
        limit, walk = self._prefetch_limit - len(self._prefetched), self.book.walk()
        if limit <= 0:
            return
        async with self._link.use() as connection:
            started_at = time.monotonic()
            jobs = await self._store.prefetch(connection, lease_id, limit, walk)
        self._tell_sent(len(jobs), started_at)
        self.book.claimed(walk, [(lane, position) for _, lane, position in jobs], limit=limit)
        self._prefetched += [job_id for job_id, _, _ in jobs]

    def _tell_sent(self, size: int, started_at: float) -> None:
        if self._observers.want(BatchSent):
            self._observers.emit(BatchSent("claim", size, time.monotonic() - started_at))

    async def _steal(self, lease_id: UUID) -> None:
        async with self._link.use() as connection:
            stolen = await self._store.take_over_prefetched(connection, lease_id, self._free(), self.book.ids)
        self._prefetched += [job_id for job_id, _, _ in stolen]

    async def _start_prefetched(self, lease_id: UUID) -> None:
        count = self._free()
        ids, self._prefetched = self._prefetched[:count], self._prefetched[count:]
        # What is not returned was stolen meanwhile.
        async with self._link.use() as connection:
            jobs = await self._store.start(connection, lease_id, ids)
        if jobs:
            jobs.sort(key=_by_position)
            self._start(lease_id, jobs)

    async def _resolve_doubt(self, lease_id: UUID) -> None:
        # Taken off first: the lease may change meanwhile, and its doubts with it. A failure raises them anew.
        self._doubts.pop(0)
        async with self._link.use() as connection, connection.transaction():
            await self._store.lock_lease(connection, lease_id)
            known = [*self._known(), *self._prefetched]
            found = await self._store.release_unknown(connection, lease_id, known)
        if found:
            logger.warning("the answer of a claim was lost: %d jobs were given back", len(found))
            self.look()
