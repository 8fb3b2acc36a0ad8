"""pgqueue for programs without asyncio: the same calls, each of which blocks until it is done.

An event loop runs in a background thread. Workers cannot be run here: they need an event loop to themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

from anyio.from_thread import BlockingPortal, start_blocking_portal

from pgqueue.app import PgQueue
from pgqueue.errors import NotOpenError
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.options.declared import CallOptions
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.signature import Signature

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class BlockingPgQueue:
    """A PgQueue to call without `await`, from any thread, inside a `with` block.

        with BlockingPgQueue(pgq) as queue:
            job = queue.enqueue(send_email.s("user@example.com"))
            print(job.result(timeout=10))

    Each method raises the errors of the PgQueue method of the same name, and NotOpenError outside the block.
    Entering the block opens the PgQueue, which must not be open already.
    """

    def __init__(self, pgq: PgQueue) -> None:
        self._pgq = pgq
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._pgq))
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, error, trace)

    def enqueue(self, signature: Signature[R]) -> BlockingJobHandle[R]:
        """Enqueue one call, and return its handle. See `Task.enqueue`."""
        return BlockingJobHandle(self, self._call(lambda: self._pgq.enqueue(signature)))

    def enqueue_many(self, signatures: Iterable[Signature[Any]]) -> list[BlockingJobHandle[Any]]:
        """Enqueue many calls, all or nothing; return their handles in the same order."""
        calls = list(signatures)
        handles = self._call(lambda: self._pgq.enqueue_many(calls))
        return [BlockingJobHandle(self, handle) for handle in handles]

    def enqueue_by_name(
        self, task: str, /, *args: Any, options: CallOptions | None = None, **kwargs: Any
    ) -> BlockingJobHandle[Any]:
        """Enqueue a task by name, without its code. The worker validates the arguments."""
        return self.enqueue(self._pgq.signature(task, *args, options=options, **kwargs))

    def signal(
        self, job_id: UUID | str, name: str, value: Any = None, *, dedup_id: str | None = None
    ) -> bool:
        """Send a job the event *name*; False: it is a duplicate. See `PgQueue.signal`."""
        return self._call(lambda: self._pgq.signal(job_id, name, value, dedup_id=dedup_id))

    def get(self, job_id: UUID | str) -> Job:
        """Return a job as it is now. Raises JobNotFoundError."""
        return self._call(lambda: self._pgq.get(job_id))

    def handle(self, job_id: UUID | str) -> BlockingJobHandle[Any]:
        """Return a handle for a job id. This does not check that the job exists."""
        return BlockingJobHandle(self, self._pgq.handle(job_id))

    def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._portal is None:
            raise NotOpenError("this BlockingPgQueue is not open: use it inside `with BlockingPgQueue(pgq):`")
        return self._portal.call(call)


class BlockingJobHandle(Generic[R_co]):
    """A handle of an enqueued job: JobHandle without `await`."""

    __slots__ = ("_handle", "_queue", "created", "id")

    def __init__(self, queue: BlockingPgQueue, handle: JobHandle[R_co]) -> None:
        self._queue = queue
        self._handle = handle
        self.id = handle.id
        self.created = handle.created
        """False: the job with this id existed already."""

    def refresh(self) -> Job:
        """Read the job as it is now. Raises JobNotFoundError."""
        return self._queue._call(self._handle.refresh)  # noqa: SLF001  # one room

    def status(self) -> JobStatus:
        """Read the status of the job. Raises JobNotFoundError."""
        return self._queue._call(self._handle.status)  # noqa: SLF001

    def result(self, timeout: float | None = None) -> R_co:
        """Wait until the job ends, at most *timeout* seconds, and return the result of its handler.

        Raises what `JobHandle.result` raises.
        """
        return self._queue._call(lambda: self._handle.result(timeout))  # noqa: SLF001

    def cancel(self, *, reason: str | None = None) -> bool:
        """Cancel the job. Return False if it had already ended. See `JobHandle.cancel`."""
        return self._queue._call(lambda: self._handle.cancel(reason=reason))  # noqa: SLF001

    def __repr__(self) -> str:
        return f"<BlockingJobHandle {self.id}>"
