"""An operation on many jobs, as its caller holds it: a bulk operation or a mass redrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar
from uuid import UUID

import anyio

from pgqueue.database.pool import Database
from pgqueue.errors import JobNotFoundError, ResultTimeoutError
from pgqueue.model.bulk import BulkProgress
from pgqueue.model.checks import patience
from pgqueue.model.dead_letters import RedriveProgress
from pgqueue.model.operation import OperationProgress
from pgqueue.store import Store

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

P = TypeVar("P", bound=OperationProgress)

PROGRESS_PAUSE = 0.5
"""Seconds between two reads of an operation's progress while waiting for its end."""


class OperationHandle(Generic[P]):
    """An operation on many jobs. Workers do it in the background; it does not depend on this handle."""

    __slots__ = ("_database", "_store", "id")

    what: ClassVar[str]
    """What such an operation is called."""

    def __init__(self, database: Database, store: Store, operation_id: UUID) -> None:
        self._database = database
        self._store = store
        self.id = operation_id

    async def progress(self) -> P:
        """Read its progress. Raises JobNotFoundError if there is no such operation with this id."""
        async with self._database.acquire() as connection:
            progress = await self._read(connection)
        if progress is None:
            raise JobNotFoundError(self.id)
        return progress

    async def cancel(self) -> bool:
        """Stop it; False: it had already ended. What it has done to jobs stays done."""
        async with self._database.acquire() as connection:
            return await self._stop(connection)

    async def wait(self, timeout: float | None = None) -> P:  # noqa: ASYNC109  # the field's word
        """Wait until it has ended; at least one worker must be running.

        *timeout* is in seconds. Raises ResultTimeoutError (the operation then continues), InvalidOptionError.
        """
        timeout = patience("wait: timeout", timeout)
        try:
            with anyio.fail_after(timeout):
                while not (progress := await self.progress()).is_over:  # noqa: ASYNC110  # nothing announces its end
                    await anyio.sleep(PROGRESS_PAUSE)
        except TimeoutError as error:
            raise ResultTimeoutError(
                f"{self.what} {self.id} did not finish within {timeout:g} s; it continues while a worker is "
                "running. Wait again, or cancel it"
            ) from error
        return progress

    async def _read(self, connection: Connection) -> P | None:
        raise NotImplementedError

    async def _stop(self, connection: Connection) -> bool:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


class BulkHandle(OperationHandle[BulkProgress]):
    """A bulk operation. Workers do it in the background; it does not depend on this handle."""

    __slots__ = ()

    what = "bulk operation"

    async def _read(self, connection: Connection) -> BulkProgress | None:
        return await self._store.read_bulk(connection, self.id)

    async def _stop(self, connection: Connection) -> bool:
        return await self._store.cancel_bulk(connection, self.id)


class RedriveHandle(OperationHandle[RedriveProgress]):
    """A mass redrive. Workers do it in the background; it does not depend on this handle."""

    __slots__ = ()

    what = "mass redrive"

    async def _read(self, connection: Connection) -> RedriveProgress | None:
        return await self._store.read_redrive(connection, self.id)

    async def _stop(self, connection: Connection) -> bool:
        return await self._store.cancel_redrive(connection, self.id)
