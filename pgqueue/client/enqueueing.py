"""Enqueueing: from calls to jobs that are durable, and events from outside that are dealt with once."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence
from datetime import timedelta
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import asyncpg

from pgqueue.client.jobs import JobInterface
from pgqueue.database.outages import CONNECTION_ERRORS, RECONNECT_PAUSES
from pgqueue.enqueueing.batch import Batch, Call, chunks
from pgqueue.enqueueing.gc_pause import collector_paused
from pgqueue.enqueueing.inbox import check_event
from pgqueue.errors import ConfigurationError, KeyInFlightError, UnknownTaskError
from pgqueue.events.kinds import BatchSent, JobsEnqueued, JobsReplaced
from pgqueue.flow.backpressure import Depth
from pgqueue.model.checks import Duration, positive_seconds
from pgqueue.model.ids import new_id, new_ids
from pgqueue.options.declared import CallOptions
from pgqueue.options.levels import NO_OPTIONS, read_options
from pgqueue.options.table import Level
from pgqueue.tasks.arguments import encode_by_name
from pgqueue.tasks.codec import encode_document
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.signature import Signature

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

R = TypeVar("R")


class EnqueueInterface(JobInterface):
    """What a PgQueue lets callers enqueue."""

    async def enqueue(
        self,
        signature: Signature[R],
        *,
        connection: Connection | None = None,
        key_wait: float | None = None,
    ) -> JobHandle[R]:
        """Enqueue one call. See `Task.enqueue`, and `enqueue_many` for *key_wait*."""
        [handle] = await self.enqueue_many([signature], connection=connection, key_wait=key_wait)
        return cast(JobHandle[R], handle)

    async def enqueue_by_name(
        self,
        task: str,
        /,
        *args: Any,
        options: CallOptions | None = None,
        connection: Connection | None = None,
        **kwargs: Any,
    ) -> JobHandle[Any]:
        """Enqueue a task by its name, without its code: its worker validates the arguments."""
        return await self.enqueue(
            self.signature(task, *args, options=options, **kwargs), connection=connection
        )

    def signature(
        self, task: str, /, *args: Any, options: CallOptions | None = None, **kwargs: Any
    ) -> Signature[Any]:
        """Return a call of a task by its name."""
        if not isinstance(task, str) or not task or "\0" in task:
            raise UnknownTaskError(f"{task!r} is not the name of a task")
        call = read_options(f"task {task!r}", options or {}, Level.CALL)
        return Signature(task, args, kwargs, call, self.registry.get(task))

    async def enqueue_many(
        self,
        signatures: Iterable[Signature[Any]],
        *,
        connection: Connection | None = None,
        key_wait: float | None = None,
    ) -> list[JobHandle[Any]]:
        """Enqueue many calls, all or nothing; return their handles in the same order.

        *key_wait*: seconds for which to wait where an idempotency key is being taken by a transaction that is
        open, before KeyInFlightError; None: until it ends. Not with *connection*, whose `lock_timeout` is
        its owner's. Otherwise raises as `Task.enqueue` does, before anything is written: QueueFullError among
        others, where a queue has a `max_depth`.
        """
        calls = list(signatures)
        if not calls:
            return []
        self._check_open()
        if key_wait is not None:
            _check_key_wait(key_wait, connection)
        with collector_paused(len(calls)):
            batch = self._batch(calls)
        await self._learn_lanes(batch)
        started_at = time.monotonic()
        if self._depths.is_limited:
            await self._write_where_room(batch, connection, key_wait)
        else:
            await self._write(batch, connection, key_wait)
        if self._observers.want(BatchSent):
            self._observers.emit(BatchSent("enqueue", len(batch.ids), time.monotonic() - started_at))
        if self._observers.want(JobsEnqueued):
            self._observers.emit(
                JobsEnqueued(
                    batch.created,
                    batch.created_by_task,
                    jobs=batch.created_jobs,
                    is_committed=connection is None,
                )
            )
        if batch.replaced_jobs and self._observers.want(JobsReplaced):
            self._observers.emit(JobsReplaced(batch.replaced_jobs, is_committed=connection is None))
        if not batch.chosen and not batch.keyed:
            with collector_paused(len(calls)):
                return [
                    JobHandle(self, job_id, call.definition)
                    for job_id, call in zip(batch.ids, calls, strict=True)
                ]
        return [
            JobHandle(self, job_id, call.definition, created=created, replaced=replaced)
            for (job_id, created, replaced), call in zip(batch.handled(), calls, strict=True)
        ]

    def _batch(self, signatures: Sequence[Signature[Any]]) -> Batch:
        """Check calls and turn them into jobs. No I/O."""
        calls: dict[tuple[str, int], Call] = {}
        kinds: dict[Hashable, Call] = {}
        batch = Batch()
        for signature, fresh_id in zip(signatures, new_ids(len(signatures)), strict=True):
            # The same options object is the same options: a bulk call of one task resolves them once.
            call = calls.get((signature.task, id(signature.options)))
            if call is None:
                call = calls[signature.task, id(signature.options)] = self._call(signature, kinds)
            if signature.definition is None:
                document = encode_by_name(
                    signature.task, signature.args, signature.kwargs, limit=self.payload_limit
                )
            else:
                document = signature.definition.arguments.encode(
                    signature.args, signature.kwargs, limit=self.payload_limit
                )
            stored = encode_document(self._codec, document)
            if call.key_rule is None:
                batch.add(call, fresh_id, stored)
            else:
                batch.add_keyed(call, call.key_rule, fresh_id, document, stored)
        batch.close()
        return batch

    def _call(self, signature: Signature[Any], kinds: dict[Hashable, Call]) -> Call:
        """Resolve a call's options; *kinds* has what calls of the same kind came to."""
        is_plain = signature.definition is not None and signature.options is NO_OPTIONS
        if is_plain and (known := self._calls.get(signature.task)) is not None:
            return known
        kind = (signature.task, signature.definition, signature.options.kind())
        if (alike := kinds.get(kind)) is not None:
            return alike.alike(signature.options)
        options = self.registry.resolve(signature.task, signature.definition, signature.options)
        self._check_declared(f"task {signature.task!r}", options["queue"])
        call = kinds[kind] = Call.of(signature.task, options, signature.options)
        if is_plain:
            self._calls[signature.task] = call
        return call

    async def _write_where_room(
        self, batch: Batch, connection: Connection | None, key_wait: float | None
    ) -> None:
        """Write if the queues have room. Raises QueueFullError."""
        counts = batch.ready_by_queue()
        for queue, count, limit in self._depths.limited(counts):
            known = self._depths.of(queue)
            if known.must_be_counted(count, limit, time.monotonic()):
                await self._count_depth(queue, known, count, limit)
        self._depths.admit(counts)
        is_written = False
        try:
            await self._write(batch, connection, key_wait)
            is_written = True
        finally:
            self._depths.settle(counts, is_written=is_written)

    async def _count_depth(self, queue: str, known: Depth, count: int, limit: int) -> None:
        async with self._counting:
            if not known.must_be_counted(count, limit, at := time.monotonic()):
                # Somebody else has, while this call waited for its turn.
                return
            # Never in the caller's transaction: its snapshot may be old.
            async with self._database.acquire() as connection:
                found = await self._store.count_depth(connection, queue, limit)
            known.count(found, at=at, took=time.monotonic() - at)

    async def _write(self, batch: Batch, connection: Connection | None, key_wait: float | None) -> None:
        if connection is None:
            await self._write_own(batch, key_wait)
            for lane in batch.lanes:
                self._signals.publish(f"ready {self._lanes[lane]}")
        else:
            await self._write_for_caller(batch, connection)

    async def _write_own(self, batch: Batch, key_wait: float | None) -> None:
        """Write on a connection of ours. An answer that was lost is asked for again, with the same ids."""
        deadline = time.monotonic() + self._database.connect_timeout
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            try:
                async with self._database.writer() as connection:
                    if batch.is_one_statement:
                        await self._store.enqueue(connection, batch.ready)
                    else:
                        await self._write_transaction(connection, batch, key_wait)
                return
            except asyncpg.UniqueViolationError:
                # Our own earlier try, or somebody chose the same id just now.
                async with self._database.acquire() as connection:
                    if await batch.find_existing(self._store, connection):
                        return
            except asyncpg.DeadlockDetectedError:
                # With a caller who took the same keys one by one, in an order of his own.
                if time.monotonic() >= deadline:
                    raise
            except asyncpg.NotNullViolationError:
                # The lane is gone: the database is not the one it was.
                self._lanes.clear()
                await self._learn_lanes(batch)
            except CONNECTION_ERRORS as error:
                batch.is_unsure = True
                if time.monotonic() >= deadline:
                    raise self._database.unavailable(error) from error
                await anyio.sleep(pause)

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
                    f"an idempotency key of this call was not free within {key_wait:g} s; ask again"
                ) from error

    async def _write_for_caller(self, batch: Batch, connection: Connection) -> None:
        """Write in the caller's transaction; if the write fails, a savepoint keeps the rest of it whole."""
        known = -1
        while True:
            try:
                async with connection.transaction():
                    lanes = await self._write_parts(connection, batch)
                    if lanes:
                        # One notification a lane and transaction, sent by its commit.
                        await self._store.notify(connection, self.schema, [f"ready {lane}" for lane in lanes])
                return
            except asyncpg.UniqueViolationError:
                # Somebody chose the same id just now: look again, unless looking found nothing new. To a
                # snapshot that is older than that job, it stays invisible.
                if not batch.chosen or len(batch.existing) == known:
                    raise
                known = len(batch.existing)

    async def _write_parts(self, connection: Connection, batch: Batch) -> list[int]:
        """Write a batch that may have chosen ids, keys, times, or more jobs than one statement takes.

        Returns the lanes that have new ready jobs.
        """
        if batch.chosen or (batch.keyed and batch.is_unsure):
            await batch.find_existing(self._store, connection)
        ready, timed, follows = batch.ready, batch.timed, {}
        lanes = {self._lanes[template.lane] for template in ready.templates if ready.ids}
        if batch.keyed:
            settlement = await batch.settle_keys(self._store, connection)
            follows = settlement.follows
            ready, timed = ready.without(settlement.holders), timed.without(settlement.holders)
        for jobs in chunks(ready):
            await self._store.enqueue(connection, jobs)
        batch.due.clear()
        for jobs in chunks(timed):
            due = await self._store.schedule(connection, jobs)
            batch.due.update(due)
            lanes.update(due.values())
        if follows:
            await self._store.block_on(connection, follows)
        return sorted(lanes)

    async def _learn_lanes(self, batch: Batch) -> None:
        """Make the lanes of a batch. Never in the caller's transaction: others would wait for its end."""
        missing = batch.lanes - self._lanes.keys()
        if not missing:
            return
        async with self._database.acquire() as connection:
            await self._store.make_lanes(connection, [(queue, priority, "") for queue, priority in missing])
            for lane in await self._store.find_lanes(connection, {queue for queue, _ in missing}, ()):
                self._lanes[lane.queue, lane.priority] = lane.id

    # Events from outside

    async def mark_processed(
        self,
        source: str,
        event_id: str,
        *,
        ttl: Duration = timedelta(days=7),
        connection: Connection | None = None,
    ) -> bool:
        """Note that event *event_id* of *source* is being dealt with; False: somebody has, so skip it.

        With *connection*, the note is part of that connection's transaction, and a second caller waits for
        its end: give the one that the event's effects are written on, or a crash in between leaves a note
        of what never happened. After *ttl* the event is forgotten. Raises InvalidOptionError,
        DatabaseUnavailableError.
        """
        source, event_id, seconds = check_event(source, event_id, ttl)
        marker = new_id()
        if connection is not None:
            return await self._store.mark_processed(connection, source, event_id, seconds, marker)
        deadline = time.monotonic() + self._database.connect_timeout
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            try:
                async with self._database.acquire() as own:
                    # An answer that was lost is asked for again: the marker says that the first one was ours.
                    return await self._store.mark_processed(own, source, event_id, seconds, marker)
            except CONNECTION_ERRORS as error:
                if time.monotonic() >= deadline:
                    raise self._database.unavailable(error) from error
                await anyio.sleep(pause)
        raise AssertionError("unreachable")


def _check_key_wait(key_wait: float, connection: Connection | None) -> None:
    positive_seconds("enqueue: key_wait", key_wait)
    if connection is not None:
        raise ConfigurationError(
            "enqueue: key_wait is for pgqueue's own connections; set lock_timeout in your transaction"
        )
