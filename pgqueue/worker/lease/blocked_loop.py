"""Ends an attempt that blocks the event loop past its hard limit, from outside of that loop.

The loop cannot write anything, and may never turn again. So everything that its lease holds is ended from
here, in the thread of the lease keeper: the blocking attempt has timed out, outcomes that wait to be written
are written, all other jobs return to the queue, and the lease is given back. The attempts themselves belong
to the loop, so this works on copies; if the loop turns again, what it then writes is fenced off.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Collection, Iterable
from contextlib import suppress
from uuid import UUID

from pgqueue.background.log_writer import AsideLogger
from pgqueue.database.link import Link
from pgqueue.database.patience import persist
from pgqueue.events.observers import Observers
from pgqueue.upkeep.announcing import Announcer
from pgqueue.upkeep.state import WorkerState
from pgqueue.worker.attempt.attempt import OVER, RunningAttempt
from pgqueue.worker.host import WorkerHost
from pgqueue.worker.lease.giving_back import give_lease_back
from pgqueue.worker.outcome.finisher import Finisher
from pgqueue.worker.slots import Slots

# A log handler of the program may block, and nothing here may wait for it.
logger = AsideLogger("pgqueue.worker")


class OutsideAnnouncer:
    """Announces, on the loop of the worker, what was committed outside of it: once that loop turns again."""

    def __init__(self, announcer: Announcer, loop: asyncio.AbstractEventLoop) -> None:
        self._announcer = announcer
        self._loop = loop

    def committed(self, *, ended: Collection[UUID] = (), ready: Iterable[int] = ()) -> None:
        """Nothing: the connection for notifications belongs to the blocked loop. Peers find it by polling."""

    def handed_over(self, lanes: Collection[int]) -> None:
        """Nothing: see `committed`."""

    def failed(self, job_ids: Collection[UUID]) -> None:
        """See Announcer."""
        with suppress(RuntimeError):
            # Closed.
            self._loop.call_soon_threadsafe(self._announcer.failed, job_ids)

    def noted(self, notes: Collection[int] | None) -> None:
        """Any worker finds the notes."""

    def due_in(self, delay: float) -> None:
        """Nothing: see `committed`."""


class BlockedLoop:
    """Ends what the loop that it is made on holds, on the loop that `evacuate` is awaited on."""

    def __init__(self, host: WorkerHost, slots: Slots, finisher: Finisher, announcer: Announcer) -> None:
        self._host = host
        self._slots = slots
        self._finisher = finisher
        self._announcer = OutsideAnnouncer(announcer, asyncio.get_running_loop())
        self._worker = slots.worker

    async def evacuate(self, blocking: RunningAttempt, link: Link, *, within: float) -> None:
        """End everything under the lease of *blocking*, which blocks the loop and is past its hard limit.

        *link* is used for it, and closed. Gives up after *within* seconds: a lease that lasts no longer
        expires, and peers rescue what is left.
        """
        logger.error(
            "job %s (%s), attempt %d: timed out: it blocked the event loop past its hard time limit; other "
            "jobs of worker %s return to the queue",
            blocking.claimed.id,
            blocking.claimed.task,
            blocking.claimed.attempt,
            self._worker,
        )
        # Listed at once: the sets belong to the blocked loop.
        attempts, unwritten = list(self._slots.attempts), self._finisher.pending
        try:
            async with asyncio.timeout(within):
                await self._end_all(blocking, link, attempts, unwritten)
        except TimeoutError:
            logger.error("worker %s: the database is unavailable; its jobs count as lost", self._worker)

    async def _end_all(
        self,
        blocking: RunningAttempt,
        link: Link,
        attempts: Iterable[RunningAttempt],
        unwritten: Iterable[RunningAttempt],
    ) -> None:
        store = self._host.store
        # Observers belong to the blocked loop, too.
        finisher = Finisher(
            store,
            link,
            WorkerState(),
            self._announcer,
            Observers(),
            worker=self._worker,
            grace=self._host.unknown_task_grace,
        )
        executor = self._slots.executor
        for attempt in (*unwritten, *attempts):
            if attempt.lease_id != blocking.lease_id:
                continue
            twin = copy.copy(attempt)
            if twin.phase is OVER:
                finisher.take_over([twin])
            else:
                finisher.add(twin, executor.overrun(twin) if attempt is blocking else executor.abandon(twin))
        writing = asyncio.ensure_future(finisher.run())
        try:
            await finisher.flush()
            # With its jobs: what was claimed and has not reached the loop is still there.
            await persist(
                "giving a blocked lease back",
                lambda: give_lease_back(store, link, blocking.lease_id, with_jobs=True),
            )
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await link.close()
