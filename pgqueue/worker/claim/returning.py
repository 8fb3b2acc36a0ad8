"""Returns to the queue what a worker holds and has not started, or does not know of.

If the reply to a claim is lost, the claim may have been committed, under a lease that lives on. So the worker
returns to the queue what its lease holds and it does not know of: at once, and again some seconds later,
because what was sent can be executed after the connection is gone.

The other way round, a server that crashes forgets the claims that had not reached the disk. So whenever a
connection was opened anew, the worker takes again, before it claims anything, the jobs that it runs and that
are pending. One that another worker has claimed meanwhile runs there; here it is stopped. An asynchronous
standby that was promoted has forgotten outcomes as well, and has jobs running that nobody runs: they return.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from pgqueue.database.link import Link
from pgqueue.database.pool import Database
from pgqueue.events.kinds import JobMoved, JobsCancelled
from pgqueue.events.observers import Observers
from pgqueue.model.jobs import JobStatus
from pgqueue.store import Store
from pgqueue.upkeep.announcing import Announcer
from pgqueue.worker.attempt.attempt import Stop
from pgqueue.worker.claim.suspects import Suspects
from pgqueue.worker.lease.giving_back import give_lease_back
from pgqueue.worker.slots import Slots

logger = logging.getLogger("pgqueue.worker")

DOUBTS: Final = (0.0, 5.0, 20.0, 60.0)
"""Seconds after a claim whose reply was lost at which its jobs are looked for."""


class Held:
    """The jobs that one worker has claimed and not started."""

    def __init__(self) -> None:
        self.prefetched: list[UUID] = []
        """Claimed ahead of a free slot."""
        self.suspects = Suspects()

    @property
    def ids(self) -> list[UUID]:
        """All of them."""
        return [*self.prefetched, *self.suspects.ids]

    def take(self, jobs: Iterable[tuple[UUID, int]]) -> None:
        """Take note of prefetched jobs: (id, losses)."""
        new = self.suspects.sort_out_prefetched(jobs)
        if self.prefetched and new:
            # A pause returns jobs that are held here, and that come again: at their old places in this list,
            # they once started before those in front of them.
            again = set(new)
            self.prefetched = [job_id for job_id in self.prefetched if job_id not in again]
        self.prefetched += new

    def pop_prefetched(self, count: int) -> list[UUID]:
        """Return up to *count* prefetched jobs, which are held no more."""
        ids, self.prefetched = self.prefetched[:count], self.prefetched[count:]
        return ids

    def forget(self) -> None:
        """Forget them all: the lease that they were claimed under is gone."""
        self.prefetched = []
        self.suspects.forget()


class Returns:
    """Returns what one worker holds. It uses the connection of the claimer, which *look* has sweep again."""

    def __init__(
        self,
        database: Database,
        store: Store,
        link: Link,
        slots: Slots,
        held: Held,
        announcer: Announcer,
        observers: Observers,
        look: Callable[[], object],
    ) -> None:
        self._database = database
        self._store = store
        self._link = link
        self._slots = slots
        self._held = held
        self._announcer = announcer
        self._observers = observers
        self._look = look
        self._doubts: list[float] = []
        self._connects = database.connects

    @property
    def is_unsure(self) -> bool:
        """Whether a connection was opened since it last looked for claims that a crash forgot."""
        return self._connects != self._database.connects

    @property
    def doubt_in(self) -> float:
        """The seconds until jobs are looked for of which the worker was not told."""
        return max(0.0, self._doubts[0] - time.monotonic()) if self._doubts else math.inf

    def doubt(self) -> None:
        """Take note that the reply to a claim may be lost."""
        now = time.monotonic()
        self._doubts = [now + delay for delay in DOUBTS]

    def forget(self) -> None:
        """Doubt nothing: the lease of those claims is gone."""
        self._doubts = []

    async def resolve_doubt(self, lease_id: UUID) -> None:
        """Look for jobs of which the worker was not told, if it is time."""
        if self._doubts and time.monotonic() >= self._doubts[0]:
            # Removed first: the lease may change meanwhile, and its doubts with it. A failure adds them.
            self._doubts.pop(0)
            await self.return_unknown(lease_id)
        while self.is_unsure:
            # Noted afterwards: looking may open one.
            connects = self._database.connects
            await self._take_again(lease_id)
            await self.return_unknown(lease_id)
            self._connects = connects

    async def _take_again(self, lease_id: UUID) -> None:
        """Take again the jobs that run here and whose claims are forgotten."""
        if not (running := self._slots.underway(lease_id)):
            return
        async with self._link.use() as connection:
            found = await self._store.take_again(connection, lease_id, running)
        elsewhere = [job_id for job_id, how in found.items() if how == "elsewhere"]
        if taken := sum(how == "taken" for how in found.values()):
            logger.warning("the server forgot %d claims of jobs that are running here; they go on", taken)
        if elsewhere:
            logger.error(
                "the server forgot claims of %d jobs, and other workers run them by now; stopping them here",
                len(elsewhere),
            )
            self._slots.stop(Stop.RELEASE, job_ids=elsewhere, lease_id=lease_id)

    async def return_unknown(self, lease_id: UUID) -> None:
        """Return what the lease holds and this worker does not know of."""
        async with self._link.use() as connection, connection.transaction():
            await self._store.lock_lease(connection, lease_id)
            known = [*self._slots.job_ids, *self._held.ids]
            found = await self._store.release_unknown(connection, lease_id, known)
        if found:
            logger.warning(
                "%d jobs of this worker's lease do not run here, and returned to the queue: the reply to a "
                "claim was lost, or a standby was promoted that had not received their outcomes",
                len(found),
            )
            self._look()

    async def return_held(self, lease_id: UUID) -> None:
        """Return the jobs that have not started."""
        held = self._held.ids
        if not held:
            return
        async with self._link.use() as connection:
            lanes = await self._store.release(connection, lease_id, self._slots.worker, held)
            cancelled = [job_id for job_id, lane in lanes.items() if lane is None]
            ended = await self._store.read_jobs(connection, cancelled) if cancelled else {}
        self._announcer.committed(
            ended=cancelled, ready={lane for lane in lanes.values() if lane is not None}
        )
        for job in ended.values():
            moved = JobMoved(job.id, job.task, job.queue, JobStatus.PENDING, job.status, job.attempt)
            self._observers.emit(JobsCancelled([moved], job.reason))

    async def return_lease(self, lease_id: UUID) -> None:
        """Give the lease back when nothing is left under it."""
        await give_lease_back(self._store, self._link, lease_id, with_jobs=True)
