"""Statements of bulk operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.model.bulk import BulkProgress, BulkVerb
from pgqueue.model.filters import JobFilter
from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection


class BulkStatements(Statements):
    """Bulk operations: begun, carried on, and ended."""

    async def begin_bulk(
        self,
        connection: Connection,
        bulk_id: UUID,
        verb: BulkVerb,
        chosen: JobFilter | None,
        job_ids: Sequence[UUID] | None,
        *,
        expected: int | None,
        reason: str | None,
        actor: str | None,
    ) -> bool:
        """Begin a bulk operation; False: it has been begun before."""
        document = None if chosen is None else chosen.to_json()
        return bool(
            await connection.fetchval(
                self._sql["begin_bulk"], bulk_id, verb, document, job_ids, expected, reason, actor
            )
        )

    async def read_bulk(self, connection: Connection, bulk_id: UUID) -> BulkProgress | None:
        """Return how far a bulk operation has come; None: none has this id."""
        row = await connection.fetchrow(self._sql["read_bulk"], bulk_id)
        return None if row is None else _progress(row)

    async def find_bulk(self, connection: Connection) -> UUID | None:
        """Return the bulk operation that is carried on next."""
        found: UUID | None = await connection.fetchval(self._sql["find_bulk"])
        return found

    async def hold_bulk(self, connection: Connection, bulk_id: UUID | None = None) -> BulkProgress | None:
        """Lock *bulk_id*, or the one that is carried on next; None: there is none, or others are at it.

        Raises ValueError if it cannot be read.
        """
        row = await connection.fetchrow(self._sql["hold_bulk"], bulk_id)
        return None if row is None else _progress(row)

    async def note_bulk(
        self,
        connection: Connection,
        bulk_id: UUID,
        reached: UUID | None,
        *,
        found: int,
        done: int,
        is_done: bool,
    ) -> None:
        """Note how far a bulk operation has come."""
        await connection.execute(self._sql["note_bulk"], bulk_id, reached, found, done, is_done)

    async def cancel_bulk(self, connection: Connection, bulk_id: UUID) -> bool:
        """Stop a bulk operation; False: it had already ended."""
        return bool(await connection.fetchval(self._sql["cancel_bulk"], bulk_id))

    async def discard_jobs(
        self, connection: Connection, ids: Sequence[UUID], reason: str | None, actor: str | None
    ) -> int:
        """Remove those of the jobs that are dead letters from these; return how many."""
        count: int = await connection.fetchval(self._sql["discard_jobs"], ids, reason, actor)
        return count


def _progress(row: Record) -> BulkProgress:
    values = dict(row.items())
    document = values.pop("filter")
    return BulkProgress(**values, chosen=None if document is None else JobFilter.from_json(document))
