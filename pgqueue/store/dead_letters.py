"""Dead letters: listed, grouped, redriven, discarded."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from json import dumps
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.events.kinds import JobMoved
from pgqueue.model.dead_letters import (
    MAX_COUNT,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroup,
    RedriveProgress,
)
from pgqueue.model.jobs import Action, JobStatus
from pgqueue.store.base import Statements
from pgqueue.store.values import Carried

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class DeadLetterStatements(Statements):
    """Dead letters."""

    async def list_letters(
        self,
        connection: Connection,
        wanted: DeadLetterFilter,
        behind: tuple[datetime, UUID] | None,
        limit: int,
        *,
        owner: str | None = None,
    ) -> list[DeadLetter]:
        """Return dead letters, of *owner* or of all, newest first, older than *behind*."""
        at, job_id = behind or (None, None)
        if owner is None:
            rows = await connection.fetch(self._sql["list_dead_letters"], wanted.to_json(), at, job_id, limit)
        else:
            sql = self._sql["list_owned_letters"]
            rows = await connection.fetch(sql, wanted.to_json(), at, job_id, limit, owner)
        return [DeadLetter(*row) for row in rows]

    async def read_letters(self, connection: Connection, ids: Iterable[UUID]) -> list[DeadLetter]:
        """Return the dead letters with these *ids* that exist."""
        return [DeadLetter(*row) for row in await connection.fetch(self._sql["read_dead_letters"], list(ids))]

    async def read_oldest_age(self, connection: Connection) -> float | None:
        """Return the age of the oldest dead letter, in seconds; None: there are none."""
        age: float | None = await connection.fetchval(self._sql["read_oldest_dead_letter"])
        return age

    async def read_payload(self, connection: Connection, job_id: UUID) -> str | None:
        """Return a job's arguments as they are stored; None: there is no such job."""
        payload: str | None = await connection.fetchval(self._sql["read_payload"], job_id)
        return payload

    async def read_actions(self, connection: Connection, job_id: UUID) -> list[Action]:
        """Return what operators did to a job, oldest first."""
        return [Action(*row) for row in await connection.fetch(self._sql["read_actions"], job_id)]

    async def group_letters(
        self,
        connection: Connection,
        *,
        task: str | None,
        reason: str | None,
        error_type: str | None,
        limit: int,
        cap: int,
        most: int,
    ) -> list[DeadLetterGroup]:
        """Return groups, the latest first; at most *most* fingerprints are read."""
        rows = await connection.fetch(
            self._sql["group_dead_letters"], task, reason, error_type, limit, cap, most
        )
        return [DeadLetterGroup(DeadLetter(*row[:11]), row["first_at"], row["count"]) for row in rows]

    async def redrive(
        self,
        connection: Connection,
        job_id: UUID,
        *,
        queue: str | None,
        arguments: str | None,
        gates: Iterable[tuple[str, str]] | None,
        reset_attempts: bool,
        reason: str | None,
        actor: str | None,
    ) -> None:
        """Make a failed job pending again; *arguments* are JSON. *gates*: what it passes; None: unknown."""
        await connection.execute(
            self._sql["redrive"],
            job_id,
            queue,
            arguments and self._document(arguments),
            reset_attempts,
            reason,
            actor,
            None if gates is None else dumps(list(gates)),
        )

    async def discard(
        self, connection: Connection, job_id: UUID, *, reason: str | None, actor: str | None
    ) -> bool:
        """Remove a failed job from the dead letters; False: it was removed already."""
        return bool(await connection.fetchval(self._sql["discard"], job_id, reason, actor))

    async def reprioritise(
        self, connection: Connection, job_id: UUID, priority: int, *, reason: str | None, actor: str | None
    ) -> None:
        """Change the priority of a waiting job."""
        await connection.execute(self._sql["reprioritise"], job_id, priority, reason, actor)

    async def discard_some(
        self,
        connection: Connection,
        wanted: DeadLetterFilter,
        limit: int,
        *,
        reason: str | None,
        actor: str | None,
    ) -> int:
        """Discard up to *limit* dead letters; return how many."""
        count = await connection.fetchval(self._sql["discard_some"], wanted.to_json(), limit, reason, actor)
        assert isinstance(count, int)
        return count

    async def begin_redrive(
        self,
        connection: Connection,
        redrive_id: UUID,
        wanted: DeadLetterFilter,
        *,
        rate: float,
        queue: str | None,
        reset_attempts: bool,
        reason: str | None,
        actor: str | None,
    ) -> None:
        """Begin a mass redrive."""
        await connection.execute(
            self._sql["begin_redrive"],
            redrive_id,
            wanted.to_json(),
            rate,
            queue,
            reset_attempts,
            reason,
            actor,
            MAX_COUNT,
        )

    async def find_redriving(self, connection: Connection) -> UUID | None:
        """Return the mass redrive that is carried on next."""
        found: UUID | None = await connection.fetchval(self._sql["find_redriving"])
        return found

    async def skip_redriven(self, connection: Connection, redrive_id: UUID) -> UUID | None:
        """Have a mass redrive leave its next dead letter out; return its job, or None if it has none."""
        skipped: UUID | None = await connection.fetchval(self._sql["skip_redriven"], redrive_id)
        return skipped

    async def carry_redrive(self, connection: Connection, limit: int) -> Carried | None:
        """Continue one mass redrive; None: nothing is due."""
        row = await connection.fetchrow(self._sql["carry_redrive"], limit)
        return None if row is None else Carried(row["lanes"] or (), row["position"])

    async def find_redriven(
        self, connection: Connection, carried: Carried
    ) -> tuple[list[JobMoved], str | None]:
        """Return the jobs that *carried* has made pending in the same transaction, and the reason given."""
        rows = await connection.fetch(self._sql["find_redriven"], *carried)
        jobs = [
            JobMoved(row["id"], row["task"], row["queue"], None, JobStatus.PENDING, row["attempt"])
            for row in rows
        ]
        return jobs, rows[0]["reason"] if rows else None

    async def read_redrive(self, connection: Connection, redrive_id: UUID) -> RedriveProgress | None:
        """Return the progress of a mass redrive; None: none has this id."""
        row = await connection.fetchrow(self._sql["read_redrive"], redrive_id)
        return None if row is None else RedriveProgress(**row)

    async def cancel_redrive(self, connection: Connection, redrive_id: UUID) -> bool:
        """Stop a mass redrive; False: it had already ended."""
        return await connection.fetchval(self._sql["cancel_redrive"], redrive_id) is not None
