"""Tasks, signatures and job handles: what a caller holds."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import UUID

import anyio

from pgqueue.context import JobContext
from pgqueue.errors import JobCancelled, JobExpired, JobFailed, ResultTimeoutError
from pgqueue.jobs import Job, JobStatus
from pgqueue.options import NO_OPTIONS, CallOptions, Options, read_options
from pgqueue.registry import TaskDefinition

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgqueue.database import Connection

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Jobs(Protocol):
    """What a handle needs of a PgQueue."""

    async def get(self, job_id: UUID) -> Job:
        """Read a job."""

    async def wait(self, job_id: UUID) -> Job:
        """Wait for a job to end."""

    def watch(self, job_id: UUID) -> AsyncGenerator[Job]:
        """Yield a job now and whenever it changes, until it is over."""

    async def cancel(self, job_id: UUID, *, reason: str | None = None) -> bool:
        """Cancel a job."""

    def decode_result(self, task: TaskDefinition | None, job: Job) -> Any:
        """Return a job's result as its task annotates it."""


class Queue(Jobs, Protocol):
    """What a task needs of a PgQueue."""

    async def enqueue(self, signature: Signature[R], *, connection: Connection | None = None) -> JobHandle[R]:
        """Enqueue one job."""


@dataclass(frozen=True, slots=True)
class Signature(Generic[R_co]):
    """A call of a task, to be enqueued later: alone, with others, or in a workflow."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Options = NO_OPTIONS
    definition: TaskDefinition | None = field(default=None, repr=False)
    """None: the task is known by name alone, and its worker validates the arguments."""


class JobHandle(Generic[R_co]):
    """A job that was enqueued."""

    __slots__ = ("_definition", "_queue", "created", "id", "replaced")

    def __init__(
        self,
        queue: Jobs,
        job_id: UUID,
        definition: TaskDefinition | None,
        *,
        created: bool = True,
        replaced: bool = False,
    ) -> None:
        self._queue = queue
        self._definition = definition
        self.id = job_id
        self.created = created
        """False: the job with this id existed already, or holds the call's idempotency key."""
        self.replaced = replaced
        """True: the job existed, had not started, and took this call's arguments and options."""

    async def refresh(self) -> Job:
        """Read the job as it is now. Raises JobNotFoundError."""
        return await self._queue.get(self.id)

    async def status(self) -> JobStatus:
        """Read where the job stands. Raises JobNotFoundError."""
        return (await self.refresh()).status

    async def result(self, timeout: float | None = None) -> R_co:  # noqa: ASYNC109  # the field's word
        """Wait until the job is over and return what its handler returned.

        *timeout* is in seconds. Raises ResultTimeoutError (the job goes on), JobFailed, JobCancelled,
        JobExpired, JobNotFoundError, CodecError.
        """
        try:
            with anyio.fail_after(timeout):
                job = await self._queue.wait(self.id)
        except TimeoutError as error:
            raise ResultTimeoutError(
                f"job {self.id} did not end within {timeout:g} s; it goes on: ask again, or cancel it"
            ) from error
        return cast(R_co, self._queue.decode_result(self._definition, job))

    def watch(self) -> AsyncGenerator[Job]:
        """Yield the job as it is now, and again whenever something about it changes, until it is over.

        Whoever is slow sees the latest state and misses those in between. Raises JobNotFoundError.
        """
        return self._queue.watch(self.id)

    async def cancel(self, *, reason: str | None = None) -> bool:
        """Cancel the job; False: it was over already.

        A job that has not started never will. A running one is cancelled at its handler's next await;
        a handler that finishes all the same has succeeded.
        """
        return await self._queue.cancel(self.id, reason=reason)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"


def raise_unless_succeeded(job: Job) -> None:
    """Raise JobFailed, JobCancelled or JobExpired for a job that ended that way."""
    match job.status:
        case JobStatus.FAILED:
            raise JobFailed(
                job.id,
                job.task,
                reason=job.reason or "failed",
                error_type=job.error.type if job.error else "",
                error_message=job.error.message if job.error else "",
            )
        case JobStatus.CANCELLED:
            raise JobCancelled(
                job.id, f"job {job.id} ({job.task}) was cancelled: {job.reason or 'no reason given'}"
            )
        case JobStatus.EXPIRED:
            raise JobExpired(
                job.id, f"job {job.id} ({job.task}) expired at {job.expires_at} without being started"
            )
        case _:
            pass


class Task(Generic[P, R]):
    """A declared task. Calling it runs the handler here and now; `enqueue` has a worker run it."""

    def __init__(
        self,
        queue: Queue,
        definition: TaskDefinition,
        options: Options = NO_OPTIONS,
        connection: Connection | None = None,
    ) -> None:
        self._queue = queue
        self._options = options
        self._connection = connection
        self.definition = definition
        functools.update_wrapper(self, definition.handler)

    @property
    def host(self) -> Queue:
        """The PgQueue that it was declared on."""
        return self._queue

    @property
    def name(self) -> str:
        """The name under which the task's jobs are stored."""
        return self.definition.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the handler itself, without a job."""
        return self.definition.handler(*args, **kwargs)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Add a job and return its handle once it is durable. Never waits for its execution.

        With `options(connection=...)` the job is part of that connection's transaction: it exists if and
        only if that commits, and no worker sees it before. Raises InvalidArgumentsError before any I/O,
        DatabaseUnavailableError.
        """
        return await self._queue.enqueue(self.s(*args, **kwargs), connection=self._connection)

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """Return this call, to be enqueued later."""
        return Signature(self.name, args, kwargs, self._options, self.definition)

    def options(self, *, connection: Connection | None = None, **options: Unpack[CallOptions]) -> Task[P, R]:
        """Return this task with other options for its jobs. Raises InvalidOptionError."""
        call = read_options(f"task {self.name!r}", options, CallOptions)
        return Task(
            self._queue,
            self.definition,
            call.over(self._options),
            connection if connection is not None else self._connection,
        )

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class Declare(Protocol):
    """The decorator that turns a function into a Task.

    A leading JobContext parameter is the worker's to fill, and not part of a call.
    """

    @overload
    def __call__(self, handler: Callable[Concatenate[JobContext, P], Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[JobContext, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, handler: Callable[..., Any], /) -> Any:
        """Declare *handler*."""
