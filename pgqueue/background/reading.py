"""Reads jobs by their ids. Calls made at the same time share a statement.

A statement about one job costs nearly as much as one about ten. No call waits for other calls to come, but
calls that are made while all readers are busy share the next statement. It is sent after all of them were
made, so that each of them sees what was committed by then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio

from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.database.pool import Database
from pgqueue.errors import DatabaseUnavailableError, NotOpenError
from pgqueue.store import Store

if TYPE_CHECKING:
    from asyncpg import Record

READERS: Final = 2
"""Concurrent statements. Two, so that a large result or a hung connection does not stop all reads."""
MOST: Final = 100
"""Maximum number of jobs in one statement, because each may have a result of a megabyte."""


class Reads:
    """Reads the jobs that callers in one process ask for."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._asked: deque[_Question] = deque()
        self._wakeup = asyncio.Event()

    async def read(self, job_id: UUID) -> Record | None:
        """Return a job as it is stored, or None if there is no such job.

        Raises NotOpenError if the PgQueue is closed meanwhile, and the errors of the database.
        """
        question = _Question(job_id, asyncio.get_running_loop().create_future())
        self._asked.append(question)
        self._wakeup.set()
        answer = await question.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self) -> None:
        """Answer calls until cancelled."""
        # An event belongs to the event loop that first awaited it, and this may be another one.
        self._wakeup = asyncio.Event()
        try:
            async with anyio.create_task_group() as group:
                for _ in range(READERS):
                    group.start_soon(self._run_reader)
        finally:
            _refuse(self._asked)

    async def _run_reader(self) -> None:
        while True:
            while not self._asked:
                self._wakeup.clear()
                await self._wakeup.wait()
            asked = [self._asked.popleft() for _ in range(min(MOST, len(self._asked)))]
            try:
                await self._answer(asked)
            finally:
                # Only those that a cancellation has left without an answer.
                _refuse(asked)

    async def _answer(self, asked: list[_Question]) -> None:
        try:
            async with self._database.acquire() as connection:
                rows = await self._store.read_job_rows(connection, {each.job_id for each in asked})
        except (DatabaseUnavailableError, *CONNECTION_ERRORS) as error:
            for each in asked:
                each.settle(error)
        except Exception as error:
            if len(asked) == 1:
                asked[0].settle(error)
                return
            # An invalid id, or a row that cannot be read, must not fail the other calls.
            for each in asked:
                await self._answer([each])
        else:
            for each in asked:
                each.settle(rows.get(each.job_id))


@dataclass(frozen=True, slots=True)
class _Question:
    """A call that waits for a job."""

    job_id: UUID
    answer: asyncio.Future[Record | Exception | None]

    def settle(self, answer: Record | Exception | None) -> None:
        """Answer, unless the call was already answered or has been cancelled."""
        if not self.answer.done():
            self.answer.set_result(answer)


def _refuse(asked: Iterable[_Question]) -> None:
    for each in asked:
        each.settle(NotOpenError("this PgQueue was closed while a job was being read"))
