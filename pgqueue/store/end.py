"""Statements that end attempts, and store their steps and progress. Each write carries the fence."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, PutAside, Retried
from pgqueue.store.base import Statements, id_list, interval, used
from pgqueue.store.values import NO_PLACE, Place, Settled, StoredStep

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection


class EndStatements(Statements):
    """Statements that end attempts, and store their steps and progress."""

    async def finish(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        ids: Sequence[UUID],
        results: Sequence[str] | None,
        settled: Settled | None = None,
    ) -> Collection[UUID]:
        """Record successes; return the ids of the recorded ones. *results*: JSON, or None to store none.

        To *settled* is added, here and below, what is to be done for jobs that wait for these. Without it,
        the upkeep finds that within a second, and no limit is held here: the transaction may go on for long.
        """
        names = list(map(str, ids))
        row = await connection.fetchrow(
            self._sql["finish"],
            lease_id,
            id_list(names),
            None if results is None else self._document(f"[{','.join(results)}]"),
            worker,
            min(names, default=None),
            max(names, default=None),
            settled is not None,
        )
        assert row is not None
        _add(settled, row)
        if row["count"] == len(ids):
            return ids
        return set(map(UUID, row["ids"] or ()))

    async def retry(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        outcomes: Sequence[Retried],
        settled: Settled | None = None,
    ) -> dict[UUID, bool]:
        """Schedule the next attempts; return for each job id whether the job was cancelled instead."""
        rows = await connection.fetch(
            self._sql["retry"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            [interval(outcome.delay) for outcome in outcomes],
            worker,
            [outcome.reason for outcome in outcomes],
            [self._error_json(outcome.error) for outcome in outcomes],
            [outcome.spent for outcome in outcomes],
            used([outcome.not_before for outcome in outcomes]),
            used([outcome.options for outcome in outcomes]),
            used(self._documents(outcome.arguments for outcome in outcomes)),
            used([outcome.slows or None for outcome in outcomes]),
        )
        _add(settled, *rows[:1])
        return {row["id"]: row["is_doomed"] for row in rows}

    async def fail(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        outcomes: Sequence[Ended],
        settled: Settled | None = None,
    ) -> set[UUID]:
        """End jobs that did not succeed; return the ids of those that were ended."""
        rows = await connection.fetch(
            self._sql["fail"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            [outcome.status for outcome in outcomes],
            worker,
            [outcome.reason for outcome in outcomes],
            [self._error_json(outcome.error) for outcome in outcomes],
        )
        _add(settled, *rows[:1])
        return {row[0] for row in rows}

    async def fail_broken(
        self,
        connection: Connection,
        job_id: UUID,
        reason: str,
        error: JobError,
        worker: str,
        lease_id: UUID | None,
    ) -> bool:
        """Fail a job at which a statement fails, wherever it waits, or runs under *lease_id*."""
        failed = await connection.fetchval(
            self._sql["fail_broken"], job_id, reason, self._error_json(error), worker, lease_id
        )
        return failed is not None

    async def release(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        ids: Sequence[UUID],
        settled: Settled | None = None,
    ) -> dict[UUID, int | None]:
        """Return jobs to their queues without counting the attempt.

        Returns their lanes by job id, or None for a job that was cancelled instead.
        """
        rows = await connection.fetch(self._sql["release"], lease_id, ids, worker)
        _add(settled, *rows[:1])
        return {row["id"]: None if row["is_cancelled"] else row["lane"] for row in rows}

    async def find_often_released(self, connection: Connection, ids: Sequence[UUID], times: int) -> set[UUID]:
        """Return which of these jobs were released by each of their last so many attempts."""
        return {row["id"] for row in await connection.fetch(self._sql["find_often_released"], ids, times)}

    async def find_undecodable(self, connection: Connection, ids: Sequence[UUID]) -> dict[UUID, float]:
        """Return for how many seconds these jobs have been met as ones that no worker could decode."""
        rows = await connection.fetch(self._sql["find_undecodable"], ids)
        return {row["id"]: row["waited"] for row in rows}

    async def release_unknown(
        self, connection: Connection, lease_id: UUID, known: Iterable[UUID]
    ) -> list[UUID]:
        """Return the jobs of a locked lease, except those *known* to its worker, to their queues.

        The attempt does not count. Returns the ids of these jobs.
        """
        return [row[0] for row in await connection.fetch(self._sql["release_unknown"], lease_id, list(known))]

    async def put_aside(
        self,
        connection: Connection,
        lease_id: UUID,
        outcomes: Sequence[PutAside],
        settled: Settled | None = None,
    ) -> dict[UUID, int]:
        """Return jobs of unknown or paused tasks to their tasks' own lanes; return these lanes by job id."""
        rows = await connection.fetch(
            self._sql["put_aside"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            [outcome.task for outcome in outcomes],
        )
        if settled is not None and rows and rows[0]["notes"]:
            settled.notes += rows[0]["notes"]
        return {row["id"]: row["lane"] for row in rows}

    async def hold_attempt(self, connection: Connection, job_id: UUID, lease_id: UUID) -> bool:
        """Return whether a job is running under a lease."""
        return bool(await connection.fetchval(self._sql["hold_attempt"], job_id, lease_id))

    async def read_steps(self, connection: Connection, job_id: UUID) -> dict[str, StoredStep]:
        """Return the stored results of a job's steps by name."""
        return {
            name: StoredStep(result, Place(number, kind, call))
            for name, result, number, kind, call in await connection.fetch(self._sql["read_steps"], job_id)
        }

    async def record_step(
        self,
        connection: Connection,
        job_id: UUID,
        lease_id: UUID,
        name: str,
        result: str,
        place: Place = NO_PLACE,
    ) -> str | None:
        """Store a step's result; return the one that was stored first, or None if the lease was lost."""
        stored: str | None = await connection.fetchval(
            self._sql["record_step"], job_id, lease_id, name, self._document(result), *place
        )
        return stored

    async def report_progress(
        self, connection: Connection, reports: Sequence[tuple[UUID, UUID, str]]
    ) -> None:
        """Store the progress of jobs, given as (lease id, job id, JSON)."""
        if self.encoding is not None:
            reports = [(lease_id, job_id, self._document(report)) for lease_id, job_id, report in reports]
        await connection.execute(self._sql["report_progress"], *zip(*reports, strict=True))

    def _error_json(self, error: JobError | None) -> str | None:
        if error is None:
            return None
        document = {"type": error.type, "message": error.message, "traceback": error.traceback}
        if self.encoding is not None:
            # Read by statements as text, not as JSON alone: an escape would not help.
            document = {key: text and self.encoding.fit(text) for key, text in document.items()}
        return json.dumps(document)


def _add(settled: Settled | None, *rows: Record) -> None:
    """Add what the rows of a statement say, all of them the same, of jobs that wait for others."""
    if settled is not None:
        for row in rows:
            settled.add(row["settled"])
