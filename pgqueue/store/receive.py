"""Statements by which consumers receive jobs and end them. Each write that ends one carries its receipt."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from pgqueue.model.outcomes import Ended, Released, Retried, Succeeded
from pgqueue.store.base import interval
from pgqueue.store.end import EndStatements
from pgqueue.store.values import Claimed, Settled

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

EndedReceipt = Succeeded | Retried | Ended | Released
"""How a received job can end."""


class Received(NamedTuple):
    """A received job, and under which receipt it is running."""

    claimed: Claimed
    """`lane` and `position` are not known: 0."""
    receipt: UUID
    priority: int
    enqueued_at: datetime
    held_until: datetime
    task_options: str | None
    """Those that operators have set for its task, as JSON."""


class ReceiveStatements(EndStatements):
    """Statements of consumers."""

    async def receive(
        self,
        connection: Connection,
        queue: str,
        limit: int,
        lease: float,
        receiver: str,
        version: str | None,
        max_losses: str,
        call: UUID,
        *,
        again: bool = False,
    ) -> list[Received]:
        """Receive up to *limit* pending jobs of *queue*, each for *lease* seconds.

        *again*: the answer of this *call*, a random id, may have been lost; return what it has received.
        """
        rows = await connection.fetch(
            self._sql["receive"],
            queue,
            limit,
            timedelta(seconds=lease),
            receiver,
            version,
            max_losses,
            call,
            again,
        )
        return [
            Received(
                Claimed(
                    row["id"],
                    0,
                    0,
                    row["attempt"],
                    row["receive_count"] - row["attempt"],
                    row["task"],
                    row["arguments"],
                    row["options"],
                    row["headers"],
                    row["key"],
                    expired=None,
                    waited=row["waited"],
                    age=row["age"],
                    tags=row["tags"],
                    created=row["enqueued_at"].timestamp(),
                ),
                row["receipt"],
                row["priority"],
                row["enqueued_at"],
                row["held_until"],
                row["task_options"],
            )
            for row in rows
        ]

    async def end_receipt(
        self,
        connection: Connection,
        receipt: UUID,
        outcome: EndedReceipt,
        settled: Settled,
        *,
        hand_over: bool,
    ) -> str | None:
        """End a received job; return the status that it has now, or None if the receipt was lost.

        *hand_over*: the transaction ends with this.
        """
        status: str
        result = delay = not_before = reason = error = options = arguments = None
        spent = True
        match outcome:
            case Succeeded():
                status, result = "succeeded", outcome.result
            case Retried():
                status, delay, not_before = "scheduled", interval(outcome.delay), outcome.not_before
                reason, error, spent = outcome.reason, outcome.error, outcome.spent
                options, arguments = outcome.options, outcome.arguments
            case Ended():
                status, reason, error = "failed", outcome.reason, outcome.error
            case Released():
                status, reason = "pending", "released"
        row = await connection.fetchrow(
            self._sql["end_receipt"],
            outcome.job_id,
            receipt,
            status,
            None if result is None else self._document(result),
            delay,
            not_before,
            reason,
            self._error_json(error),
            spent,
            hand_over,
            options,
            None if arguments is None else self._document(arguments),
        )
        assert row is not None
        settled.add(row["settled"])
        answer: str | None = row["answer"]
        return answer

    async def extend_receipt(
        self, connection: Connection, job_id: UUID, receipt: UUID, lease: float
    ) -> tuple[str | None, datetime]:
        """Hold a received job for *lease* seconds from now on; return what came of it, and until when."""
        row = await connection.fetchrow(
            self._sql["extend_receipt"], job_id, receipt, timedelta(seconds=lease)
        )
        assert row is not None
        return row["answer"], row["held_until"]

    async def find_queue_lanes(self, connection: Connection, queue: str) -> set[int]:
        """Return the lanes of a queue: the first thousand."""
        return {row["id"] for row in await connection.fetch(self._sql["find_queue_lanes"], queue)}
