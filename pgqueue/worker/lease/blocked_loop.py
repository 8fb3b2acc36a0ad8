"""Ends an attempt that blocks the event loop past its hard limit, from outside of that loop.

The loop cannot write anything, and may never turn again. So all that its lease holds is settled from here:
the blocking attempt has timed out, outcomes that wait to be written are written, everything else goes back
unspent, and the lease is given up. What the loop still does, should it turn again, is fenced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from uuid import UUID

from pgqueue.database.patience import persist
from pgqueue.database.pool import Database, Link
from pgqueue.events.observers import Observers
from pgqueue.store import Store
from pgqueue.worker.attempt.attempt import RunningAttempt
from pgqueue.worker.attempt.executor import Executor
from pgqueue.worker.outcome.finisher import Finisher

logger = logging.getLogger("pgqueue.worker")


class Evacuation:
    """Settles, on the loop that `run` is awaited on, what another loop holds under a lease.

    *died* is told, in this thread, which jobs have failed for good.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        executor: Executor,
        *,
        worker: str,
        died: Callable[[Collection[UUID]], None],
    ) -> None:
        self._died = died
        self._database = database
        self._store = store
        self._executor = executor
        self._worker = worker

    async def run(
        self, blocking: RunningAttempt, attempts: Iterable[RunningAttempt], pending: Iterable[RunningAttempt]
    ) -> None:
        """Settle *attempts*, which are under way, and *pending*, whose outcomes are not written yet.

        However long the database is away: the caller sets the time.
        """
        link = Link(self._database, durable=True)
        finisher = Finisher(
            self._store,
            link,
            worker=self._worker,
            # They belong to the loop that is blocked.
            observers=Observers(),
            announce=lambda *, finished, lanes: None,  # noqa: ARG005
            relieved=lambda: None,
            expect=lambda delay: None,  # noqa: ARG005
            died=self._died,
        )
        for attempt in pending:
            if attempt.lease_id == blocking.lease_id and attempt.outcome is not None:
                finisher.add(attempt, attempt.outcome)
        for attempt in attempts:
            if attempt is blocking:
                finisher.add(attempt, self._executor.overrun(attempt))
            elif attempt.lease_id == blocking.lease_id:
                finisher.add(attempt, self._executor.give_up(attempt))
        writing = asyncio.ensure_future(finisher.run())
        try:
            await finisher.flush()
            await persist("giving a blocked lease back", lambda: self._give_back(link, blocking))
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await link.close()

    async def _give_back(self, link: Link, blocking: RunningAttempt) -> None:
        async with link.use() as connection, connection.transaction():
            # What was claimed and has not reached the loop is still there.
            await self._store.lock_lease(connection, blocking.lease_id)
            await self._store.release_unknown(connection, blocking.lease_id, [])
            await self._store.delete_lease(connection, blocking.lease_id)
