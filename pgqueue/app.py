"""PgQueue: the one object that an application makes."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, repeat
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload
from uuid import UUID

import anyio
import asyncpg

from pgqueue import migrations
from pgqueue.arguments import encode_by_name
from pgqueue.batch import Batch, Call, chunks
from pgqueue.context import JobContext
from pgqueue.database import CONNECTION_ERRORS, RECONNECT_PAUSES, Database
from pgqueue.dead_store import DeadStore
from pgqueue.errors import (
    CodecError,
    ConfigurationError,
    InvalidOptionError,
    JobNotFoundError,
    NotOpenError,
    UnknownQueueError,
    UnknownTaskError,
)
from pgqueue.events import JobsEnqueued, Observer, Observers
from pgqueue.filters import JobFilter, Page, read_statuses
from pgqueue.ids import new_id, new_ids
from pgqueue.jobs import Attempt, Job
from pgqueue.logs import HEARD, log_transitions
from pgqueue.operating import Operating
from pgqueue.operations import Operations
from pgqueue.options import (
    NO_OPTIONS,
    AttemptOptions,
    CallOptions,
    Duration,
    TaskOptions,
    check_event,
    read_options,
)
from pgqueue.registry import Codec, Isolation, Registry, TaskDefinition, encode_document
from pgqueue.results import Results
from pgqueue.retention import RetentionOptions, read_retention
from pgqueue.settings import Setting
from pgqueue.signals import Signals
from pgqueue.statements import check_schema_name
from pgqueue.store import Measure, Store
from pgqueue.tasks import Declare, JobHandle, Signature, Task, raise_unless_succeeded
from pgqueue.worker import Worker, WorkerSettings
from pgqueue.worker.deaths import Hook
from pgqueue.worker.runner import AttemptRunner, MainThread

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgqueue.database import Connection
    from pgqueue.statements import Migration

P = ParamSpec("P")
R = TypeVar("R")
HookT = TypeVar("HookT", bound=Hook)

MAX_PAYLOAD = 1024 * 1024


class PgQueue(Operations):
    """Tasks, and the database that their jobs are in.

    Constructing one connects to nothing and starts nothing; `async with` opens it.

    *dsn*: as asyncpg takes it. *schema*: the database schema, so that one database can hold several
    queues. *strict_queues*: refuse jobs for queues that neither a task nor `queue()` names.
    *payload_limit*: bytes of a job's arguments, and of its result, as JSON. *connect_timeout*: seconds
    after which a database that does not answer is an error. *force_generic_plans*: plan each statement
    once; Citus cannot. *seed*: makes the jitter of retries repeatable. *retention*: for how long finished
    jobs are kept, by how they ended (RetentionOptions); workers remove them. *connect_options*: passed to
    `asyncpg.connect`. *version*: of your code, noted with every attempt that does not succeed.
    *unknown_task_grace*: seconds after which jobs of a task that no live worker knows have failed; None:
    never. Other options hold for every job where nothing nearer says otherwise.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "pgqueue",
        strict_queues: bool = False,
        payload_limit: int = MAX_PAYLOAD,
        max_connections: int = 10,
        connect_timeout: float = 5.0,
        force_generic_plans: bool = True,
        codec: Codec | None = None,
        seed: int | None = None,
        retention: RetentionOptions | None = None,
        connect_options: Mapping[str, Any] | None = None,
        version: str | None = None,
        unknown_task_grace: float | None = 24 * 3600.0,
        **options: Unpack[TaskOptions],
    ) -> None:
        if not isinstance(dsn, str) or not dsn:
            raise ConfigurationError(f"the DSN is {dsn!r}: give one like 'postgresql://localhost/app'")
        if version is not None and (not isinstance(version, str) or not 0 < len(version) <= 200):
            raise ConfigurationError(f"version is {version!r}: give a text of 1 to 200 characters")
        if unknown_task_grace is not None and not 0 < unknown_task_grace < float("inf"):
            raise ConfigurationError(
                f"unknown_task_grace is {unknown_task_grace!r}: give more than 0 seconds, or None for ever"
            )
        self.dsn = dsn
        self.version = version
        self._unknown_task_grace = unknown_task_grace
        self.schema = check_schema_name(schema)
        self.payload_limit = payload_limit
        self.runs_twice = False
        """Whether workers made from now on execute every job twice: see `pgqueue.testing`."""
        self._strict_queues = strict_queues
        self._codec = codec
        self._rng = random.Random(seed)
        self._retention = read_retention(retention or {})
        self.registry = Registry(read_options("PgQueue", options, TaskOptions))
        self._observers = Observers()
        self._observers.add(log_transitions, *HEARD)
        self._on_dead: list[Hook] = []
        self._store = Store(self.schema)
        self._dead = DeadStore(self.schema)
        self._database = Database(
            dsn,
            schema=self.schema,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            force_generic_plans=force_generic_plans,
            connect_options=dict(connect_options or {}),
        )
        self._signals = Signals(self._database, self._store)
        self._results = Results(self._database, self._store, self._signals)
        self._operating = Operating(self._database, self._store, self._signals, self.registry)
        self._host: asyncio.Task[None] | None = None
        self._closing = anyio.Event()
        self._lanes: dict[tuple[str, int], int] = {}
        self._calls: dict[str, Call] = {}
        self._workers: list[Worker] = []

    # Declaring

    @overload
    def task(self, handler: Callable[Concatenate[JobContext, P], Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, handler: Callable[Concatenate[JobContext, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, handler: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, handler: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        isolation: Isolation | None = None,
        **options: Unpack[TaskOptions],
    ) -> Declare: ...
    def task(
        self,
        handler: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        isolation: Isolation | None = None,
        **options: Any,
    ) -> Any:
        """Declare a function as a task.

        Its name is the function's, or *name*; jobs are stored under it, so it outlives renamings of the
        function only if it is given. *isolation*: "process" runs it in a child process of the worker, which
        imports the handler's module, is killed at the hard limit, and whose death is a failed attempt. Raises
        InvalidTaskError, DuplicateTaskError, InvalidOptionError.
        """

        def declare(function: Callable[..., Any]) -> Task[Any, Any]:
            task_name = name or str(getattr(function, "__name__", repr(function)))
            level = read_options(f"task {task_name!r}", options, TaskOptions)
            definition = TaskDefinition(task_name, function, level, isolation=isolation)
            self.registry.add(definition)
            return Task(self, definition)

        return declare if handler is None else declare(handler)

    def queue(self, name: str, /, **options: Unpack[TaskOptions]) -> None:
        """Declare a queue and the options of its jobs, where call and task do not say otherwise."""
        if "queue" in options:
            raise InvalidOptionError(f"queue {name!r}: a queue's options cannot name a queue")
        level = read_options(f"queue {name!r}", options, TaskOptions)
        read_options(f"queue {name!r}", {"queue": name}, TaskOptions)
        self.registry.set_queue(name, level)
        self._calls.clear()

    def observe(self, observer: Observer) -> None:
        """Call *observer* with every event in this process (`pgqueue.events`)."""
        self._observers.add(observer)

    def on_dead(self, hook: HookT) -> HookT:
        """Call *hook*, a plain or async function, with each DeadLetter that a worker of this process writes.

        After the failure is committed, beside the jobs, one at a time and for 30 seconds at most; what it
        raises is logged. At most once: it is for alerts, and the dead letters are what is kept. Use it as a
        decorator.
        """
        if not callable(hook):
            raise ConfigurationError(f"on_dead: {hook!r} is not a function")
        self._on_dead.append(hook)
        return hook

    # Life

    async def open(self) -> None:
        """Open the pool and check the schema. Raises DatabaseUnavailableError, SchemaError."""
        if self._host is not None:
            raise ConfigurationError("this PgQueue is open already")
        await self._database.open()
        try:
            async with self._database.acquire() as connection:
                await migrations.check_schema(connection, self.schema)
        except BaseException:
            await self._database.close()
            raise
        self._closing = anyio.Event()
        self._host = asyncio.get_running_loop().create_task(self._run(), name="pgqueue")

    async def close(self) -> None:
        """Close everything that `open` opened."""
        host, self._host = self._host, None
        try:
            if host is not None:
                self._closing.set()
                await asyncio.wait((host,))
                host.result()
        finally:
            self._lanes.clear()
            await self._database.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self) -> None:
        # A task of its own owns the background, because open and close may be called from different ones.
        async with anyio.create_task_group() as group:
            group.start_soon(self._signals.run)
            group.start_soon(self._results.run)
            await self._closing.wait()
            group.cancel_scope.cancel()

    async def migrate(self) -> Sequence[Migration]:
        """Bring the schema up to date and make the partitions of the next days; return what was applied.

        Needs no open PgQueue. Any number of processes may call it at once.
        """
        connection = await self._connect_plain()
        try:
            applied = await migrations.migrate(connection, self.schema)
            async with connection.transaction():
                await self._store.make_partitions(connection, 3)
            return applied
        finally:
            await connection.close()

    async def pending_migrations(self) -> str:
        """Return the SQL that `migrate` would run; empty: none."""
        connection = await self._connect_plain()
        try:
            async with connection.transaction():
                applied = await migrations.applied_version(connection, self.schema)
        finally:
            await connection.close()
        return migrations.pending_sql(self.schema, applied)

    async def _connect_plain(self) -> asyncpg.Connection[asyncpg.Record]:
        return await self._database.connect_plain()

    # Enqueueing

    async def enqueue(self, signature: Signature[R], *, connection: Connection | None = None) -> JobHandle[R]:
        """Enqueue one call. See `Task.enqueue`."""
        [handle] = await self.enqueue_many([signature], connection=connection)
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
        call = read_options(f"task {task!r}", options or {}, CallOptions)
        return Signature(task, args, kwargs, call, self.registry.get(task))

    async def enqueue_many(
        self, signatures: Iterable[Signature[Any]], *, connection: Connection | None = None
    ) -> list[JobHandle[Any]]:
        """Enqueue many calls, all or nothing; return their handles in the same order.

        Raises as `Task.enqueue` does, before anything is written.
        """
        calls = list(signatures)
        if not calls:
            return []
        if self._host is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")
        batch = self._batch(calls)
        await self._learn_lanes(batch)
        if connection is None:
            await self._write_own(batch)
            for lane in batch.lanes:
                self._signals.publish(f"ready {self._lanes[lane]}")
        else:
            await self._write_for_caller(batch, connection)
        if self._observers.want(JobsEnqueued):
            self._observers.emit(JobsEnqueued(batch.created))
        if not batch.chosen and not batch.keyed:
            return [
                JobHandle[Any](self, job_id, call.definition)
                for job_id, call in zip(batch.ids, calls, strict=True)
            ]
        return [
            JobHandle[Any](self, job_id, call.definition, created=created, replaced=replaced)
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
        self.registry.check(signature.task, signature.definition, signature.options)
        options = self.registry.resolve(signature.definition, signature.options)
        if self._strict_queues and options.queue not in self.registry.queues:
            declared = ", ".join(sorted(self.registry.queues))
            raise UnknownQueueError(
                f"task {signature.task!r}: queue {options.queue!r} is not declared (declared: {declared}); "
                "declare it with `pgq.queue(...)`"
            )
        call = kinds[kind] = Call.of(signature.task, options, signature.options)
        if is_plain:
            self._calls[signature.task] = call
        return call

    async def _write_own(self, batch: Batch) -> None:
        """Write on a connection of ours. An answer that was lost is asked for again, with the same ids."""
        deadline = time.monotonic() + self._database.connect_timeout
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            try:
                async with self._database.acquire() as connection:
                    if batch.is_one_statement:
                        await self._store.enqueue(connection, batch.ready)
                    else:
                        async with connection.transaction():
                            await self._write_parts(connection, batch)
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
        for jobs in chunks(timed):
            lanes.update(await self._store.schedule(connection, jobs))
        if follows:
            await self._store.wait_for(connection, follows)
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

    # Jobs

    async def get(self, job_id: UUID) -> Job:
        """Return a job as it is now. Raises JobNotFoundError, CodecError."""
        async with self._database.acquire() as connection:
            jobs = await self._store.read_jobs(connection, [job_id])
        if job_id not in jobs:
            raise JobNotFoundError(job_id)
        return self._decoded(jobs[job_id])

    def handle(self, job_id: UUID) -> JobHandle[Any]:
        """Return a handle of a job known by its id. Asks nobody whether it exists."""
        return JobHandle(self, job_id, None)

    async def attempts(self, job_id: UUID) -> list[Attempt]:
        """Return a job's attempts that did not succeed, oldest first."""
        async with self._database.acquire() as connection:
            return await self._store.read_attempts(connection, job_id)

    async def wait(self, job_id: UUID) -> Job:
        """Wait until a job is over, and return it. Raises JobNotFoundError."""
        if self._host is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")
        return self._decoded(await self._results.wait(job_id))

    async def cancel(self, job_id: UUID, *, reason: str | None = None, actor: str | None = None) -> bool:
        """Cancel a job; False: it was over already. See `JobHandle.cancel`. Raises JobNotFoundError.

        *actor*: who does it, for the job's history.
        """
        async with self._database.acquire() as connection:
            answer = await self._store.cancel(connection, job_id, reason, actor)
            if answer is None and not await self._store.find_existing(connection, [job_id]):
                raise JobNotFoundError(job_id)
        if answer == "cancelled":
            self._results.hint([job_id])
            self._signals.publish_finished(str(job_id))
        elif answer == "requested":
            self._signals.publish(f"cancel {job_id}")
        return answer is not None

    def decode_result(self, task: TaskDefinition | None, job: Job) -> Any:
        """Return a job's result as its task annotates it. Raises what JobHandle.result raises."""
        raise_unless_succeeded(job)
        definition = task or self.registry.get(job.task)
        if not job.has_result or definition is None:
            return job.result
        return definition.result.decode(json.dumps(job.result))

    def _decoded(self, job: Job) -> Job:
        if self._codec is None:
            return job
        arguments = self._decode(job, "arguments", job.arguments)
        result = self._decode(job, "result", job.result) if job.has_result else None
        return replace(job, arguments=arguments, result=result)

    def _decode(self, job: Job, what: str, stored: Any) -> Any:
        assert self._codec is not None
        try:
            return json.loads(self._codec.decode(json.dumps(stored)))
        except Exception as error:
            # The codec is the user's: it may raise anything.
            raise CodecError(job.id, what, error) from error

    async def measure(self, *, cap: int = 10_000) -> list[Measure]:
        """Return what each queue holds, counting at most *cap* jobs of a lane: the cost is bounded."""
        async with self._database.acquire() as connection:
            return await self._store.measure(connection, cap)

    # Operating

    async def pause(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Let no job of a queue, or of a task, start until it is resumed; False: it was paused already.

        Jobs are enqueued as ever, and running ones finish. Once this has returned, nothing of a paused queue
        starts anywhere; workers heed the pause of a task within about a second.
        Raises ConfigurationError unless one of both is named.
        """
        return await self._operating.set_paused(
            queue=queue, task=task, paused=True, actor=actor, reason=reason
        )

    async def resume(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Let the jobs of a paused queue or task start again; False: it was not paused."""
        return await self._operating.set_paused(
            queue=queue, task=task, paused=False, actor=actor, reason=reason
        )

    async def configure_task(
        self,
        name: str,
        /,
        *,
        actor: str | None = None,
        reason: str | None = None,
        **options: Unpack[AttemptOptions],
    ) -> None:
        """Change how attempts of a task run, in every worker, for those that have not started.

        Workers heed it within about a second. What a call set itself is nearer still; the task's own options,
        its queue's and the PgQueue's are further away. *options* take the place of those configured before;
        none: the task is as it was declared. Raises InvalidOptionError.
        """
        await self._operating.configure(name, options, actor=actor, reason=reason)

    async def jobs(
        self,
        *,
        status: str | Iterable[str] | None = None,
        task: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        key: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return up to *limit* jobs that fit everything given, newest first, and a cursor to what follows.

        The order is that of their ids. A page looks at 10,000 jobs at most: with a filter that few of them
        fit it can be short, or empty, and still have a cursor; only where that is None is there no more.
        Times are compared with `created_at`; a job whose id the caller chose, with another day's time in it
        than that of its enqueue, may not be found by them. Raises InvalidFilterError.
        """
        chosen = JobFilter(read_statuses(status), task, queue, tag, key, created_after, created_before)
        page = await self._operating.page(chosen, limit=limit, cursor=cursor)
        return Page([self._decoded(job) for job in page.jobs], page.cursor)

    def cancel_many(
        self,
        chosen: JobFilter,
        *,
        all: bool = False,  # noqa: A002  # what it means
        reason: str | None = None,
        actor: str | None = None,
    ) -> AsyncIterator[int]:
        """Cancel the live jobs that *chosen* takes in: `async for count in pgq.cancel_many(...)`.

        Yields how many, batch by batch; each is a transaction of its own, so leaving the loop leaves the rest
        alone. Running jobs are asked to stop. Raises InvalidFilterError for a filter that leaves nothing out,
        unless *all* is given.
        """
        return self._operating.cancel_many(chosen, everything=all, reason=reason, actor=actor)

    def requeue_many(
        self,
        chosen: JobFilter,
        *,
        all: bool = False,  # noqa: A002  # what it means
        reason: str | None = None,
        actor: str | None = None,
    ) -> AsyncIterator[int]:
        """Make the jobs that *chosen* takes in, and that are over, pending again, under their ids.

        Their history stays; what they returned does not. Those that have succeeded are left alone unless the
        filter names that status. Otherwise as `cancel_many`.
        """
        return self._operating.requeue_many(chosen, everything=all, reason=reason, actor=actor)

    async def settings(self) -> list[Setting]:
        """Return the queues and tasks that are paused or configured, and who did it, why and when."""
        return await self._operating.settings()

    async def check(self) -> None:
        """Ask the database for an answer. Raises DatabaseUnavailableError."""
        async with self._database.acquire() as connection:
            await connection.fetchval("select 1")

    # Working

    def worker(
        self,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int = 10,
        prefetch_multiplier: int = 1,
        poll_interval: float | None = None,
        lease_ttl: float = 15.0,
        grace: float = 30.0,
        cancel_grace: float = 5.0,
        name: str | None = None,
        run_twice: bool = False,
    ) -> Worker:
        """Return a worker for this process, to be used with `async with`.

        *queues*: the declared ones and those of the tasks, if not given. *concurrency*: handlers that run
        at once. *prefetch_multiplier*: jobs claimed, running ones included, as a multiple of it; 1 claims
        for free slots only. *run_twice*: execute every job twice, to test that it may be: see
        `pgqueue.testing`. Times are in seconds: see WorkerSettings. Raises ConfigurationError.
        """
        if self._host is None:
            raise NotOpenError("this PgQueue is not open: use `async with pgq:` around its worker")
        if prefetch_multiplier < 1:
            raise ConfigurationError(f"worker: prefetch_multiplier is {prefetch_multiplier}: give 1 or more")
        settings = WorkerSettings(
            queues=tuple(sorted(self.registry.queues) if queues is None else queues),
            concurrency=concurrency,
            prefetch=(prefetch_multiplier - 1) * concurrency,
            poll_interval=poll_interval,
            lease_ttl=lease_ttl,
            grace=grace,
            cancel_grace=cancel_grace,
            result_limit=self.payload_limit,
            name=name,
            run_twice=run_twice or self.runs_twice,
        )
        worker = Worker(
            database=self._database,
            store=self._store,
            dead_store=self._dead,
            registry=self.registry,
            signals=self._signals,
            results=self._results,
            observers=self._observers,
            codec=self._codec,
            rng=self._rng,
            version=self.version,
            unknown_task_grace=self._unknown_task_grace,
            on_dead=self._on_dead,
            settings=settings,
            retention=self._retention,
        )
        # A failed one stays, for whoever asks after the health of the process.
        self._workers = [each for each in self._workers if not each.has_stopped]
        self._workers.append(worker)
        return worker

    def attempt_runner(self, main_thread: MainThread) -> AttemptRunner:
        """Return what runs attempts in a child process of a worker: see `pgqueue.worker.child`."""
        return AttemptRunner(
            database=self._database,
            store=self._store,
            registry=self.registry,
            codec=self._codec,
            rng=self._rng,
            result_limit=self.payload_limit,
            main_thread=main_thread,
        )

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers of this process: those that run, and those that an error has ended."""
        return [worker for worker in self._workers if worker.is_alive or worker.has_failed]
