"""What a handler uses of the database through its context, and what becomes of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgqueue.background.notifications import Signals
from pgqueue.database.patience import persist
from pgqueue.database.pool import Database
from pgqueue.errors import ContextError, DatabaseUnavailableError, LeaseLostError
from pgqueue.model.outcomes import Suspended
from pgqueue.retry.control import Suspend
from pgqueue.store import Input, InputResults, Store
from pgqueue.tasks.canvas import Canvas
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.limiters import Allowed
from pgqueue.tasks.workflow_handle import ChildHandle
from pgqueue.worker.services.children import Children, ChildWorkflows
from pgqueue.worker.services.lifespan import Lifespan
from pgqueue.worker.services.limiters import HeldLimiters
from pgqueue.worker.services.progress import ProgressWriter
from pgqueue.worker.services.steps import Steps
from pgqueue.worker.services.transaction import JobTransaction
from pgqueue.worker.services.waits import Waits

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


@dataclass(frozen=True, slots=True)
class Scopes:
    """What the scopes of one worker share. Makes them."""

    database: Database
    store: Store
    codec: Codec | None
    result_limit: int
    progress: ProgressWriter
    worker: str
    workflows: ChildWorkflows | None = None
    """What starts child workflows. None: in a child process, where handlers wait for nothing."""
    signals: Signals | None = None
    """What announces that a limiter was left. None: in a child process, which looks instead."""
    lifespan: Lifespan | None = None
    """What has the state of the worker."""

    def open(self, job_id: UUID, lease_id: UUID, attempt: int, arguments: str) -> JobScope:
        """Make the scope of an attempt. Does not use the database."""
        return JobScope(self, job_id, lease_id, attempt, arguments)

    async def read_inputs(self, node_id: UUID, after: int, limit: int) -> Sequence[Input]:
        """Return what is before a node of a workflow. Raises DatabaseUnavailableError."""
        return await self.database.repeat(
            lambda connection: self.store.read_inputs(connection, node_id, after, limit)
        )

    async def read_results(self, node_id: UUID, after: int, limit: int, *, succeeded: bool) -> InputResults:
        """Return the results of what is before it, of all or *succeeded* ones. Raises the same."""
        return await self.database.repeat(
            lambda connection: self.store.read_results(connection, node_id, after, limit, succeeded=succeeded)
        )

    async def secure_claim(self, job_id: UUID, lease_id: UUID) -> bool:
        """Have the claim of a job outlive a crash of the server; False: the claim is gone already."""

        async def send() -> bool:
            async with self.database.acquire() as connection:
                return await self.store.secure_claim(connection, job_id, lease_id)

        return await persist(f"job {job_id}: securing its claim", send)


class JobScope:
    """One attempt's JobServices. Made when its handler uses one of them, closed when the attempt is over."""

    def __init__(self, shared: Scopes, job_id: UUID, lease_id: UUID, attempt: int, arguments: str) -> None:
        self._shared = shared
        self._job_id = job_id
        self._lease_id = lease_id
        self._attempt = attempt
        self._arguments = arguments
        self.suspended: Suspended | None = None
        """How the job is to wait, once its handler was told; None: it is not to."""
        self._steps: Steps | None = None
        self._waits: Waits | None = None
        self._children: Children | None = None
        self._limiters: HeldLimiters | None = None
        self._transaction: JobTransaction | None = None
        self._has_reported = False
        self._is_closed = False

    # For the handler

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """See JobContext.transaction."""
        self._check_open()
        if self._transaction is None:
            shared = self._shared
            self._transaction = JobTransaction(
                shared.database,
                shared.store,
                worker=shared.worker,
                job_id=self._job_id,
                lease_id=self._lease_id,
                attempt=self._attempt,
            )
        return self._transaction.block()

    async def step(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See JobContext.step."""
        self._check_open()
        return await self._used_steps().run(name, fn, args, kwargs)

    async def wait(
        self,
        name: str,
        event: str | None,
        timeout: float | None,  # noqa: ASYNC109  # the job's, and not this call's
    ) -> str | None:
        """Return the JSON of the event that wait *name* is for, or None if its time is over.

        Raises Suspend while it goes on.
        """
        self._check_open()
        self._check_waits(name)
        shared = self._shared
        if self._waits is None:
            self._waits = Waits(
                shared.database,
                shared.store,
                self._used_steps(),
                job_id=self._job_id,
                lease_id=self._lease_id,
            )
        settled = await self._waits.settle(name, event, timeout)
        if isinstance(settled, Suspended):
            self.suspended = settled
            raise Suspend(settled)
        return settled if settled is None or shared.codec is None else shared.codec.decode(settled)

    async def start(self, name: str, canvas: Canvas[Any], *, is_detached: bool) -> ChildHandle[Any]:
        """See JobContext.start."""
        self._check_open()
        return await self._used_children().start(name, canvas, is_detached=is_detached)

    async def add(self, name: str, members: Sequence[Canvas[Any]]) -> None:
        """See JobContext.add."""
        self._check_open()
        await self._used_children().add(name, members)

    async def join(self, children: Sequence[ChildHandle[Any]]) -> list[Any]:
        """Return what child workflows came to. Raises Suspend while one of them goes on."""
        self._check_open()
        self._check_waits(children[0].name)
        children_of = self._used_children()
        settled = await persist(
            f"job {self._job_id}: asking for its workflows",
            lambda: children_of.settle(children),
            errors=(DatabaseUnavailableError,),
        )
        if isinstance(settled, Suspended):
            self.suspended = settled
            raise Suspend(settled)
        return settled

    async def enter(self, allowed: Allowed, wait: float | None) -> tuple[UUID | None, float | None]:
        """Return what the attempt holds of a limiter now, or None and when there may be room."""
        self._check_open()
        return await self._used_limiters().enter(allowed, wait)

    async def leave(self, hold: UUID) -> None:
        """Give back what it holds of a limiter. Raises nothing."""
        await self._used_limiters().leave(hold)

    def _used_limiters(self) -> HeldLimiters:
        if self._limiters is None:
            shared = self._shared
            self._limiters = HeldLimiters(
                shared.database,
                shared.store,
                shared.signals,
                job_id=self._job_id,
                lease_id=self._lease_id,
                check_open=self._check_open,
            )
        return self._limiters

    def _used_children(self) -> Children:
        if self._children is None:
            shared = self._shared
            assert shared.workflows is not None
            self._children = Children(
                shared.database,
                shared.store,
                self._used_steps(),
                shared.workflows,
                job_id=self._job_id,
                lease_id=self._lease_id,
            )
        return self._children

    def _check_waits(self, name: str) -> None:
        """Raise ContextError if there are writes that wait for the handler to return."""
        if self.has_transaction:
            raise ContextError(
                f"job {self._job_id}: wait {name!r} came after ctx.transaction(), whose writes are committed "
                "when the handler returns; open transactions behind the last wait"
            )

    def _used_steps(self) -> Steps:
        if self._steps is None:
            shared = self._shared
            self._steps = Steps(
                shared.database,
                shared.store,
                codec=shared.codec,
                result_limit=shared.result_limit,
                job_id=self._job_id,
                lease_id=self._lease_id,
                arguments=self._arguments,
            )
        return self._steps

    def progress(self, report: str) -> None:
        """See JobContext.progress."""
        self._check_open()
        self._has_reported = True
        self._shared.progress.report(self._job_id, self._lease_id, report)

    def _check_open(self) -> None:
        if self._is_closed:
            raise LeaseLostError(
                f"job {self._job_id}: this attempt is over, and another one may be running; nothing that it "
                "writes is kept"
            )
        if self.suspended is not None:
            # Its handler took it for an error, and goes on.
            raise Suspend(self.suspended)

    # For the slots, once the handler has ended

    @property
    def has_transaction(self) -> bool:
        """Whether there are writes that are neither committed nor rolled back."""
        return self._transaction is not None and self._transaction.is_open

    async def flush(self) -> None:
        """Write the last report of progress: once the job has ended, it would be fenced off."""
        if self._has_reported:
            await self._shared.progress.flush(self._job_id)

    async def commit(self, result: str | None, *, is_current: Callable[[], bool]) -> bool:
        """Commit the handler's writes and the job's success together. See JobTransaction.commit."""
        assert self._transaction is not None
        return await self._transaction.commit(result, is_current=is_current)

    async def roll_back(self) -> None:
        """Roll back what the handler wrote. Never raises."""
        if self._transaction is not None:
            await self._transaction.roll_back()

    def close(self) -> None:
        """Let nothing more of this attempt into the database: it is over, even if its handler goes on."""
        self._is_closed = True
        if self._has_reported:
            self._shared.progress.drop(self._job_id)
        if self._transaction is not None:
            self._transaction.terminate()
