"""PgQueue: the one object that an application creates."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload

import anyio
import asyncpg

from pgqueue.background.lifeline import Lifeline
from pgqueue.background.loop import Loop
from pgqueue.background.notifications import Signals
from pgqueue.background.promotions import Promotions
from pgqueue.background.reading import Reads
from pgqueue.background.stats import StatsWriter
from pgqueue.background.watching import Watches
from pgqueue.client.bulk import BulkInterface
from pgqueue.client.children import ChildWorkflows
from pgqueue.client.declared_schedules import DeclaredSchedules
from pgqueue.client.durable import DurableInterface
from pgqueue.client.editing import EditInterface
from pgqueue.client.explaining import ExplainInterface
from pgqueue.client.limiters import LimiterInterface
from pgqueue.client.limits import LimitInterface
from pgqueue.client.measuring import MeasureInterface
from pgqueue.client.operating import SettingInterface
from pgqueue.client.ordering import OrderingInterface
from pgqueue.client.receiving import ReceiveInterface
from pgqueue.client.schedules import Schedules, SchedulingParts
from pgqueue.client.scheduling import ScheduleInterface
from pgqueue.client.web import WebInterface
from pgqueue.client.workflows import WorkflowInterface
from pgqueue.database import migrations
from pgqueue.database.lock_wait import with_lock_limit
from pgqueue.database.pool import Database
from pgqueue.database.sql import check_schema_name
from pgqueue.delivery.addresses import check_allowed, read_allowed
from pgqueue.delivery.answers import rule as retry_rule
from pgqueue.delivery.clients import Clients, MakeClient
from pgqueue.delivery.headers import Headers, HeadersHook
from pgqueue.delivery.signing import Secrets
from pgqueue.delivery.target import MARGIN, MAX_ANSWER, TIMEOUT, handler_of, read_target
from pgqueue.delivery.webhooks import PREFIX as WEBHOOK_PREFIX
from pgqueue.delivery.webhooks import options_of as webhook_options
from pgqueue.enqueueing.callers import Callers
from pgqueue.enqueueing.calls import CallReader
from pgqueue.enqueueing.inbox import Inbox
from pgqueue.enqueueing.submitting import SubmittingWriter
from pgqueue.enqueueing.workflow_writer import WorkflowWriter
from pgqueue.enqueueing.writer import Writer
from pgqueue.errors import (
    BackgroundError,
    ConfigurationError,
    InvalidOptionError,
    InvalidTaskError,
    MissingPrivilegeError,
    NotOpenError,
)
from pgqueue.events.kinds import Event
from pgqueue.events.observers import Observer, Observers
from pgqueue.flow.backpressure import Depths, check_max_depth
from pgqueue.flow.limits import (
    WINDOW,
    Key,
    Limit,
    LimitBy,
    Limits,
    WhenFull,
    fair_share,
    limits_of_queue,
    read_limits,
)
from pgqueue.flow.ordering import OnDead, Ordered, OrderedBy, ordered, read_ordered
from pgqueue.logs import HEARD, HEARD_IF_VERBOSE, TransitionLog
from pgqueue.model.checks import MAX_TASK_LENGTH, Duration, flag, integer, positive_seconds, shown, text
from pgqueue.model.jobs import TERMINAL
from pgqueue.model.rates import Rate
from pgqueue.model.unset import UNSET, Unset
from pgqueue.model.webhooks import Webhook, read_statuses
from pgqueue.options.checks import retry_when as check_retry_when
from pgqueue.options.declared import TaskOptions
from pgqueue.options.levels import NO_OPTIONS, read_options
from pgqueue.options.retention import RetentionOptions, read_retention
from pgqueue.options.table import Level
from pgqueue.own_tasks import own_task, owning_tasks
from pgqueue.schedules.ticker import Ticker
from pgqueue.store import Store
from pgqueue.tasks.batches import Batch, batch_handler
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.definition import Isolation, TaskDefinition
from pgqueue.tasks.importable import Importable
from pgqueue.tasks.middleware import Middleware, check_middleware, overriding
from pgqueue.tasks.pinning import MAX_VERSION_LENGTH, pinned_name
from pgqueue.tasks.registry import Registry
from pgqueue.tasks.task import AsyncTask, Declare, DeclareBatch, SyncTask, Task
from pgqueue.worker import Worker, WorkerSettings
from pgqueue.worker.host import WorkerHost
from pgqueue.worker.isolation.runner import AttemptRunner, MainThread
from pgqueue.worker.outcome.dead_letter_hooks import Hook
from pgqueue.worker.services.lifespan import LifespanFunction, read_lifespan
from pgqueue.worker.settings import Queues, read_queues
from pgqueue.workflows.reading import WorkflowReader

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgqueue.database.sql import Migration

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
HookT = TypeVar("HookT", bound=Hook)
LifespanT = TypeVar("LifespanT", bound=LifespanFunction)
MiddlewareT = TypeVar("MiddlewareT", bound=Middleware)

DAYS_AHEAD = 3
"""Days after today whose partitions `migrate` makes."""
MAX_PAYLOAD = 1024 * 1024
LAST_WORDS_WITHIN = 1.0
"""Seconds for which closing waits until notifications are sent."""


class PgQueue(
    WorkflowInterface,
    DurableInterface,
    BulkInterface,
    EditInterface,
    SettingInterface,
    LimitInterface,
    OrderingInterface,
    LimiterInterface,
    ReceiveInterface,
    ExplainInterface,
    MeasureInterface,
    WebInterface,
    ScheduleInterface,
):
    """Tasks, and the database that their jobs are in.

    The constructor connects to nothing and starts nothing; `async with` opens it.

    *dsn*: a postgresql:// URL as providers print it, or libpq's `name=value` form; without one it is told
    when it is opened: by `open(dsn)`, by the attribute `dsn`, or by the environment's PGQUEUE_DSN. *schema*:
    the database schema, so that one database can hold several sets of queues. *strict_queues*: refuse jobs
    for queues that neither a task nor `queue()` declares.
    *max_depth*: refuse jobs for a queue once it has this many pending jobs (QueueFullError); None: never.
    *payload_limit*: the largest size of a job's arguments, and of its result, in bytes of JSON.
    *connect_timeout*: seconds after which a database that does not answer is an error; None: the DSN's, or 5.
    *force_generic_plans*: plan each statement only once; Citus cannot. *seed*: makes the jitter of retries
    repeatable. *retention*: how long ended jobs are kept, by how they ended (RetentionOptions); workers
    remove them. *connect_options*: passed to `asyncpg.connect`. *version*: the version of your code, recorded
    with every attempt that does not succeed. *unknown_task_grace*: seconds after which jobs fail whose task
    no live worker declares, or that no worker can decode; None: never. *options*: apply to every job unless a
    more specific level sets them.
    """

    _http_clients: Clients | None = None
    """Of the HTTP tasks; None: it declares none."""

    def __init__(
        self,
        dsn: str | None = None,
        *,
        schema: str = "pgqueue",
        strict_queues: bool = False,
        max_depth: int | None = None,
        payload_limit: int = MAX_PAYLOAD,
        max_connections: int = 10,
        connect_timeout: float | None = None,
        force_generic_plans: bool = True,
        codec: Codec | None = None,
        seed: int | None = None,
        retention: RetentionOptions | None = None,
        connect_options: Mapping[str, Any] | None = None,
        version: str | None = None,
        unknown_task_grace: float | None = 24 * 3600.0,
        **options: Unpack[TaskOptions],
    ) -> None:
        _check_dsn(dsn)
        if version is not None:
            text("PgQueue: version", version, longest=MAX_VERSION_LENGTH)
        if unknown_task_grace is not None:
            positive_seconds("PgQueue: unknown_task_grace", unknown_task_grace)
        integer("PgQueue: payload_limit", payload_limit, least=1)
        integer("PgQueue: max_connections", max_connections, least=1)
        if connect_timeout is not None:
            positive_seconds("PgQueue: connect_timeout", connect_timeout)
        self._dsn = dsn
        self.version = version
        self._unknown_task_grace = unknown_task_grace
        self.schema = check_schema_name(schema)
        self.payload_limit = payload_limit
        self._runs_twice = False
        self._strict_queues = strict_queues
        self._depths = Depths(check_max_depth("PgQueue", max_depth))
        self._limits = Limits()
        self._codec = codec
        self._rng = random.Random(seed)
        self._retention = read_retention(retention or {})
        self.registry = Registry(read_options("PgQueue", options, Level.GLOBAL))
        self._importable = Importable(self._declare_imported)
        self._observers = Observers()
        log = TransitionLog(self.registry.log_share, self.registry.redacts, self.registry.has_traceback)
        self._observers.add(log.observe, *HEARD)
        self._observers.add(log.observe_if_verbose, *HEARD_IF_VERBOSE, is_listening=log.is_verbose)
        self._on_dead: list[Hook] = []
        self._open_state: Callable[[], AbstractAsyncContextManager[Any]] | None = None
        self._middleware: list[Middleware] = []
        self._enqueueing, self._around_workflows = (), ()
        self._store = Store(self.schema)
        self._database = Database(
            dsn,
            schema=self.schema,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            force_generic_plans=force_generic_plans,
            connect_options=dict(connect_options or {}),
        )
        self._lifeline = Lifeline(self._database)
        self._promotions = Promotions(self._database)
        self._signals = Signals(self._database, self._store)
        self._watches = Watches(self._database, self._store, self._signals)
        self._reads = Reads(self._database, self._store)
        self._stats = StatsWriter(self._database, self._store, self._observers)
        self._host: asyncio.Task[None] | None = None
        self._closing = anyio.Event()
        self._reader = CallReader(
            self.registry, codec, payload_limit=payload_limit, check_queue=self._check_declared
        )
        self._writer = Writer(self._database, self._store, self._signals, self._depths, self._observers)
        self._workflow_writer = WorkflowWriter(
            self._database, self._store, self._signals, self._depths, self._limits, self._writer
        )
        self._inbox, self._callers = Inbox(self._database, self._store), Callers(self._database, self._store)
        self.schedules = Schedules(self._scheduling_parts, self._check_open)
        self._declared_schedules = DeclaredSchedules(self._scheduling_parts)
        self._workers: list[Worker] = []
        self._missing_rights: list[str] = []
        self._reads_nothing = False

    # Declaring

    # What is awaitable is a result, too: the first that fits is meant.
    @overload
    def task(  # type: ignore[overload-overlap]
        self, handler: Callable[Concatenate[JobContext[S], P], Awaitable[R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, handler: Callable[Concatenate[JobContext[S], P], R], /) -> SyncTask[P, R]: ...
    @overload
    def task(  # type: ignore[overload-overlap]
        self, handler: Callable[P, Awaitable[R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, handler: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(
        self,
        batch: Batch,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        pin: bool = False,
        limits: Sequence[Limit | LimitBy] = (),
        ordered_by: Key | Ordered | OrderedBy | None = None,
        on_dead: OnDead | None = None,
        **options: Unpack[TaskOptions],
    ) -> DeclareBatch: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        pin: bool = False,
        isolation: Isolation | None = None,
        limits: Sequence[Limit | LimitBy] = (),
        ordered_by: Key | Ordered | OrderedBy | None = None,
        on_dead: OnDead | None = None,
        **options: Unpack[TaskOptions],
    ) -> Declare: ...
    def task(
        self,
        handler: Callable[..., Any] | Batch | None = None,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        pin: bool = False,
        isolation: Isolation | None = None,
        limits: Sequence[Limit | LimitBy] = (),
        ordered_by: Key | Ordered | OrderedBy | None = None,
        on_dead: OnDead | None = None,
        **options: Any,
    ) -> Any:
        """Declare a function as a task.

        Its name is the function's, or *name*; jobs are stored under it, so it outlives renamings of the
        function only if it is given. *pin*: jobs stay with the version of the code that enqueued them. The
        task's name becomes `name@version`, and workers that do not declare that version leave its jobs to
        those that do, as with any unknown task. *version*: that of the handler, by default the PgQueue's.
        *isolation*: "process" runs it in a child process of the worker, which imports the handler's module,
        is killed at the hard limit, and whose death is a failed attempt. *limits*: what its jobs wait for
        until they may run, in this order (`PgQueue.limit`). *ordered_by*: an argument's name, or a function
        of the arguments: jobs for which it is the same run one at a time, in the order in which they were
        enqueued. Tasks that share a group are given one (`PgQueue.ordered`). *on_dead*: what becomes of the
        jobs behind one that fails or expires: "block" (the default), "skip" or "halt". With a Batch in place
        of the function, `@pgq.task(Batch(size=100))`, the handler is called for many jobs at once. Raises
        InvalidTaskError, DuplicateTaskError, InvalidOptionError, ConfigurationError.
        """

        def declare(function: Callable[..., Any]) -> Task[Any, Any]:
            while isinstance(function, Task):
                # Declared under two names: the task itself is no handler.
                function = function.definition.handler
            task_name = name or getattr(function, "__name__", None)
            if not isinstance(task_name, str):
                raise InvalidTaskError(f"the handler {function!r} has no name of its own; pass name=")
            task_name = pinned_name(task_name, version, self.version, pin=pin)
            text("the name of a task", task_name, longest=MAX_TASK_LENGTH)
            level = read_options(f"task {task_name!r}", options, Level.TASK)
            called, collector = function, None
            if isinstance(handler, Batch):
                if isolation is not None:
                    raise InvalidTaskError(f"task {task_name!r}: a batch handler takes no isolation=")
                function, collector = batch_handler(task_name, function, handler)
            definition = TaskDefinition(task_name, function, level, isolation=isolation)
            definition.called, definition.collector = called, collector
            definition.limits = read_limits(task_name, limits, definition.arguments.names)
            definition.ordered = read_ordered(
                self._limits, task_name, ordered_by, on_dead, definition.arguments.names
            )
            self._reader.check_task(definition)
            self.registry.add(definition)
            definition.host = self
            return (AsyncTask if definition.is_coroutine else SyncTask)(self, definition)

        return declare if handler is None or isinstance(handler, Batch) else declare(handler)

    def http_task(
        self,
        name: str,
        /,
        *,
        url: str | None = None,
        allow: Sequence[str] = (),
        allow_private: bool = False,
        method: str = "POST",
        timeout: Duration = TIMEOUT,
        headers: Headers | HeadersHook | None = None,
        secret: Secrets | None = None,
        body: Any = Any,
        answer: Any = None,
        max_answer: int = MAX_ANSWER,
        client: MakeClient | None = None,
        limits: Sequence[Limit | LimitBy] = (),
        ordered_by: Key | Ordered | OrderedBy | None = None,
        on_dead: OnDead | None = None,
        **options: Any,
    ) -> AsyncTask[..., Any]:
        """Declare a task whose handler is an HTTP endpoint: each attempt of a job is one request.

            charge = pgq.http_task("charge", url="https://pay.internal/charge", secret=SECRET)
            await charge.enqueue({"order": 7})

        The job's argument is the *body* of the request, as JSON; a type for it is checked at the call. 2xx
        ends the job. 429, and 503 with a Retry-After, have it wait for as long as the target asks, which does
        not count as an attempt, and close the limits by rate that it has passed. Other statuses from 500 on,
        408, 421, 423 and 425 are retried, and so is what cannot be reached or takes longer than *timeout*
        seconds, from the connection to the end of the answer. All others fail the job; `retry_when` can say
        otherwise. Redirects are not followed.

        *url*: where to; with *allow*, a list of origins ("https://*.example.com"), jobs may bring another
        one: `charge.enqueue(body, url=...)`. A name in that has to lead to a public address, unless
        *allow_private* is set; an address that is listed itself may be any. *headers*: a mapping, or a
        function without arguments, async or not, that returns one for each request
        (`pgqueue.webhooks.BearerToken`). *secret*: requests are signed as Standard Webhooks has it; of
        several, each signs. *answer*: the type of the JSON that the target answers, which is the job's
        result; without it, the result is an HttpAnswer: the status, and the JSON if there is one of at most
        *max_answer* bytes. *client*: a function that returns an httpx.AsyncClient, for a proxy or a client
        certificate. All other parameters are those of `task`.

        Workers need the extra `http`. Raises InvalidTaskError, DuplicateTaskError, InvalidOptionError.
        """
        clients = self._http_clients or Clients()
        target = read_target(
            name,
            clients,
            url=url,
            allow=allow,
            method=method,
            timeout=timeout,
            given_headers=headers,
            secret=secret,
            is_typed=answer is not None,
            max_answer=max_answer,
            client=client,
            may_be_private=flag(f"HTTP task {shown(name)}: allow_private", allow_private),
        )
        where = f"HTTP task {name!r}"
        # Isolation and versions are for handlers that are code.
        read_options(where, options, Level.TASK)
        theirs = check_retry_when(f"{where}: retry_when", options.pop("retry_when", None))
        handler = handler_of(target, body, answer)
        declared = self.task(
            name=name,
            limits=limits,
            ordered_by=ordered_by,
            on_dead=on_dead,
            timeout=target.timeout + MARGIN,
            retry_when=retry_rule(theirs),
            **options,
        )(handler)
        if self._http_clients is None:
            self._http_clients = clients
            self._middleware.append(clients)
        return cast("AsyncTask[..., Any]", declared)

    def webhook(
        self,
        name: str,
        /,
        *,
        secret: Secrets,
        url: str | None = None,
        allow: Sequence[str] = (),
        allow_private: bool = False,
        statuses: Sequence[str] = tuple(sorted(TERMINAL)),
        everywhere: bool = False,
        timeout: Duration = TIMEOUT,
        headers: Headers | HeadersHook | None = None,
        client: MakeClient | None = None,
        **options: Any,
    ) -> Webhook:
        """Declare a webhook: a signed request that tells of the end of a job, and is a job itself.

            told = pgq.webhook("orders", url="https://shop.example.com/hooks", secret=SECRET)

            @pgq.task(webhooks=[told])
            async def ship(order: int) -> None: ...

        The job that sends it, of the task "webhook:NAME", is made in the transaction that ends the job,
        however that ends, and is retried as any HTTP task (`http_task`, which says what the parameters mean).
        Its header `webhook-id` is the same in each attempt, and another for each end. Give it to a task, a
        queue or a call by the option `webhooks`, as it is or as `told.on("failed")` and `told.to(url)`.
        *statuses*: the ends that it tells of. *everywhere*: for all jobs that this process enqueues, unless
        their task, queue or call has `webhooks` of its own. Jobs that send webhooks have none. Raises
        InvalidTaskError, DuplicateTaskError, InvalidOptionError.
        """
        text("the name of a webhook", name, longest=MAX_TASK_LENGTH - len(WEBHOOK_PREFIX))
        chosen = read_statuses(f"webhook {name!r}", statuses)
        allowed = read_allowed(f"webhook {name!r}", allow)
        task = self.http_task(
            f"{WEBHOOK_PREFIX}{name}",
            url=url,
            allow=allow,
            allow_private=allow_private,
            timeout=timeout,
            headers=headers,
            secret=secret,
            body=dict[str, Any],
            max_answer=0,
            client=client,
            **webhook_options(options),
        )
        resolved = self.registry.resolve(task.name, task.definition, NO_OPTIONS)
        made = Webhook(
            task.name,
            resolved["queue"],
            resolved["priority"],
            chosen,
            partial(check_allowed, allowed=allowed),
        )
        if everywhere:
            self.registry.tell_everywhere(made)
            self._reader.forget()
        return made

    def limit(
        self,
        name: str,
        /,
        *,
        slots: int | None = None,
        rate: Rate | None = None,
        when_full: WhenFull = "wait",
    ) -> Limit:
        """Declare a limit: at most *slots* jobs that have it run at once, over all workers, or *rate* start.

        Give it to tasks: `@pgq.task(limits=[limit])`; with `limit.by("tenant_id")` each tenant has that many.
        What it does not let through waits, blocked. *when_full*: "drop" cancels such a job instead, and
        "replace" those that wait before it; a job that has started once always waits. Workers need not know
        it. Raises ConfigurationError, also if this process declares it with other options.
        """
        return self._limits.add(name, slots, rate, when_full)

    def ordered(self, name: str, /, *, on_dead: OnDead = "block") -> Ordered:
        """Declare an ordered group, which several tasks can share.

        Give it to them as `@pgq.task(ordered_by=group.by("account_id"))`. Its jobs run one at a time for each
        key, in the order in which they were enqueued, over all workers, queues and priorities. *on_dead*:
        what becomes of the jobs behind one that fails or expires. "block": they wait until it was redriven or
        discarded; "skip": they go on; "halt": they wait until somebody calls `resume_key`. Raises
        ConfigurationError, also if this process declares it with another on_dead.
        """
        return ordered(self._limits, name, on_dead)

    def queue(
        self,
        name: str,
        /,
        *,
        max_depth: int | Unset | None = UNSET,
        slots: int | None = None,
        fair_by: Key | None = None,
        window: int | None = None,
        rate: Rate | None = None,
        ageing: Duration | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        """Declare a queue, and the options of its jobs, which their task and call can override.

        *max_depth*: enqueueing raises QueueFullError once this many jobs are pending in the queue; None:
        never, whatever the PgQueue's own limit. Scheduled, retried and requeued jobs are accepted. *slots*:
        at most this many of its jobs run at once, over all workers; None: any number. *rate*: at most so many
        start; None: any number. *fair_by*: the name of an argument, or a function of the arguments; its
        values share the queue, so that none waits for the backlog of another: at most *window* jobs of each
        stand ready at once (10). *ageing*: workers that declare it raise a pending job by one of the queue's
        priorities for each such time that it has waited, in seconds or as a timedelta; None: it may wait for
        ever behind jobs of higher priorities.

        Declared again, a queue has what the last declaration says, and nothing of the one before. Raises
        InvalidOptionError, and changes nothing then.
        """
        read_options("queue", {"queue": name}, Level.CALL)
        if "queue" in options:
            raise InvalidOptionError(f"queue {name!r}: a queue's options cannot name a queue")
        level = read_options(f"queue {name!r}", options, Level.QUEUE)
        limit = max_depth if isinstance(max_depth, Unset) else check_max_depth(f"queue {name!r}", max_depth)
        raised_after = None if ageing is None else positive_seconds(f"queue {name!r}: ageing", ageing)
        if fair_by is None and window is not None:
            raise InvalidOptionError(f"queue {name!r}: window is of the keys of fair_by: pass that too")
        shared = None if fair_by is None else fair_share(name, fair_by, WINDOW if window is None else window)
        if shared is not None:
            self._reader.check_shares(name, shared)
        limits = limits_of_queue(name, slots, rate)
        self.registry.set_queue(name, level)
        self.registry.set_ageing(name, raised_after)
        self._limits.set_queue(name, limits if shared is None else (*limits, shared))
        self._reader.share_queue(name, shared)
        self._reader.limit_queue(name, limits)
        self._depths.set_limit(name, limit)

    def allow_importing(self, *modules: str) -> None:
        """Let workers run the functions of *modules*, and of those below them, without a declared task.

        Enqueue them by `enqueue_by_name(function, ...)`, or by their path: "shop.words.count". A worker
        imports the module for the first such job. Whoever may enqueue can call every function there, so allow
        only modules that are made for it. All workers of the queue must allow the same. Raises
        ConfigurationError.
        """
        self._importable.allow(modules)

    def _declare_imported(self, name: str, function: Callable[..., Any]) -> TaskDefinition:
        task: Task[..., Any] = self.task(name=name)(function)
        return task.definition

    def observe(self, observer: Observer, *kinds: type[Event]) -> None:
        """Call *observer* with every event in this process (`pgqueue.events`), or with those of *kinds*."""
        self._observers.add(observer, *kinds)

    def on_dead(self, hook: HookT) -> HookT:
        """Call *hook*, which may be async, with each DeadLetter that a worker of this process writes.

        It is called after the failure is committed, concurrently with jobs, one call at a time and for at
        most 30 seconds; its errors are logged. Each call happens at most once: use it for alerts, and rely on
        the dead letters themselves. Can be used as a decorator.
        """
        if not callable(hook):
            raise ConfigurationError(f"on_dead: the hook must be a function, got {hook!r}")
        self._on_dead.append(hook)
        return hook

    def lifespan(self, function: LifespanT) -> LifespanT:
        """Declare what each worker prepares before its first claim, and cleans up after its last attempt.

            @pgq.lifespan
            async def lifespan() -> AsyncIterator[State]:
                async with httpx.AsyncClient() as client:
                    yield State(client)

        What is yielded is `ctx.state` in handlers and dependencies: annotate `ctx: JobContext[State]`. It
        runs once per worker, so once in each process of `--processes`, and in each child process of tasks
        with `isolation="process"`. If it fails at the start, nothing is claimed, and `async with
        pgq.worker()` raises WorkerLifespanError. However the worker is stopped, the part behind the `yield`
        runs after the last attempt; what takes longer than `cancel_grace` is cancelled. A process that is
        killed runs nothing. A function that returns an async context manager works as well. There is one
        lifespan; enter several contexts in it. Raises ConfigurationError.
        """
        if self._open_state is not None:
            raise ConfigurationError(
                "lifespan: one is declared already; enter several contexts in one function"
            )
        self._open_state = read_lifespan(function)
        return function

    def middleware(self, middleware: MiddlewareT) -> MiddlewareT:
        """Add what wraps enqueueing, claiming, running or finishing in this process: see Middleware.

        The first one that is added is outermost. Add all before you make workers. Raises ConfigurationError.
        """
        added = check_middleware(middleware)
        self._middleware.append(added)
        self._enqueueing = overriding(self._middleware, "enqueue")
        self._around_workflows = overriding(self._middleware, "workflow")
        if overriding((added,), "run"):
            self.registry.wrap()
        return middleware

    # Life

    @property
    def dsn(self) -> str | None:
        """The database that it connects to; None: that of PGQUEUE_DSN. Set it while the PgQueue is closed.

        Raises ConfigurationError for a DSN that cannot be read, and while it is open.
        """
        return self._dsn

    @dsn.setter
    def dsn(self, dsn: str | None) -> None:
        _check_dsn(dsn)
        if self._host is not None:
            raise ConfigurationError("this PgQueue is open: set its DSN before you open it")
        self._database.set_dsn(dsn)
        self._dsn = dsn

    def _find_dsn(self) -> None:
        """See to it that there is a DSN. Raises ConfigurationError."""
        if self._dsn is None:
            dsn = os.environ.get("PGQUEUE_DSN")
            if not dsn:
                raise ConfigurationError(
                    "this PgQueue has no DSN: construct it with one, pass it to `open`, or set PGQUEUE_DSN"
                )
            self._database.set_dsn(dsn)

    async def open(self, dsn: str | None = None) -> None:
        """Open the pool and check the schema. *dsn*: of the database, instead of the one it has.

        Raises DatabaseUnavailableError, SchemaError, MissingPrivilegeError, ConfigurationError.
        """
        if self._host is not None:
            raise ConfigurationError("this PgQueue is already open")
        if dsn is not None:
            self.dsn = dsn
        self._find_dsn()
        await self._database.open()
        self._store.encoding = self._database.encoding
        # It may be another database by now. Not in `close`: calls under way there still use the lanes.
        self._writer.forget_lanes()
        self._depths.forget()
        self._declared_schedules.forget()
        self.registry.set_at_run_time({})
        self._callers.forget()
        try:
            async with self._database.acquire() as connection:
                rights = await migrations.check_schema(connection, self.schema)
                self._missing_rights = await migrations.find_missing_rights(connection, self.schema)
        except BaseException:
            await self._database.close()
            raise
        kind = Writer if rights.writes else SubmittingWriter
        if type(self._writer) is not kind:
            self._writer = kind(self._database, self._store, self._signals, self._depths, self._observers)
        self._reads_nothing = not rights.reads
        # Who may write no jobs may write no statistics either.
        self._stats.is_refused = not rights.writes
        self._closing = anyio.Event()
        for loop in self._loops:
            loop.prepare()
        self._host = own_task(self._run(), name="pgqueue")

    async def close(self) -> None:
        """Close everything that `open` opened. In another event loop: WrongEventLoopError."""
        if self._host is not None:
            self._database.check_loop()
        host, self._host = self._host, None
        try:
            if host is not None:
                for loop in self._loops:
                    loop.is_closing = True
                self._closing.set()
                await asyncio.wait((host,))
                # Something else may have cancelled it before. Whoever closes has not been cancelled by that.
                if not host.cancelled():
                    host.result()
        finally:
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
            with owning_tasks():
                group.start_soon(self._lifeline.run)
                group.start_soon(self._promotions.run)
                group.start_soon(self._signals.run)
                group.start_soon(self._watches.run)
                group.start_soon(self._reads.run)
                group.start_soon(self._stats.run)
            await self._closing.wait()
            # A program that enqueues a job and exits still notifies the worker. A connection that is being
            # opened for that is not cut off either: asyncio would complain on stderr.
            with anyio.move_on_after(LAST_WORDS_WITHIN):
                await self._signals.drain()
            group.cancel_scope.cancel()
        await self._stats.close()

    async def migrate(self, *, lock_limit: float | None = 60.0) -> Sequence[Migration]:
        """Bring the schema up to date, create the partitions of the next days; return the migrations applied.

        The PgQueue does not have to be open. Any number of processes may call it at once. Writes nothing if
        there is nothing to do: then it works on a standby, and as a role that may only read. *lock_limit*:
        the seconds that it may wait for a lock, because all who come after it wait as well; None: no limit.
        After 2 s the log says for whose. Raises SchemaLockedError, DatabaseUnavailableError,
        MissingPrivilegeError, and SchemaError if the schema is not whole.
        """
        async with self._migrating() as connection:
            applied = await with_lock_limit(
                connection.get_server_pid(),
                self._database.connect_plain,
                self.schema,
                migrations.migrate(connection, self.schema),
                lock_limit,
            )
            async with migrations.transaction(connection):
                if await self._store.lacks_partitions(connection, DAYS_AHEAD):
                    await self._store.make_partitions(connection, DAYS_AHEAD)
            return applied

    async def pending_migrations(self) -> str:
        """Return the SQL that `migrate` would run; empty if the schema is up to date."""
        async with self._migrating() as connection, migrations.transaction(connection):
            applied = await migrations.applied_version(connection, self.schema)
        return migrations.pending_sql(self.schema, applied)

    @asynccontextmanager
    async def _migrating(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        self._find_dsn()
        connection = await self._database.connect_plain()
        try:
            with self._database.translated():
                yield connection
        except asyncpg.InsufficientPrivilegeError as error:
            raise MissingPrivilegeError(
                f"schema {self.schema!r} was not migrated: {error}",
                now="the role must own the schema, or the database if the schema is to be made",
            ) from error
        finally:
            await connection.close()

    @property
    def _loops(self) -> tuple[Loop, ...]:
        parts = (self._lifeline, self._promotions, self._signals, self._watches, self._reads, self._stats)
        return tuple(part.loop for part in parts)

    def background_problems(self) -> list[str]:
        """Return which background loops have ended or are stuck; empty: none. Safe from any thread."""
        if self._host is None:
            return []
        return [problem for loop in self._loops if (problem := loop.problem())]

    async def check(self) -> None:
        """Check that the database answers and that the background loops run.

        Raises DatabaseUnavailableError, or BackgroundError, which names the loop that has ended or is stuck.
        """
        if problems := self.background_problems():
            raise BackgroundError("; ".join(problems))
        async with self._database.acquire() as connection:
            await connection.fetchval("select 1")

    async def now(self) -> datetime:
        """Return the time of the database's clock, which all times of jobs use."""
        async with self._database.acquire() as connection:
            at: datetime = await connection.fetchval("select pg_catalog.now()")
        return at

    def _scheduling_parts(self) -> SchedulingParts:
        return SchedulingParts(self._database, self._store, self._reader, self._writer, self._codec)

    # Working

    def worker(
        self,
        *,
        queues: Queues | None = None,
        concurrency: int | None = None,
        weights: Mapping[str, int] | None = None,
        prefetch_multiplier: int = 1,
        poll_interval: float | None = None,
        lease_ttl: float = 15.0,
        grace: float = 30.0,
        cancel_grace: float = 5.0,
        name: str | None = None,
        run_twice: bool = False,
    ) -> Worker:
        """Return a worker for this process, to be used with `async with`.

        *queues*: the declared ones and those of the tasks, if not given; with slots of their own as a
        mapping: of `{"mail": 20, "reports": 2}`, at most 20 jobs of mail run at once in this worker. A queue
        with None may take every free slot. *concurrency*: handlers that run at once; by default 10, or the
        sum of the slots (and 10 more where a queue has none). *weights*: how many jobs a queue starts for
        each job of one that is not named, where both have a backlog of the same priority.
        *prefetch_multiplier*: jobs claimed, running ones included, as a multiple of the concurrency; 1 claims
        for free slots only. *run_twice*: execute every job twice, to test that it may be: see
        `pgqueue.testing`. Times are in seconds: see WorkerSettings. Raises ConfigurationError,
        MissingPrivilegeError.
        """
        if self._host is None:
            raise NotOpenError("this PgQueue is not open: use `async with pgq:` around its worker")
        integer("worker: prefetch_multiplier", prefetch_multiplier, least=1)
        if concurrency is not None:
            integer("worker: concurrency", concurrency, least=1)
        names, queue_slots, concurrency = read_queues(queues, self.registry.queues, concurrency)
        if weights is not None and not isinstance(weights, Mapping):
            raise ConfigurationError(
                f"worker: weights must be a mapping of queues to numbers, got {shown(weights)}"
            )
        if self._missing_rights:
            raise MissingPrivilegeError(
                f"the role of this PgQueue may not run a worker in schema {self.schema!r}: it lacks "
                f"{migrations.listed(self._missing_rights)}"
            )
        settings = WorkerSettings(
            queues=names,
            concurrency=concurrency,
            queue_slots=queue_slots,
            weights=dict(weights or {}),
            prefetch=(prefetch_multiplier - 1) * concurrency,
            poll_interval=poll_interval,
            lease_ttl=lease_ttl,
            grace=grace,
            cancel_grace=cancel_grace,
            result_limit=self.payload_limit,
            name=name,
            run_twice=run_twice,
        )
        self._check_encoding(settings)
        host = WorkerHost(
            database=self._database,
            store=self._store,
            registry=self.registry,
            signals=self._signals,
            watches=self._watches,
            observers=self._observers,
            codec=self._codec,
            rng=self._rng,
            version=self.version,
            unknown_task_grace=self._unknown_task_grace,
            on_dead=self._on_dead,
            find_task=self._importable.find,
            retention=self._retention,
            ticker=Ticker(self._store, self._writer, self._codec),
            declare_schedules=self._declared_schedules.write,
            workflows=ChildWorkflows(self, WorkflowReader(self._reader, self), self._write_graph),
            open_state=self._open_state,
            middleware=tuple(self._middleware),
        )
        worker = Worker(host, settings)
        if self._runs_twice:
            worker.run_twice(everything=True)
        # A failed worker stays in the list, for health checks of the process.
        self._workers = [each for each in self._workers if not each.has_stopped]
        self._workers.append(worker)
        return worker

    def _check_encoding(self, settings: WorkerSettings) -> None:
        encoding = self._database.encoding
        if encoding is None:
            return
        for name in (*settings.queues, *self.registry.names, settings.name or ""):
            if not encoding.holds(name):
                raise ConfigurationError(
                    f"worker: the database's encoding {encoding.name} does not have a character of {name!r}"
                )

    @contextmanager
    def running_twice(self) -> Iterator[None]:
        """Have the workers of this PgQueue execute each job twice: see `pgqueue.testing.runs_twice`."""
        before, self._runs_twice = self._runs_twice, True
        for worker in self._workers:
            worker.run_twice(everything=True)
        try:
            yield
        finally:
            self._runs_twice = before
            for worker in self._workers:
                worker.run_twice(everything=before)

    async def write_schedules(self) -> None:
        """Write the schedules that the code of this process declares, as its workers do when they start.

        Raises what `schedules.create` raises, DatabaseUnavailableError.
        """
        self._check_open()
        await self._declared_schedules.write(self._database.acquire)

    def beneath(self) -> tuple[Database, Store]:
        """Return its database and its statements, for `pgqueue.testing`. They change without notice."""
        return self._database, self._store

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed again."""
        return self._host is not None

    def attempt_runner(self, main_thread: MainThread) -> AttemptRunner:
        """Return the runner of attempts in a child process of a worker: see `pgqueue.processes.child`."""
        return AttemptRunner(
            database=self._database,
            store=self._store,
            registry=self.registry,
            codec=self._codec,
            rng=self._rng,
            result_limit=self.payload_limit,
            main_thread=main_thread,
            middleware=self._middleware,
            open_state=self._open_state,
        )

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers of this process: those that are running, and those that stopped because of an error."""
        return [worker for worker in self._workers if worker.is_alive or worker.has_failed]


def _check_dsn(dsn: object) -> None:
    if dsn is not None and not (isinstance(dsn, str) and dsn):
        raise ConfigurationError(f"the DSN must be a string like 'postgresql://localhost/app', got {dsn!r}")
