"""The handles and the builder of a BlockingPgQueue."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from pgqueue.blocking.calling import FACADES, Facade, Loop, called, iterated, told
from pgqueue.client.operation_handle import BulkHandle, OperationHandle, RedriveHandle
from pgqueue.client.received import ReceivedJob
from pgqueue.client.schedules import Schedules
from pgqueue.model.bulk import BulkProgress
from pgqueue.model.dead_letters import RedriveProgress
from pgqueue.model.operation import OperationProgress
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.workflow_handle import WorkflowHandle
from pgqueue.worker.worker import Worker
from pgqueue.workflows.dag import WorkflowBuilder

if TYPE_CHECKING:
    from pgqueue.database.callers import BlockingConnection

R_co = TypeVar("R_co", covariant=True)
P = TypeVar("P", bound=OperationProgress)


class BlockingJobHandle(Facade, Generic[R_co]):
    """A handle of an enqueued job: JobHandle without `await`."""

    __slots__ = ("created", "id", "replaced")

    def __init__(self, loop: Loop, handle: JobHandle[R_co]) -> None:
        super().__init__(loop, handle)
        self.id = handle.id
        self.created = handle.created
        """False: the job with this id existed already."""
        self.replaced = handle.replaced
        """True: the job existed, and was given this call's arguments and options."""

    refresh = called(JobHandle.refresh)
    status = called(JobHandle.status)
    watch = iterated(JobHandle.watch)
    cancel = called(JobHandle.cancel)

    def result(self, timeout: float | None = None) -> R_co:
        """Wait until the job ends, at most *timeout* seconds, and return the result of its handler.

        Raises what `JobHandle.result` raises.
        """
        return cast(R_co, self.loop.call(lambda: self.behind.result(timeout)))

    def __repr__(self) -> str:
        return f"<BlockingJobHandle {self.id}>"


class BlockingWorkflowHandle(Facade, Generic[R_co]):
    """A handle of an enqueued workflow: WorkflowHandle without `await`."""

    __slots__ = ("id", "workflow_id")

    def __init__(self, loop: Loop, handle: WorkflowHandle[R_co]) -> None:
        super().__init__(loop, handle)
        self.workflow_id = handle.workflow_id
        """The id of the whole."""
        self.id = handle.id
        """The id of the last job, whose result is the workflow's; of a group's end, which is no job."""

    refresh = called(WorkflowHandle.refresh)
    status = called(WorkflowHandle.status)
    counts = called(WorkflowHandle.counts)
    results = iterated(WorkflowHandle.results)
    join = called(WorkflowHandle.join)
    cancel = called(WorkflowHandle.cancel)
    retry_failed = called(WorkflowHandle.retry_failed)
    graph = called(WorkflowHandle.graph)

    def result(self, timeout: float | None = None) -> R_co:
        """Wait until the workflow ends, at most *timeout* seconds, and return what it comes to.

        Raises what `WorkflowHandle.result` raises.
        """
        return cast(R_co, self.loop.call(lambda: self.behind.result(timeout)))

    def __repr__(self) -> str:
        return f"<BlockingWorkflowHandle {self.workflow_id}>"


class BlockingOperationHandle(Facade, Generic[P]):
    """An operation on many jobs: OperationHandle without `await`."""

    __slots__ = ("id",)

    def __init__(self, loop: Loop, handle: OperationHandle[P]) -> None:
        super().__init__(loop, handle)
        self.id = handle.id

    cancel = called(OperationHandle.cancel)

    if TYPE_CHECKING:

        def progress(self) -> P:
            """Read its progress. See `OperationHandle.progress`."""

        def wait(self, timeout: float | None = None) -> P:
            """Wait until it has ended. See `OperationHandle.wait`."""
    else:
        progress = called(OperationHandle.progress)
        wait = called(OperationHandle.wait)


class BlockingRedriveHandle(BlockingOperationHandle[RedriveProgress]):
    """A mass redrive: RedriveHandle without `await`."""

    __slots__ = ()


class BlockingBulkHandle(BlockingOperationHandle[BulkProgress]):
    """A bulk operation: BulkHandle without `await`."""

    __slots__ = ()


class BlockingWorker(Facade):
    """A worker in the event loop beside the program: Worker without `await`."""

    __slots__ = ("name", "slots")

    def __init__(self, loop: Loop, worker: Worker) -> None:
        super().__init__(loop, worker)
        self.name = worker.name
        self.slots = worker.slots
        """The number of handlers that can run at once."""

    stop = told(Worker.stop)
    release = told(Worker.release)
    retire = told(Worker.retire)
    run_twice = told(Worker.run_twice)
    wait_ready = called(Worker.wait_ready)
    wait_stopped = called(Worker.wait_stopped)

    @property
    def running(self) -> int:
        """The number of handlers that are running."""
        return cast(Worker, self.behind).running

    @property
    def is_alive(self) -> bool:
        """Whether the worker was started and has not ended."""
        return cast(Worker, self.behind).is_alive


class BlockingSchedules(Facade):
    """Schedules at run time: Schedules without `await`."""

    __slots__ = ()

    create = called(Schedules.create)
    edit = called(Schedules.edit)
    pause = called(Schedules.pause)
    resume = called(Schedules.resume)
    run_now = called(Schedules.run_now)
    delete = called(Schedules.delete)
    get = called(Schedules.get)
    list = called(Schedules.list)
    history = called(Schedules.history)
    measure = called(Schedules.measure)


class BlockingReceivedJob(Facade):
    """A received job: ReceivedJob without `await`. Its block is a plain `with`."""

    __slots__ = (
        "args",
        "attempt",
        "enqueued_at",
        "headers",
        "id",
        "key",
        "kwargs",
        "priority",
        "queue",
        "receipt",
        "receive_count",
        "tags",
        "task",
    )

    def __init__(self, loop: Loop, job: ReceivedJob) -> None:
        super().__init__(loop, job)
        self.id, self.receipt, self.task, self.queue = job.id, job.receipt, job.task, job.queue
        self.args, self.kwargs = job.args, job.kwargs
        self.attempt, self.receive_count, self.enqueued_at = job.attempt, job.receive_count, job.enqueued_at
        self.tags, self.headers, self.key, self.priority = job.tags, job.headers, job.key, job.priority

    @property
    def held_until(self) -> datetime:
        """When it returns to its queue, by the database's clock, unless it has ended or was extended."""
        until: datetime = self.behind.held_until
        return until

    if TYPE_CHECKING:

        def ack(
            self,
            result: Any = None,
            *,
            connection: BlockingConnection | None = None,
            autocommit: bool = False,
        ) -> None:
            """Record that the job has succeeded. See `ReceivedJob.ack`."""
    else:
        ack = called(ReceivedJob.ack)

    nack = called(ReceivedJob.nack)
    release = called(ReceivedJob.release)
    extend = called(ReceivedJob.extend)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        job: ReceivedJob = self.behind
        return self.loop.call(lambda: job.__aexit__(kind, error, trace))

    def __repr__(self) -> str:
        return f"<BlockingReceivedJob {self.id}>"


class BlockingWorkflowBuilder(Facade):
    """Collects the nodes of one workflow: WorkflowBuilder without `await`."""

    __slots__ = ("add", "name")

    def __init__(self, loop: Loop, builder: WorkflowBuilder) -> None:
        super().__init__(loop, builder)
        self.name = builder.name
        self.add = builder.add
        """See `WorkflowBuilder.add`."""

    if TYPE_CHECKING:

        def enqueue(
            self, *, connection: BlockingConnection | None = None, autocommit: bool = False
        ) -> BlockingWorkflowHandle[Any]:
            """Enqueue the workflow: all of it or nothing. See `WorkflowBuilder.enqueue`."""
    else:
        enqueue = called(WorkflowBuilder.enqueue)


FACADES.update(
    {
        BulkHandle: BlockingBulkHandle,
        JobHandle: BlockingJobHandle,
        ReceivedJob: BlockingReceivedJob,
        RedriveHandle: BlockingRedriveHandle,
        WorkflowBuilder: BlockingWorkflowBuilder,
        WorkflowHandle: BlockingWorkflowHandle,
    }
)
