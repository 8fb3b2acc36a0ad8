"""A mass redrive, as its caller holds it."""

from __future__ import annotations

from uuid import UUID

import anyio

from pgqueue.database.pool import Database
from pgqueue.errors import (
    JobNotFoundError,
    ResultTimeoutError,
)
from pgqueue.model.checks import patience
from pgqueue.model.dead_letters import (
    RedriveProgress,
)
from pgqueue.store import Store

PROGRESS_PAUSE = 0.5
"""Seconds between two reads of a mass redrive while waiting for it."""


class RedriveHandle:
    """A mass redrive. Workers do it in the background; it does not depend on this handle."""

    __slots__ = ("_database", "_store", "id")

    def __init__(self, database: Database, store: Store, redrive_id: UUID) -> None:
        self._database = database
        self._store = store
        self.id = redrive_id

    async def progress(self) -> RedriveProgress:
        """Read its progress. Raises JobNotFoundError if there is no mass redrive with this id."""
        async with self._database.acquire() as connection:
            progress = await self._store.read_redrive(connection, self.id)
        if progress is None:
            raise JobNotFoundError(self.id)
        return progress

    async def cancel(self) -> bool:
        """Stop it; False: it had already ended. Jobs that are already pending again stay pending."""
        async with self._database.acquire() as connection:
            return await self._store.cancel_redrive(connection, self.id)

    async def wait(self, timeout: float | None = None) -> RedriveProgress:  # noqa: ASYNC109  # the field's word
        """Wait until it has ended; at least one worker must be running.

        *timeout* is in seconds. Raises ResultTimeoutError (the redrive then continues), InvalidOptionError.
        """
        timeout = patience("wait: timeout", timeout)
        try:
            with anyio.fail_after(timeout):
                while not (progress := await self.progress()).is_over:  # noqa: ASYNC110  # nothing announces its end
                    await anyio.sleep(PROGRESS_PAUSE)
        except TimeoutError as error:
            raise ResultTimeoutError(
                f"mass redrive {self.id} did not finish within {timeout:g} s; it continues while a worker is "
                "running. Wait again, or cancel it"
            ) from error
        return progress

    def __repr__(self) -> str:
        return f"<RedriveHandle {self.id}>"
