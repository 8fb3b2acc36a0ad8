"""Enqueueing: from calls to durable jobs, and events from outside that are processed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pgqueue.client.jobs import JobInterface
from pgqueue.enqueueing.batch import Batch
from pgqueue.enqueueing.callers import Within
from pgqueue.enqueueing.calls import Intake
from pgqueue.enqueueing.gc_pause import collector_paused
from pgqueue.enqueueing.workflow_writer import Parts
from pgqueue.errors import ConfigurationError, InvalidOptionError, UnknownTaskError
from pgqueue.events.kinds import BatchSent, JobMoved, JobsEnqueued, JobsReplaced
from pgqueue.flow.limits import Gate
from pgqueue.model.checks import MAX_TASK_LENGTH, Duration, positive_seconds, shown, text
from pgqueue.model.ids import new_id, new_ids
from pgqueue.model.jobs import JobStatus
from pgqueue.options.declared import CallOptions
from pgqueue.options.levels import Options, read_options
from pgqueue.options.table import Level
from pgqueue.store import Barrier, Edge, Graph, NewJob, Node
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.importable import path_of
from pgqueue.tasks.middleware import Middleware, around_enqueue
from pgqueue.tasks.signature import Signature
from pgqueue.tasks.task import Task
from pgqueue.workflows.reading import WorkflowReader

if TYPE_CHECKING:
    from pgqueue.database.callers import CallersConnection
    from pgqueue.database.connection import Connection

R = TypeVar("R")
T = TypeVar("T")


class EnqueueInterface(JobInterface):
    """What a PgQueue lets callers enqueue."""

    async def enqueue(
        self,
        signature: Signature[R],
        *,
        connection: CallersConnection | None = None,
        autocommit: bool = False,
        key_wait: float | None = None,
    ) -> JobHandle[R]:
        """Enqueue one call. See `Task.enqueue`, and `enqueue_many` for the rest."""
        within = None if connection is None else Within(connection, autocommit=autocommit)
        if self._enqueueing:
            return await self._enqueue_inside(self._enqueueing, signature, within, key_wait)
        if connection is not None or key_wait is not None or self._depths.is_limited:
            return await self._enqueue_alone(signature, within, key_wait)
        if self._host is None:
            self._check_open()
        call = self._reader.read(signature)
        if not call.is_plain:
            return await self._enqueue_alone(signature, None, None)
        # A job alone is not made a batch of one: most enqueues are this one.
        stored = self._reader.stored(self._reader.encode(signature))
        job_id = new_id()
        started_at = time.monotonic()
        await self._writer.write_one(call, job_id, stored)
        observers, template = self._observers, call.template
        if observers.want(BatchSent):
            observers.emit(BatchSent("enqueue", 1, time.monotonic() - started_at))
        if observers.want(JobsEnqueued):
            task, queue = template.task, template.lane[0]
            job = JobMoved(job_id, task, queue, None, JobStatus.PENDING)
            observers.emit(JobsEnqueued({(task, queue): 1}, lambda: (job,)))
        return JobHandle(self, job_id, signature.definition)

    async def _enqueue_inside(
        self,
        middleware: Sequence[Middleware],
        signature: Signature[R],
        within: Within | None,
        key_wait: float | None,
    ) -> JobHandle[R]:
        def only(found: Iterable[T], what: str) -> T:
            each = list(found)
            if len(each) != 1:
                raise ConfigurationError(
                    f"task {signature.task!r}: middleware {what} {len(each)} calls for one; pass on each "
                    "call once, or raise an error to refuse it"
                )
            return each[0]

        async def write(calls: Iterable[Signature[Any]]) -> list[JobHandle[Any]]:
            return [await self._enqueue_alone(only(calls, "passed on"), within, key_wait)]

        self._check_open()
        handles = await around_enqueue(middleware, (signature,), write)
        return cast(JobHandle[R], only(handles, "answered for"))

    async def _enqueue_alone(
        self, signature: Signature[R], within: Within | None, key_wait: float | None
    ) -> JobHandle[R]:
        if isinstance(signature, Signature) and "depends_on" in signature.options:
            return await self._enqueue_behind(signature, within)
        [handle] = await self._enqueue_calls((signature,), within, key_wait)
        return cast(JobHandle[R], handle)

    async def _enqueue_behind(self, signature: Signature[R], within: Within | None) -> JobHandle[R]:
        """Enqueue a call that depends on jobs that are there already. Raises InvalidOptionError."""
        self._check_open()
        call = self._reader.read(signature)
        if call.id is not None or call.key_rule is not None:
            raise InvalidOptionError(
                f"task {signature.task!r}: a job with 'depends_on' can have neither an 'id' nor an "
                "idempotency key"
            )
        if not call.depends_on:
            options = {name: value for name, value in signature.options.items() if name != "depends_on"}
            [handle] = await self._enqueue_calls(
                [replace(signature, options=Options(**options))], within, None
            )
            return cast(JobHandle[R], handle)
        stored = self._reader.stored(self._reader.encode(signature))
        workflow_id, job_id = new_ids(2)
        barrier = Barrier(job_id, is_join=False, total=len(call.depends_on), runs_anyway=call.allow_failure)
        edges = [Edge(parent, job_id, place, direct=False) for place, parent in enumerate(call.depends_on)]
        gates: tuple[Gate, ...] = ()
        if call.limits:
            gates = WorkflowReader(self._reader, self).gates(call.limits, signature, is_link=False)
        node = Node(job_id, NewJob(call.template, stored, gates))
        graph = Graph(workflow_id, job_id, None, [node], [barrier], edges)
        if within is None:
            await self._write_graph(graph, None)
        else:
            async with self._callers.using("enqueue", within) as connection:
                await self._write_graph(graph, connection)
        return JobHandle(self, job_id, signature.definition)

    async def _write_graph(self, graph: Graph, connection: Connection | None) -> None:
        parts = Parts([graph])
        parts.take()
        await self._write_workflow(parts, connection)

    async def _write_workflow(self, parts: Parts, connection: Connection | None) -> None:
        started_at = time.monotonic()
        await self._workflow_writer.write(parts, connection)
        observers = self._observers
        if observers.want(BatchSent):
            observers.emit(
                BatchSent(
                    "enqueue", sum(len(part.nodes) for part in parts.taken), time.monotonic() - started_at
                )
            )
        if observers.want(JobsEnqueued):
            observers.emit(
                JobsEnqueued(parts.counts, partial(_jobs_of, parts.taken), is_committed=connection is None)
            )

    async def enqueue_by_name(
        self,
        task: str | Callable[..., Any],
        /,
        *args: Any,
        options: CallOptions | None = None,
        connection: CallersConnection | None = None,
        autocommit: bool = False,
        **kwargs: Any,
    ) -> JobHandle[Any]:
        """Enqueue a task by its name, without its code: its worker validates the arguments.

        A function that no task declares is enqueued by its path: see `allow_importing`.
        """
        signature = self.signature(task, *args, options=options, **kwargs)
        return await self.enqueue(signature, connection=connection, autocommit=autocommit)

    def signature(
        self,
        task: str | Callable[..., Any],
        /,
        *args: Any,
        options: CallOptions | None = None,
        **kwargs: Any,
    ) -> Signature[Any]:
        """Return a call of a task by its name, or of a function by its path: see `allow_importing`."""
        if callable(task):
            task = task.definition.name if isinstance(task, Task) else path_of(task)
        try:
            text("it", task, longest=MAX_TASK_LENGTH)
        except InvalidOptionError as error:
            raise UnknownTaskError(f"{shown(task)} is not the name of a task: {error}") from None
        call = read_options(f"task {task!r}", options or {}, Level.CALL)
        definition = self.registry.get(task) or self._importable.find(task)
        return Signature(task, args, kwargs, call, definition)

    async def enqueue_many(
        self,
        signatures: Iterable[Signature[R]],
        *,
        connection: CallersConnection | None = None,
        autocommit: bool = False,
        key_wait: float | None = None,
    ) -> list[JobHandle[R]]:
        """Enqueue many calls, all or nothing; return their handles in the same order.

        *signatures* may be a generator. While the server writes one part of a large call, the next part is
        checked. If a call is refused, nothing stays written.

        *connection*: yours, in whose transaction they are written: one of asyncpg, an AsyncConnection of
        psycopg 3, or an AsyncConnection or AsyncSession of SQLAlchemy on one of these. All calls are checked
        before anything is written, and the driver's errors pass through. *autocommit*: if it has no
        transaction open, commit at once; otherwise that is refused (UnusableConnectionError).

        *key_wait*: seconds to wait for an idempotency key that an open transaction is taking, before
        KeyInFlightError; None: until that transaction ends. Cannot be used with *connection*: set
        `lock_timeout` there. Raises what `Task.enqueue` raises, and QueueFullError if a queue has no room
        within its `max_depth`.
        """
        within = None if connection is None else Within(connection, autocommit=autocommit)
        if self._enqueueing:
            write = partial(self._enqueue_calls, within=within, key_wait=key_wait)
            return await around_enqueue(self._enqueueing, signatures, write)
        return await self._enqueue_calls(signatures, within, key_wait)

    async def _enqueue_calls(
        self, signatures: Iterable[Signature[Any]], within: Within | None, key_wait: float | None
    ) -> list[JobHandle[Any]]:
        calls = iter(signatures)
        try:
            first = next(calls)
        except StopIteration:
            return []
        self._check_open()
        if key_wait is not None:
            _check_key_wait(key_wait, within)
        intake = Intake(self._reader, chain((first,), calls))
        started_at = time.monotonic()
        if within is None:
            await self._writer.write(intake, None, key_wait)
        else:
            async with self._callers.using("enqueue", within) as connection:
                await self._writer.write(intake, connection, key_wait)
        batch = intake.batch
        self._tell(batch, time.monotonic() - started_at, is_committed=within is None)
        with collector_paused(len(batch.ids)):
            if batch.has_parts:
                return [
                    JobHandle(self, job_id, definition)
                    for job_id, definition in zip(batch.ids, intake.definitions, strict=True)
                ]
            return [
                JobHandle(self, job_id, definition, created=created, replaced=replaced)
                for (job_id, created, replaced), definition in zip(
                    batch.handled(), intake.definitions, strict=True
                )
            ]

    def _tell(self, batch: Batch, seconds: float, *, is_committed: bool) -> None:
        observers = self._observers
        if observers.want(BatchSent):
            observers.emit(BatchSent("enqueue", len(batch.ids), seconds))
        if observers.want(JobsEnqueued):
            observers.emit(
                JobsEnqueued(batch.created_by_task(), batch.created_jobs, is_committed=is_committed)
            )
        if batch.replaced_jobs and observers.want(JobsReplaced):
            observers.emit(JobsReplaced(batch.replaced_jobs, is_committed=is_committed))

    # Events from outside

    async def mark_processed(
        self,
        source: str,
        event_id: str,
        *,
        ttl: Duration = timedelta(days=7),
        connection: CallersConnection | None = None,
        autocommit: bool = False,
    ) -> bool:
        """Note that event *event_id* of *source* is being processed; return False if it was noted before.

        With *connection*, the note is part of that connection's transaction, and a second caller waits until
        the transaction ends. Pass the connection that the event's effects are written on: otherwise a crash
        in between leaves a note of effects that were never written. The event is forgotten after *ttl*
        (seconds or a timedelta). *connection* and *autocommit* as for `enqueue_many`. Raises
        InvalidOptionError, DatabaseUnavailableError.
        """
        if connection is None:
            return await self._inbox.mark_processed(source, event_id, ttl, None)
        self._check_open()
        within = Within(connection, autocommit=autocommit)
        async with self._callers.using("mark_processed", within) as theirs:
            return await self._inbox.mark_processed(source, event_id, ttl, theirs)


def _jobs_of(parts: Sequence[Graph]) -> list[JobMoved]:
    moved = []
    for part in parts:
        waiting = {edge.downstream for edge in part.edges}
        for node in part.nodes:
            if node.job is not None:
                template = node.job.template
                now = JobStatus.SCHEDULED if template.is_timed else JobStatus.PENDING
                now = JobStatus.BLOCKED if node.id in waiting else now
                moved.append(JobMoved(node.id, template.task, template.lane[0], None, now))
    return moved


def _check_key_wait(key_wait: float, within: Within | None) -> None:
    positive_seconds("enqueue: key_wait", key_wait)
    if within is not None:
        raise ConfigurationError(
            "enqueue: key_wait cannot be used with connection=; set lock_timeout in your transaction"
        )
