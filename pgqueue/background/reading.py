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

from pgqueue.background.loop import Loop
from pgqueue.background.row_errors import is_of_a_row, reading_error
from pgqueue.database.pool import Database
from pgqueue.own_tasks import owning_tasks, was_asked
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
        self.loop = Loop("reading")
        self._asked: deque[_Question] = deque()
        self._wakeup = asyncio.Event()

    async def read(self, job_id: UUID) -> Record | None:
        """Return a job as it is stored, or None if there is no such job.

        Raises NotOpenError if the PgQueue is closed meanwhile, BackgroundError if nobody reads any more,
        CodecError if the row cannot be read, and the errors of the database.
        """
        self.loop.check()
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
            with self.loop.lifetime():
                async with anyio.create_task_group() as group:
                    with owning_tasks():
                        for _ in range(READERS):
                            group.start_soon(self.loop.outlive, self._run_reader)
        finally:
            self._refuse(self._asked)
            self._asked.clear()

    async def _run_reader(self) -> None:
        while True:
            while not self._asked:
                self._wakeup.clear()
                await self._wakeup.wait()
            asked = [self._asked.popleft() for _ in range(min(MOST, len(self._asked)))]
            try:
                with self.loop.step():
                    await self._answer(asked)
            finally:
                # Only those that a cancellation has left without an answer.
                self._refuse(asked)

    async def _answer(self, asked: list[_Question]) -> None:
        try:
            async with self._database.acquire() as connection:
                rows = await self._store.read_job_rows(connection, {each.job_id for each in asked})
        except asyncio.CancelledError:
            if was_asked():
                raise
            # Something that it uses was cancelled.
            await self._answer(asked)
        except Exception as error:
            if not is_of_a_row(error):
                for each in asked:
                    each.settle(error)
                return
            if len(asked) == 1:
                asked[0].settle(reading_error(asked[0].job_id, error))
                return
            # An invalid id, or a row that cannot be read, must not fail the other calls.
            for each in asked:
                await self._answer([each])
        else:
            for each in asked:
                each.settle(rows.get(each.job_id))

    def _refuse(self, asked: Iterable[_Question]) -> None:
        for each in asked:
            each.settle(self.loop.end_error("a job was being read"))


@dataclass(frozen=True, slots=True)
class _Question:
    """A call that waits for a job."""

    job_id: UUID
    answer: asyncio.Future[Record | Exception | None]

    def settle(self, answer: Record | Exception | None) -> None:
        """Answer, unless the call was already answered or has been cancelled."""
        if not self.answer.done():
            self.answer.set_result(answer)
