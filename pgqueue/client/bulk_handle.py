"""A bulk operation, as its caller holds it."""

from __future__ import annotations

from uuid import UUID

import anyio

from pgqueue.database.pool import Database
from pgqueue.errors import JobNotFoundError, ResultTimeoutError
from pgqueue.model.bulk import BulkProgress
from pgqueue.model.checks import patience
from pgqueue.store import Store

PROGRESS_PAUSE = 0.5
"""Seconds between two reads of a bulk operation while waiting for it."""


class BulkHandle:
    """A bulk operation. Workers do it in the background; it does not depend on this handle."""

    __slots__ = ("_database", "_store", "id")

    def __init__(self, database: Database, store: Store, bulk_id: UUID) -> None:
        self._database = database
        self._store = store
        self.id = bulk_id

    async def progress(self) -> BulkProgress:
        """Read its progress. Raises JobNotFoundError if there is no bulk operation with this id."""
        async with self._database.acquire() as connection:
            progress = await self._store.read_bulk(connection, self.id)
        if progress is None:
            raise JobNotFoundError(self.id)
        return progress

    async def cancel(self) -> bool:
        """Stop it; False: it had already ended. What was changed stays changed."""
        async with self._database.acquire() as connection:
            return await self._store.cancel_bulk(connection, self.id)

    async def wait(self, timeout: float | None = None) -> BulkProgress:  # noqa: ASYNC109  # the field's word
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
                f"bulk operation {self.id} did not finish within {timeout:g} s; it continues while a "
                "worker is running. Wait again, or cancel it"
            ) from error
        return progress

    def __repr__(self) -> str:
        return f"<BulkHandle {self.id}>"
