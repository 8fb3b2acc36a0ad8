"""Statements on jobs that wait for a time, an event or other jobs, and on the events that they are sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Restarted, Suspended
from pgqueue.store.base import Statements, interval
from pgqueue.store.values import Place, Promoted

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class Wait(NamedTuple):
    """What a wait has come to. `outcome`: a JSON list of an event, or an empty one; None: it goes on."""

    is_held: bool
    outcome: str | None
    wake_at: datetime | None
    wakes_in: float | None


class Sent(NamedTuple):
    """What became of an event: 'sent', 'duplicate', 'unknown', or the status in which its job has ended."""

    answer: str
    lane: int | None
    """In which its job is pending now; None: it did not wait for this."""


class DurableStatements(Statements):
    """Statements on jobs that wait, and on events."""

    async def suspend(
        self, connection: Connection, lease_id: UUID, outcomes: Sequence[Suspended]
    ) -> tuple[list[UUID], list[int], bool]:
        """Have running jobs wait; return those that this lease held, and lanes with new ready jobs.

        Also whether any has limits, for which others may be let through now.
        """
        row = await connection.fetchrow(
            self._sql["suspend"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            [outcome.wake_at for outcome in outcomes],
            [outcome.event for outcome in outcomes],
            json.dumps([list(map(str, outcome.nodes)) for outcome in outcomes]),
        )
        assert row is not None
        return row["suspended"], row["lanes"], row["are_limited"]

    async def restart(
        self, connection: Connection, lease_id: UUID, outcomes: Sequence[Restarted]
    ) -> tuple[list[UUID], list[int], bool]:
        """Have running jobs begin anew; return those that this lease held, and their lanes.

        Also, as `suspend` does, that they give nothing back.
        """
        row = await connection.fetchrow(
            self._sql["restart"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            self._document(f"[{','.join(outcome.arguments for outcome in outcomes)}]"),
        )
        assert row is not None
        return row["restarted"], row["lanes"], False

    async def forget_steps(self, connection: Connection, job_id: UUID, step: str) -> int | None:
        """Have an ended job forget a step and those after it; return how many. None: it has not ended."""
        forgotten: int | None = await connection.fetchval(self._sql["forget_steps"], job_id, step)
        return forgotten

    async def fork(self, connection: Connection, job_id: UUID, step: str, new_id: UUID) -> int | None:
        """Make a job of an ended one with the steps before *step*; return its lane.

        0: there is no such step. None: the job has not ended, or there is none.
        """
        lane: int | None = await connection.fetchval(self._sql["fork"], job_id, step, new_id)
        return lane

    async def settle_wait(
        self,
        connection: Connection,
        job_id: UUID,
        lease_id: UUID,
        step: str,
        event: str | None,
        timeout: float | None,  # noqa: ASYNC109  # the job's, and not this call's
        place: Place,
    ) -> Wait:
        """Return what a wait of a running job has come to, stored as a step if it is over."""
        row = await connection.fetchrow(
            self._sql["settle_wait"], job_id, lease_id, step, event, interval(timeout), *place
        )
        assert row is not None
        return Wait._make(row)

    async def signal(
        self,
        connection: Connection,
        job_id: UUID,
        name: str,
        payload: str,
        dedup_id: str | None,
        *,
        is_deferred: bool,
    ) -> Sent:
        """Send a job an event. *is_deferred*: in a transaction that goes on, so that no record is locked."""
        row = await connection.fetchrow(
            self._sql["signal"],
            str(job_id),
            name,
            self._document(payload),
            dedup_id,
            "true" if is_deferred else "false",
        )
        assert row is not None
        answer, lane = row
        return Sent(answer, None if lane is None else int(lane))

    async def wake(
        self, connection: Connection, limit: int, without: Iterable[UUID] = (), *, names_jobs: bool = False
    ) -> Promoted:
        """Make jobs except *without* pending whose time or event has come. With *names_jobs*, list them."""
        row = await connection.fetchrow(self._sql["wake"], limit, names_jobs, list(without))
        assert row is not None
        jobs = [
            JobMoved(UUID(job_id), task, queue, JobStatus.BLOCKED, JobStatus.PENDING, attempt)
            for job_id, task, queue, attempt in json.loads(row["jobs"] or "[]")
        ]
        return Promoted(row["woken"], row["lanes"], row["next_in"], jobs)
