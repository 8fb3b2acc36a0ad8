"""A PgQueue to call without `await`."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload
from uuid import UUID

from anyio.from_thread import start_blocking_portal

from pgqueue.app import PgQueue
from pgqueue.blocking.calling import Facade, Loop, called, entered, iterated, made
from pgqueue.blocking.handles import (
    BlockingBulkHandle,
    BlockingJobHandle,
    BlockingReceivedJob,
    BlockingRedriveHandle,
    BlockingSchedules,
    BlockingWorker,
    BlockingWorkflowBuilder,
    BlockingWorkflowHandle,
)
from pgqueue.options.declared import CallOptions
from pgqueue.tasks.canvas import Canvas
from pgqueue.tasks.signature import Signature
from pgqueue.workflows.dag import WorkflowBuilder

if TYPE_CHECKING:
    from pgqueue.database.callers import BlockingConnection
    from pgqueue.database.sql import Migration
    from pgqueue.model.checks import Duration

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class BlockingPgQueue(Facade):
    """A PgQueue to call without `await`, from any thread, inside a `with` block.

        with BlockingPgQueue(pgq) as queue:
            job = queue.enqueue(send_email.s("user@example.com"))
            print(job.result(timeout=10))

    Each method raises the errors of the PgQueue method of the same name, and NotOpenError outside the block.
    Entering the block opens the PgQueue, which must not be open already. Tasks, queues and hooks are declared
    on the PgQueue itself.
    """

    __slots__ = ("_stack", "schedules")

    def __init__(self, pgq: PgQueue) -> None:
        super().__init__(Loop(), pgq)
        self._stack = ExitStack()
        self.schedules = BlockingSchedules(self.loop, pgq.schedules)
        """See `PgQueue.schedules`."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self.behind))
            self.loop.portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.portal = None
        self._stack.__exit__(kind, error, trace)

    # Enqueueing

    if TYPE_CHECKING:

        @overload
        def enqueue(  # type: ignore[overload-overlap]  # a call is a canvas, too
            self,
            call: Signature[R],
            *,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
            key_wait: float | None = None,
        ) -> BlockingJobHandle[R]: ...
        @overload
        def enqueue(
            self, call: Canvas[R], *, connection: BlockingConnection | None = None, autocommit: bool = False
        ) -> BlockingWorkflowHandle[R]: ...
        def enqueue(self, call: Any, **options: Any) -> Any:
            """Enqueue one call, or calls composed to a workflow, and return its handle."""

        def enqueue_many(
            self,
            signatures: Iterable[Signature[Any]],
            *,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
            key_wait: float | None = None,
        ) -> list[BlockingJobHandle[Any]]:
            """Enqueue many calls, all or nothing; return their handles in the same order."""

        def enqueue_by_name(
            self,
            task: str | Callable[..., Any],
            /,
            *args: Any,
            options: CallOptions | None = None,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
            **kwargs: Any,
        ) -> BlockingJobHandle[Any]:
            """Enqueue a task by name, without its code. The worker validates the arguments."""

        def enqueue_workflow(
            self,
            canvas: Canvas[R],
            *,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
        ) -> BlockingWorkflowHandle[R]:
            """Enqueue composed calls: all of them or nothing. See `Canvas.enqueue`."""

        def enqueue_dag(
            self,
            dag: WorkflowBuilder,
            *,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
        ) -> BlockingWorkflowHandle[Any]:
            """Enqueue a workflow that `PgQueue.workflow` has built."""

        def mark_processed(
            self,
            source: str,
            event_id: str,
            *,
            ttl: Duration = ...,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
        ) -> bool:
            """Note that an event is being processed; False: it was before. See `PgQueue.mark_processed`."""

        def signal(
            self,
            job_id: UUID | str,
            name: str,
            value: Any = None,
            *,
            dedup_id: str | None = None,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
        ) -> bool:
            """Send a job the event *name*; False: a duplicate. See `PgQueue.signal`."""

        def workflow(self, name: str) -> BlockingWorkflowBuilder:
            """Return a builder of a workflow by its nodes. Raises InvalidOptionError."""

        def receive(
            self,
            queue: str,
            /,
            *,
            n: int = 1,
            wait: Duration = 0,
            lease: Duration = 30,
            name: str | None = None,
        ) -> list[BlockingReceivedJob]:
            """Receive up to *n* pending jobs of *queue*. See `PgQueue.receive`."""

        # Handles

        def handle(self, job_id: UUID | str) -> BlockingJobHandle[Any]:
            """Return a handle for a job id. This does not check that the job exists."""

        def workflow_handle(self, workflow_id: UUID | str) -> BlockingWorkflowHandle[Any]:
            """Return a handle of a workflow by its `workflow_id`. This does not check that it exists."""

        def redrive_handle(self, redrive_id: UUID | str) -> BlockingRedriveHandle:
            """Return a handle of a mass redrive. This does not check that it exists."""

        def bulk_handle(self, bulk_id: UUID | str) -> BlockingBulkHandle:
            """Return a handle of a bulk operation. This does not check that it exists."""

        def begin_bulk(self, *args: Any, **kwargs: Any) -> BlockingBulkHandle:
            """Begin to change many jobs in the background. See `PgQueue.begin_bulk`."""

        def fork(self, job_id: UUID | str, step: str) -> BlockingJobHandle[Any]:
            """Make a new job of an ended one, with what that had stored before *step*. See `PgQueue.fork`."""

        def redrive_many(self, *args: Any, **kwargs: Any) -> BlockingRedriveHandle:
            """Redrive the dead letters that match a filter. See `PgQueue.redrive_many`."""
    else:
        _enqueue = called(PgQueue.enqueue)
        _enqueue_many = called(PgQueue.enqueue_many)

        @functools.wraps(PgQueue.enqueue)
        def enqueue(self, call: Any, **options: Any) -> Any:
            """Enqueue one call, or calls composed to a workflow."""
            if isinstance(call, Canvas) and not isinstance(call, Signature):
                return self.enqueue_workflow(call, **options)
            return self._enqueue(call, **options)

        @functools.wraps(PgQueue.enqueue_many)
        def enqueue_many(self, signatures: Any, **options: Any) -> Any:
            """Enqueue many calls."""
            # A generator is run by the thread that it belongs to.
            return self._enqueue_many(list(signatures), **options)

        enqueue_by_name = called(PgQueue.enqueue_by_name)
        enqueue_workflow = called(PgQueue.enqueue_workflow)
        enqueue_dag = called(PgQueue.enqueue_dag)
        mark_processed = called(PgQueue.mark_processed)
        signal = called(PgQueue.signal)
        receive = called(PgQueue.receive)
        workflow = made(PgQueue.workflow)
        handle = made(PgQueue.handle)
        workflow_handle = made(PgQueue.workflow_handle)
        redrive_handle = made(PgQueue.redrive_handle)
        bulk_handle = made(PgQueue.bulk_handle)
        fork = called(PgQueue.fork)
        redrive_many = called(PgQueue.redrive_many)
        begin_bulk = called(PgQueue.begin_bulk)

    # Jobs and durable functions

    get = called(PgQueue.get)
    get_many = called(PgQueue.get_many)
    attempts = called(PgQueue.attempts)
    wait = called(PgQueue.wait)
    watch = iterated(PgQueue.watch)
    cancel = called(PgQueue.cancel)
    requeue = called(PgQueue.requeue)
    edit = called(PgQueue.edit)
    jobs = called(PgQueue.jobs)
    owned_jobs = called(PgQueue.owned_jobs)
    job_ids = called(PgQueue.job_ids)
    count_jobs = called(PgQueue.count_jobs)
    cancel_many = iterated(PgQueue.cancel_many)
    requeue_many = iterated(PgQueue.requeue_many)
    restart_from = called(PgQueue.restart_from)

    # Workflows

    get_workflow = called(PgQueue.get_workflow)
    count_workflow = called(PgQueue.count_workflow)
    workflow_result = called(PgQueue.workflow_result)
    workflow_results = iterated(PgQueue.workflow_results)
    join_workflow = called(PgQueue.join_workflow)
    cancel_workflow = called(PgQueue.cancel_workflow)
    retry_workflow = called(PgQueue.retry_workflow)
    workflows = called(PgQueue.workflows)
    workflow_details = called(PgQueue.workflow_details)
    workflow_jobs = called(PgQueue.workflow_jobs)
    measure_workflows = called(PgQueue.measure_workflows)
    find_standstill = called(PgQueue.find_standstill)
    workflow_actions = called(PgQueue.workflow_actions)
    workflow_of = called(PgQueue.workflow_of)
    draw_workflow = called(PgQueue.draw_workflow)
    read_graph = called(PgQueue.read_graph)
    fold_workflow = called(PgQueue.fold_workflow)
    pause_workflow = called(PgQueue.pause_workflow)
    resume_workflow = called(PgQueue.resume_workflow)

    # Dead letters

    dead_letters = called(PgQueue.dead_letters)
    owned_letters = called(PgQueue.owned_letters)
    dead_letter = called(PgQueue.dead_letter)
    dead_groups = called(PgQueue.dead_groups)
    oldest_dead_letter_age = called(PgQueue.oldest_dead_letter_age)
    actions = called(PgQueue.actions)
    redrive = called(PgQueue.redrive)
    discard = called(PgQueue.discard)
    reprioritise = called(PgQueue.reprioritise)
    run_now = called(PgQueue.run_now)
    discard_many = called(PgQueue.discard_many)

    # Figures and settings

    measure = called(PgQueue.measure)
    list_workers = called(PgQueue.list_workers)
    history = called(PgQueue.history)
    measure_task = called(PgQueue.measure_task)
    pause = called(PgQueue.pause)
    resume = called(PgQueue.resume)
    configure_task = called(PgQueue.configure_task)
    remove_queue = called(PgQueue.remove_queue)
    settings = called(PgQueue.settings)
    explain_wait = called(PgQueue.explain_wait)
    schedule_of = called(PgQueue.schedule_of)
    limits = called(PgQueue.limits)
    get_limit = called(PgQueue.get_limit)
    limit_keys = called(PgQueue.limit_keys)
    busy_limit_keys = called(PgQueue.busy_limit_keys)
    limit_jobs = called(PgQueue.limit_jobs)
    set_limit = called(PgQueue.set_limit)
    set_weight = called(PgQueue.set_weight)
    weights = called(PgQueue.weights)
    reset_limit = called(PgQueue.reset_limit)
    limiters = called(PgQueue.limiters)
    ordered_groups = called(PgQueue.ordered_groups)
    stopped_keys = called(PgQueue.stopped_keys)
    resume_key = called(PgQueue.resume_key)
    set_ordered = called(PgQueue.set_ordered)
    web_secret = called(PgQueue.web_secret)
    index_owners = called(PgQueue.index_owners)
    has_owner_index = called(PgQueue.has_owner_index)
    end_web_session = called(PgQueue.end_web_session)
    is_web_session_ended = called(PgQueue.is_web_session_ended)

    # Workers

    worker = entered(PgQueue.worker, BlockingWorker)

    # The database

    check = called(PgQueue.check)
    now = called(PgQueue.now)
    write_schedules = called(PgQueue.write_schedules)

    def migrate(self, *, lock_limit: float | None = 60.0) -> Sequence[Migration]:
        """Bring the schema up to date, inside the block or before it. See `PgQueue.migrate`."""
        return self._call_closed(lambda: self.behind.migrate(lock_limit=lock_limit))

    def pending_migrations(self) -> str:
        """Return the SQL that `migrate` would run, inside the block or before it."""
        sql: str = self._call_closed(self.behind.pending_migrations)
        return sql

    def _call_closed(self, call: Callable[[], Awaitable[T]]) -> T:
        if self.loop.portal is not None:
            return self.loop.call(call)
        with start_blocking_portal() as portal:
            return portal.call(call)
