"""Statements on ordered groups, and on the keys that stand still."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgqueue.model.jobs import JobStatus
from pgqueue.model.limits import MOST_OF_KEY
from pgqueue.model.ordering import OrderedGroup, StoppedKey
from pgqueue.store import limits
from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class OrderingStatements(Statements):
    """Statements on ordered groups, whose names begin with "order/" in the database."""

    async def list_ordered(self, connection: Connection) -> list[OrderedGroup]:
        """Return all groups. Where too many jobs wait to count them, their number is estimated."""
        rows = await connection.fetch(self._sql["list_ordered"], limits.MOST_KEYS, limits.MOST_JOBS)
        groups = {f"order/{row['name']}": OrderedGroup(**dict(row.items())) for row in rows}
        if inexact := [rule for rule, each in groups.items() if not each.is_exact]:
            for row in await connection.fetch(self._sql["estimate_limits"], limits.SAMPLE_BLOCKS, inexact):
                group = groups[row["name"]]
                groups[row["name"]] = replace(group, waiting=max(group.waiting, row["waiting"]))
        return list(groups.values())

    async def list_stopped(
        self, connection: Connection, rule: str | None, limit: int, after: tuple[str, str] | None
    ) -> list[StoppedKey]:
        """Return up to *limit* keys that stand still, of group *rule*, behind a group and key."""
        rows = await connection.fetch(
            self._sql["list_stopped"], rule, limit, *(after or (None, None)), MOST_OF_KEY
        )
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
