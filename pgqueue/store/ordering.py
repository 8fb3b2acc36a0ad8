"""Statements on ordered groups, and on the keys that stand still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue.model.jobs import JobStatus
from pgqueue.model.ordering import OrderedGroup, StoppedKey
from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class OrderingStatements(Statements):
    """Statements on ordered groups, whose names begin with "order/" in the database."""

    async def list_ordered(self, connection: Connection, most: int) -> list[OrderedGroup]:
        """Return all groups, counting to *most*."""
        rows = await connection.fetch(self._sql["list_ordered"], most)
        return [OrderedGroup(**dict(row.items())) for row in rows]

    async def list_stopped(
        self, connection: Connection, rule: str | None, limit: int, after: tuple[str, str] | None, most: int
    ) -> list[StoppedKey]:
        """Return up to *limit* keys that stand still, of group *rule*, behind a group and key."""
        rows = await connection.fetch(self._sql["list_stopped"], rule, limit, *(after or (None, None)), most)
        return [
            StoppedKey(
                **{**dict(row.items()), "status": None if row["status"] is None else JobStatus(row["status"])}
            )
            for row in rows
        ]

    async def resume_key(
        self, connection: Connection, rule: str, key: str, *, reason: str | None, actor: str | None
    ) -> int:
        """Let a key go on; return how many jobs stopped it."""
        resumed: int = await connection.fetchval(self._sql["resume_key"], rule, key, reason, actor)
        return resumed

    async def set_ordered(self, connection: Connection, rule: str, on_dead: str, actor: str | None) -> None:
        """Say what becomes of jobs behind one that fails from now on."""
        await connection.execute(self._sql["set_ordered"], rule, on_dead, actor)
