"""Writes new jobs for a role that may not write the tables: a function of their owner does.

It settles idempotency keys in the database, where the role cannot choose what to change. What another role
has made is not changed: a call that would replace it is answered as by `on_conflict="return"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.enqueueing.batch import CHUNK, CHUNK_LENGTH, Batch, Call
from pgqueue.enqueueing.calls import Intake
from pgqueue.enqueueing.idempotency import KeyedCall, settled
from pgqueue.enqueueing.writer import Writer
from pgqueue.store import Hold, Template

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class SubmittingWriter(Writer):
    """Writes the jobs of one PgQueue, whose role may only enqueue."""

    async def write_one(self, call: Call, job_id: UUID, document: str) -> None:
        """Write one job that can run now. Raises DatabaseUnavailableError, MissingPrivilegeError."""
        batch = Batch()
        batch.add(call, job_id, document)
        await self.lanes.learn(batch.lanes)
        await self._write_own(batch, None, None)

    async def _write_on(
        self, connection: Connection, batch: Batch, intake: Intake | None, key_wait: float | None
    ) -> None:
        if intake is not None and not intake.is_whole:
            intake.take_all()
            await self.lanes.learn(batch.lanes)
        await self._write_transaction(connection, batch, key_wait)

    async def _write_parts(self, connection: Connection, batch: Batch) -> list[int]:
        if batch.chosen or (batch.keyed and batch.is_unsure):
            await batch.find_existing(self._store, connection)
        keyed = {call.job_id: call for call in batch.keyed.values() if call.job_id not in batch.found}
        holds = {job_id: Hold(call.row(job_id), call.rule.on_conflict) for job_id, call in keyed.items()}
        batch.due.clear()
        rows = []
        for part in _parts(batch, keyed):
            rows += await self._store.submit(connection, part, holds, batch.gates)
        batch.due.update(row.id for row in rows if row.outcome == "due")
        if keyed:
            batch.settlement = settled(keyed, rows)
        timed = batch.timed
        due = {number for job_id, number in zip(timed.ids, timed.numbers, strict=True) if job_id in batch.due}
        lanes = self._lanes_of(batch.ready.templates) if batch.ready.ids else set()
        return sorted(lanes | self._lanes_of(timed.templates[number - 1] for number in due))


def _parts(batch: Batch, keyed: Mapping[UUID, KeyedCall]) -> Iterator[list[tuple[UUID, str, Template]]]:
    """Split the jobs of *batch* into parts that one statement takes."""
    calls = [
        (job_id, document, jobs.templates[number - 1])
        for jobs in (batch.ready, batch.timed)
        for job_id, document, number in zip(jobs.ids, jobs.documents, jobs.numbers, strict=True)
    ]
    if len(keyed) > 1:
        # All take keys in this order, so of two batches that share keys, one waits for the other.
        calls.sort(key=lambda call: keyed[call[0]].id.bytes if call[0] in keyed else b"")
    start, length = 0, 0
    for end, (_, document, _) in enumerate(calls):
        if end > start and (end - start == CHUNK or length + len(document) > CHUNK_LENGTH):
            yield calls[start:end]
            start, length = end, 0
        length += len(document)
    if calls:
        yield calls[start:]
