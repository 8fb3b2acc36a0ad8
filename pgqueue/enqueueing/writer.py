"""Writes new jobs, on a connection of pgqueue's own or in the caller's transaction.

All or nothing. On a connection of our own an answer can be lost with the connection: then the write is made
again with the same ids, and an id that exists by then is one that the first try wrote.

A large enqueue overlaps itself: while the server writes one part of it, the next part is checked and
encoded. That takes a transaction, which is rolled back if a later call is refused. Where calls have chosen
ids, idempotency keys or start times, where queues are limited, and on a caller's connection, all calls are
checked before anything is sent: what is written first depends on what comes later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import anyio
import asyncpg

from pgqueue.background.notifications import Signals
from pgqueue.database.callers import Refusal, refusal_of
from pgqueue.database.encoding import unstorable
from pgqueue.database.outages import (
    CONNECTION_ERRORS,
    RECONNECT_PAUSES,
    may_have_happened,
    refused,
)
from pgqueue.database.patience import Tries
from pgqueue.database.pool import Database
from pgqueue.enqueueing.batch import Batch, Call, chunks
from pgqueue.enqueueing.calls import Intake
from pgqueue.enqueueing.lanes import Lanes
from pgqueue.errors import DatabaseUnavailableError, KeyInFlightError, PgQueueError
from pgqueue.events.kinds import JobsCancelled, cancelled_by_reason
from pgqueue.events.observers import Observers
from pgqueue.flow.backpressure import Depth, Depths
from pgqueue.flow.limits import Limit
from pgqueue.flow.ordering import Ordered
from pgqueue.store import LimitedJobs, NewJobs, Store, Template

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

PART: Final = 2000
"""Jobs in each part of a large enqueue, and in one that is not overlapped.

In turn with enqueues that are not overlapped, both processors free: calls of 100,000 ran at 1.5 to 1.7 times
the rate. Parts of 250 brought calls of 1,000 to 1.1 to 1.2 times theirs, and cost calls of 100,000 up to a
quarter; where another program kept one of two processors busy, they cost calls of 1,000 a tenth and more.
"""

ATTENDED: Final = 1000
"""Gates that an enqueue attends to itself: the first of a call with more keys, and so it ends soon."""

_RETRIED: Final = (
    *CONNECTION_ERRORS,
    DatabaseUnavailableError,
    asyncpg.NotNullViolationError,
    asyncpg.UniqueViolationError,
)

Learn = Callable[["Connection", AbstractSet[tuple[str, int]]], Awaitable[Mapping[tuple[str, int], int]]]
"""How a transaction that does not know its lanes learns their ids."""


class _NotPlainError(Exception):
    """A later part of an enqueue has calls that have to be written in another order."""


class Writer:
    """Writes the jobs of one PgQueue."""

    def __init__(
        self, database: Database, store: Store, signals: Signals, depths: Depths, observers: Observers
    ) -> None:
        self._database = database
        self._observers = observers
        self._store = store
        self._signals = signals
        self._depths = depths
        self._counting = anyio.Lock()
        self.lanes = Lanes(database, store)
        self._known = self.lanes.known
        self._declared: set[Limit] = set()

    def forget_lanes(self) -> None:
        """Ask for lanes and limits anew: the database may be another one."""
        self._declared.clear()
        self.lanes.forget()

    async def write_one(self, call: Call, job_id: UUID, document: str) -> None:
        """Write one job that can run now, with a fresh id and no key, to a queue without a limit.

        Raises DatabaseUnavailableError.
        """
        lane = self._known.get(call.template.lane)
        if lane is not None:
            try:
                async with self._database.writer() as connection:
                    await self._store.enqueue_one(connection, job_id, document, call.template)
                self._signals.publish(f"ready {lane}")
                return
            except _RETRIED as error:
                is_unsure = isinstance(error, CONNECTION_ERRORS)
                is_done = is_unsure and may_have_happened(error)
                if isinstance(error, asyncpg.NotNullViolationError):
                    self.lanes.forget()
            except asyncpg.PostgresError as error:
                raise refused(error, 0.0) from error
        else:
            is_unsure = is_done = False
        batch = Batch(is_unsure=is_unsure)
        batch.add(call, job_id, document)
        await self._write_own(batch, None, None, may_be_done=is_done)

    async def write(self, intake: Intake, connection: Connection | None, key_wait: float | None) -> None:
        """Write what *intake* has and has yet to take. See PgQueue.enqueue_many for what it raises."""
        batch = intake.batch
        intake.take(PART)
        if connection is not None or self._depths.is_limited or not batch.has_parts:
            intake.take_all()
        if connection is None:
            await self.lanes.learn(batch.lanes)
        if batch.gates:
            await self.declare(batch.limits)
        if self._depths.is_limited:
            writing = (
                partial(self._write_own, batch, None, key_wait)
                if connection is None
                else partial(self._write_for_caller, batch, connection)
            )
            await self.write_where_room(batch.ready_by_queue(), writing)
        elif connection is not None:
            await self._write_for_caller(batch, connection)
        else:
            await self._write_own(batch, intake, key_wait)

    async def declare(self, limits: AbstractSet[Limit]) -> None:
        """Have the database know *limits*. Not in the caller's transaction: others would wait for its end."""
        for limit in sorted(limits - self._declared, key=lambda each: each.name):
            await self._database.repeat(partial(self._declare, limit=limit), is_asked=False)
            self._declared.add(limit)

    async def _declare(self, connection: Connection, limit: Limit) -> None:
        if isinstance(limit, Ordered):
            await self._store.declare_ordered(connection, limit.name, limit.on_dead)
        else:
            await self._store.declare_limit(connection, limit.name, limit.slots, limit.when_full, limit.rate)

    async def write_where_room(
        self, counts: Mapping[str, int], writing: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Do the *writing* of so many jobs by queue if the queues have room. Raises QueueFullError."""
        for queue, count, limit in self._depths.limited(counts):
            known = self._depths.of(queue)
            if known.must_be_counted(count, limit, time.monotonic()):
                await self._count_depth(queue, known, count, limit)
        self._depths.admit(counts)
        is_written = False
        try:
            await writing()
            is_written = True
        finally:
            self._depths.conclude(counts, is_written=is_written)

    async def _count_depth(self, queue: str, known: Depth, count: int, limit: int) -> None:
        async with self._counting:
            if not known.must_be_counted(count, limit, at := time.monotonic()):
                # Another call has, while this one waited for its turn.
                return
            # Never in the caller's transaction: its snapshot may be old.
            found = await self._database.repeat(
                lambda connection: self._store.count_depth(connection, queue, limit), is_asked=False
            )
            known.count(found, at=at, took=time.monotonic() - at)

    async def _write_own(  # noqa: C901  # a case for each kind of error
        self, batch: Batch, intake: Intake | None, key_wait: float | None, *, may_be_done: bool = False
    ) -> None:
        """Write on a connection of ours; *intake* has more calls. Repeats a write whose answer was lost.

        *may_be_done*: one was lost already.
        """
        tries = Tries(self._database.connect_timeout, may_be_done=may_be_done)
        is_taken = False
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            try:
                if is_taken and await self._find_written(batch):
                    break
                is_taken = False
                await self.lanes.learn(batch.lanes)
                async with self._database.writer() as connection:
                    await self._write_on(connection, batch, intake, key_wait)
                break
            except asyncpg.UniqueViolationError:
                # Our own earlier try, or another caller chose the same id just now.
                is_taken = True
            except asyncpg.TransactionRollbackError as error:
                # With a caller who took the same keys one by one, in an order of their own.
                tries.fail(error)
            except asyncpg.NotNullViolationError:
                # The lane was removed, or the database is not the one it was.
                self.lanes.forget()
            except (DatabaseUnavailableError, *CONNECTION_ERRORS) as error:
                # Where there was no connection, nothing was sent.
                batch.is_unsure |= not isinstance(error, DatabaseUnavailableError)
                tries.fail(error)
                await anyio.sleep(pause)
            except asyncpg.PostgresError as error:
                raise refused(error, tries.seconds) from error
        if batch.notes:
            await self.attend(batch.notes)
        if batch.gates and (batch.replaced_jobs or not batch.notes):
            # A function of the database has written them.
            self._signals.publish("attend")
        for lane in self._lanes_of((*batch.ready.templates, *batch.timed.templates)):
            self._signals.publish(f"ready {lane}")

    async def attend(self, notes: Sequence[int]) -> None:
        """Let jobs through their limits; of very many, workers are told to. So they are if it fails."""
        try:
            while notes:
                if len(notes) > ATTENDED:
                    self._signals.publish("attend")
                async with self._database.writer() as connection:
                    attended = await self._store.attend(connection, notes[:ATTENDED], ATTENDED)
                    if attended.cancelled and self._observers.want(JobsCancelled):
                        jobs = await self._store.read_jobs(connection, attended.cancelled)
                        for event in cancelled_by_reason(jobs.values()):
                            self._observers.emit(event)
                notes = attended.more
                if attended.later:
                    # Workers look again when it is time.
                    self._signals.publish("attend")
                for lane in attended.lanes:
                    self._signals.publish(f"ready {lane}")
        except (asyncpg.PostgresError, PgQueueError, *CONNECTION_ERRORS):
            # What they are for is committed.
            self._signals.publish("attend")

    async def _find_written(self, batch: Batch) -> bool:
        """Remove the jobs that exist already; return whether none is left."""
        async with self._database.lend() as connection:
            is_written = await batch.find_existing(self._store, connection)
            if is_written:
                await self._store.reach_standby(connection)
        return is_written

    async def _write_on(
        self, connection: Connection, batch: Batch, intake: Intake | None, key_wait: float | None
    ) -> None:
        if intake is not None and not intake.is_whole:
            try:
                async with connection.transaction():
                    await self._write_overlapped(connection, intake)
                return
            except _NotPlainError:
                intake.take_all()
                await self.lanes.learn(batch.lanes)
        if batch.is_one_statement:
            if batch.gates:
                jobs = self._store.limited_jobs(batch.ready, batch.gates)
                batch.notes = await self._store.enqueue_limited(connection, jobs)
            else:
                await self._store.enqueue(connection, batch.ready)
        else:
            await self._write_transaction(connection, batch, key_wait)

    async def _write_overlapped(self, connection: Connection, intake: Intake) -> None:
        """Write what was taken, and take more meanwhile, until there is no more.

        Raises _NotPlainError where a call is taken that cannot be written like that, and what refuses a call.
        """
        batch, written = intake.batch, len(intake.batch.ready.ids)
        part, batch.notes = self._part(batch, batch.ready), []

        def take_more() -> None:
            nonlocal part
            intake.take(PART)
            part = self._part(batch, batch.ready.slice(written, len(batch.ready.ids)))

        while not intake.is_whole:
            await while_sending(self._write_part(connection, batch, part), take_more)
            written = len(batch.ready.ids)
            if not batch.has_parts:
                raise _NotPlainError
            await self.lanes.learn(batch.lanes)
            await self.declare(batch.limits)
        await self._write_part(connection, batch, part)

    def _part(self, batch: Batch, jobs: NewJobs) -> tuple[NewJobs, list[LimitedJobs]]:
        """Return those of *jobs* that have no limits, and the rest as they are sent."""
        limited, plain = batch.split(jobs)
        return plain, [self._store.limited_jobs(each, batch.gates) for each in chunks(limited)]

    async def _write_part(
        self, connection: Connection, batch: Batch, part: tuple[NewJobs, list[LimitedJobs]]
    ) -> None:
        plain, limited = part
        await self._write_ready(connection, plain)
        for each in limited:
            batch.notes += await self._store.enqueue_limited(connection, each)

    async def _write_ready(self, connection: Connection, jobs: NewJobs) -> None:
        for each in chunks(jobs):
            await self._store.enqueue(connection, each)

    async def _write_transaction(self, connection: Connection, batch: Batch, key_wait: float | None) -> None:
        async with connection.transaction():
            if key_wait is None or not batch.keyed:
                await self._write_parts(connection, batch)
                return
            await self._store.limit_lock_wait(connection, key_wait)
            try:
                await self._write_parts(connection, batch)
            except asyncpg.LockNotAvailableError as error:
                raise KeyInFlightError(
                    f"an idempotency key of this call was still locked by another transaction after "
                    f"{key_wait:g} s; try again"
                ) from error

    async def write_within(self, batch: Batch, connection: Connection) -> None:
        """Write *batch* in the transaction of *connection*, whatever room its queues have.

        For jobs that pgqueue itself makes, such as those of schedules. Raises what the database refuses. It
        takes no other connection: the pool may have one, and who waits for it may wait for rows held here.
        """
        for limit in sorted(batch.limits - self._declared, key=lambda each: each.name):
            await self._declare(connection, limit)
        await self._write_for_caller(batch, connection, self._store.learn_lanes)

    async def _write_for_caller(
        self, batch: Batch, connection: Connection, learn: Learn | None = None
    ) -> None:
        """Write in the caller's transaction; if the write fails, a savepoint keeps the rest of it whole."""
        if not batch.lanes <= self._known.keys():
            batch.name_lanes(await (learn or self.lanes.learn_beside)(connection, batch.lanes))
        known, is_named = -1, False
        while True:
            try:
                async with connection.transaction():
                    messages = [f"ready {lane}" for lane in await self._write_parts(connection, batch)]
                    if batch.gates:
                        messages.append("attend")
                    if messages:
                        # One notification a lane and transaction, sent by its commit.
                        await self._store.notify(connection, self._database.schema, messages)
                return
            except Exception as error:
                # Its driver may be another one than asyncpg.
                match refusal_of(error):
                    case Refusal.TEXT:
                        raise unstorable(error) from error
                    case Refusal.LANE if not is_named:
                        is_named = True
                        batch.name_lanes(await (learn or self.lanes.learn_beside)(connection, batch.lanes))
                    case Refusal.ID if batch.chosen and len(batch.existing) != known:
                        # Another caller chose the same id just now: look again, unless looking found nothing
                        # new. To a snapshot that is older than that job, it stays invisible.
                        known = len(batch.existing)
                    case _:
                        raise

    async def _write_parts(self, connection: Connection, batch: Batch) -> list[int]:
        """Write a batch that may have chosen ids, keys, times, or more jobs than one statement takes.

        Returns the lanes that have new ready jobs.
        """
        if batch.chosen or (batch.keyed and batch.is_unsure):
            await batch.find_existing(self._store, connection)
            if batch.found:
                await self._store.reach_standby(connection)
        ready, timed, follows = batch.ready, batch.timed, {}
        lanes = self._lanes_of(ready.templates) if ready.ids else set()
        if batch.keyed:
            settlement = await batch.settle_keys(self._store, connection)
            follows = settlement.follows
            ready, timed = ready.without(settlement.holders), timed.without(settlement.holders)
        limited, plain = batch.split(ready, follows) if batch.is_in_order else (NewJobs(), ready)
        await self._write_ready(connection, plain)
        batch.notes = []
        for jobs in chunks(limited):
            given = self._store.limited_jobs(jobs, batch.gates)
            batch.notes += await self._store.enqueue_limited(connection, given)
        batch.due.clear()
        for jobs in chunks(timed):
            due = await self._store.schedule(connection, jobs)
            batch.due.update(due)
            lanes.update(due.values())
        if follows:
            await self._store.block_on(connection, follows)
        if batch.has_webhooks:
            await self._store.note_webhooks(connection, batch.told(ready, timed))
        if batch.gates:
            later = {*plain.ids, *timed.ids}
            # In the order of the calls, which is that of groups.
            gates = {job_id: gates for job_id, gates in batch.gates.items() if job_id in later}
            if gates:
                batch.notes += await self._store.limit_jobs(connection, gates)
        return sorted(lanes)

    def _lanes_of(self, templates: Iterable[Template]) -> set[int]:
        """Return the lanes to announce. One that was forgotten meanwhile is found by polling."""
        ids = (template.lane_id or self._known.get(template.lane) for template in templates)
        return {lane for lane in ids if lane is not None}


async def while_sending(sending: Coroutine[Any, Any, None], work: Callable[[], None]) -> None:
    """Do *work*, which awaits nothing, while the server is at what *sending* sent; then wait for its answer.

    If *work* raises, that is raised once the answer is there: until then the connection is in use.
    """
    task = asyncio.ensure_future(sending)
    try:
        # Its bytes have to leave before the loop is held: uvloop sends them when a turn of it is over.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        work()
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        if not task.cancelled():
            # Looked at, or asyncio would complain that nobody did.
            task.exception()
        raise
    await task
