"""What a handler reaches in the database by its context, and what becomes of it when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgqueue.database.pool import Database
from pgqueue.errors import LeaseLostError
from pgqueue.store import Store
from pgqueue.tasks.codec import Codec
from pgqueue.worker.services.progress import ProgressWriter
from pgqueue.worker.services.steps import Steps
from pgqueue.worker.services.transaction import JobTransaction

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


@dataclass(frozen=True, slots=True)
class Scopes:
    """What the scopes of one worker share; makes them."""

    database: Database
    store: Store
    codec: Codec | None
    result_limit: int
    progress: ProgressWriter
    worker: str

    def open(self, job_id: UUID, lease_id: UUID, attempt: int) -> JobScope:
        """Make the scope of an attempt. Asks nobody anything."""
        return JobScope(self, job_id, lease_id, attempt)


class JobScope:
    """One attempt's JobServices. Made when its handler asks for one of them, and closed when it is over."""

    def __init__(self, shared: Scopes, job_id: UUID, lease_id: UUID, attempt: int) -> None:
        self._shared = shared
        self._job_id = job_id
        self._lease_id = lease_id
        self._attempt = attempt
        self._steps: Steps | None = None
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
        if self._steps is None:
            shared = self._shared
            self._steps = Steps(
                shared.database,
                shared.store,
                codec=shared.codec,
                result_limit=shared.result_limit,
                job_id=self._job_id,
                lease_id=self._lease_id,
            )
        return await self._steps.run(name, fn, args, kwargs)

    def progress(self, report: str) -> None:
        """See JobContext.progress."""
        self._check_open()
        self._has_reported = True
        self._shared.progress.report(self._job_id, self._lease_id, report)

    def _check_open(self) -> None:
        if self._is_closed:
            raise LeaseLostError(
                f"job {self._job_id}: this attempt is over, and another one may be running: "
                "nothing of it is kept any more"
            )

    # For whoever runs the handler, once it has ended

    @property
    def has_transaction(self) -> bool:
        """Whether there are writes that are neither committed nor rolled back."""
        return self._transaction is not None and self._transaction.is_open

    async def flush(self) -> None:
        """Have the last report of progress written: once the job has ended, it would be fenced off."""
        if self._has_reported:
            await self._shared.progress.flush(self._job_id)

    async def commit(self, result: str | None, *, is_current: Callable[[], bool]) -> bool:
        """Commit the handler's writes and the job's success together. See JobTransaction.commit."""
        assert self._transaction is not None
        return await self._transaction.commit(result, is_current=is_current)

    async def roll_back(self) -> None:
        """Take back what the handler wrote. Never raises."""
        if self._transaction is not None:
            await self._transaction.roll_back()

    def close(self) -> None:
        """Let nothing more of this attempt through: it is over, even if its handler goes on."""
        self._is_closed = True
        if self._has_reported:
            self._shared.progress.drop(self._job_id)
        if self._transaction is not None:
            self._transaction.terminate()
