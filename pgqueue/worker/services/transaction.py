"""A transaction of the user's that ends with the success of its job: one commit for both, or for neither."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from pgqueue.database.link import POOLED_PATIENCE
from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.database.patience import persist
from pgqueue.database.pool import Database
from pgqueue.errors import ContextError, LeaseLostError
from pgqueue.model.jobs import JobStatus
from pgqueue.store import Store

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy
    from asyncpg.transaction import Transaction

    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

COMMIT_WITHIN = 60.0
"""Seconds for which the commit may go unanswered before its connection counts as lost."""
ROLL_BACK_WITHIN = 5.0
"""... and the rollback, after which the connection is closed: that rolls back, too."""


class JobTransaction:
    """The one transaction of an attempt, from its first block to after its handler has ended."""

    def __init__(
        self, database: Database, store: Store, *, worker: str, job_id: UUID, lease_id: UUID, attempt: int
    ) -> None:
        self._database = database
        self._store = store
        self._worker = worker
        self._job_id = job_id
        self._lease_id = lease_id
        self._attempt = attempt
        self._connection: PoolConnectionProxy[asyncpg.Record] | None = None
        self._transaction: Transaction | None = None
        self._user: asyncio.Task[object] | None = None
        self._blocks = 0

    @property
    def is_open(self) -> bool:
        """Whether it has begun, and was neither committed nor rolled back."""
        return self._connection is not None

    @asynccontextmanager
    async def block(self) -> AsyncIterator[Connection]:
        """Lend the connection; an exception rolls back what the block wrote. See JobContext.transaction."""
        user = asyncio.current_task()
        if self._blocks and self._user is not user:
            raise ContextError(
                f"job {self._job_id}: another asyncio task is inside a block of ctx.transaction(); all "
                "blocks of an attempt are one transaction, so open them one after the other"
            )
        self._user = user
        self._blocks += 1
        try:
            if self._connection is None:
                # Nothing was written yet, so a connection that is found to be dead is no error of the job's.
                await persist(
                    f"job {self._job_id}: beginning its transaction", self._begin, errors=CONNECTION_ERRORS
                )
            assert self._connection is not None
            async with self._connection.transaction():
                yield self._connection
        finally:
            self._blocks -= 1

    async def _begin(self) -> None:
        connection = await self._database.take_plain()
        # Noted at once: whatever happens next, the end of the attempt gives it back.
        self._connection = connection
        try:
            # Behind a pooler its session is known from here on.
            async with asyncio.timeout(POOLED_PATIENCE if self._database.is_pooled else None):
                self._transaction = connection.transaction()
                await self._transaction.start()
                await self._database.note_session(connection)
                is_ours = await self._store.hold_attempt(connection, self._job_id, self._lease_id)
        except TimeoutError:
            self.terminate()
            raise
        except BaseException:
            await self.roll_back()
            raise
        if not is_ours:
            await self.roll_back()
            raise LeaseLostError(
                f"job {self._job_id}: its lease is lost; another worker may be running it, and nothing that "
                "this attempt writes would be kept"
            )

    async def commit(self, result: str | None, *, is_current: Callable[[], bool]) -> bool:
        """Record the job's success and commit; False: fenced off, and nothing of it stays.

        *is_current* says, once the job's row is locked, whether the attempt is still the one that counts: the
        same worker may have claimed the job again under the same lease. Raises what keeps the transaction
        from being committed: a deferred constraint, a lost connection. Then it is rolled back.
        """
        connection, transaction = self._connection, self._transaction
        assert connection is not None
        assert transaction is not None
        is_commit_sent = False
        try:
            async with asyncio.timeout(COMMIT_WITHIN):
                # The user's deferred checks, while the planner still has the user's settings.
                await connection.execute("set constraints all immediate")
                await self._database.use_settings(connection)
                results = None if result is None else [result]
                kept = await self._store.finish(
                    connection, self._lease_id, self._worker, [self._job_id], results
                )
                if not kept or not is_current():
                    await self.roll_back()
                    return False
                is_commit_sent = True
                await transaction.commit()
        except CONNECTION_ERRORS as error:
            self.terminate()
            if is_commit_sent and await self._was_committed():
                logger.info("job %s: committed, although the reply was lost: %s", self._job_id, error)
                return True
            # Not committed, or not yet: the outcome that is written next waits for it, and is fenced off.
            raise
        except BaseException:
            await self.roll_back()
            raise
        await self._give_back()
        return True

    async def _was_committed(self) -> bool:
        """Ask the database, for as long as it takes."""

        async def read() -> bool:
            async with self._database.acquire() as connection:
                job = (await self._store.read_jobs(connection, [self._job_id])).get(self._job_id)
                was_committed = (
                    job is not None
                    and job.status is JobStatus.SUCCEEDED
                    and (job.worker, job.attempt) == (self._worker, self._attempt)
                )
                if was_committed:
                    await self._store.reach_standby(connection)
            return was_committed

        return await persist(f"job {self._job_id}: asking whether it was committed", read)

    async def roll_back(self) -> None:
        """Roll back. Raises nothing, unless it is cancelled."""
        if self._connection is None:
            return
        try:
            async with asyncio.timeout(ROLL_BACK_WITHIN):
                if self._transaction is not None and self._connection.is_in_transaction():
                    await self._transaction.rollback()
        except (*CONNECTION_ERRORS, asyncpg.PostgresError):
            # Closing the connection rolls back.
            self.terminate()
        except BaseException:
            self.terminate()
            raise
        await self._give_back()

    def terminate(self) -> None:
        """Close the connection at once, even while it is in use: the server rolls back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closed already: the pool has taken it back.
            with suppress(asyncpg.InterfaceError):
                connection.terminate()

    async def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._database.give_plain_back(connection)
